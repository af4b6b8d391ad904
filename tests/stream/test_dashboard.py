"""The page's parts: what is held, picked and found alike; who may see it; and that hostile packets stay text."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nightfall import annotated, as_read

from space2vec.schemas.alert import Alert, Plane
from space2vec.schemas.annotation import Annotation
from space2vec.schemas.reader import PacketReader
from space2vec.stream.dashboard import views
from space2vec.stream.dashboard.entries import Entry, UnreadableError, entry_of, record_of, rejection_of
from space2vec.stream.dashboard.ring import Ring, Wanted, neighbours
from space2vec.stream.dashboard.store import BINS, STEP_S, Rates, Store
from space2vec.stream.protocols import Message, OutputRecord, Partition
from space2vec.workers.bundle import load_bundle

TOKEN = "a token of twenty-four"
PAGE = Path(__file__).parents[2] / "stream" / "dashboard" / "page"


def entry(number: int = 0, **changes: Any) -> Entry:
    made = Entry(
        source="in/0/0", output=f"out/0/{number}", written_ms=1000 * number, latency_s=0.5, alert_id=number,
        object_id=f"ZTF26{number:07d}", survey="ztf", ra=1.0, dec=2.0, mjd_tai=61300.0, negative=False, score=0.5,
        logit=0.0, spread=None, classes={"real": 0.5, "bogus": 0.5}, kinds={}, flags=(), classifier="core 1", sha256="ab",
        embedding=np.array([1, 0], np.float32), planes={}, truth={}, value=bytes(1000),
    )  # fmt: skip
    return replace(made, **changes)


# -- the ring -----------------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 5000), max_size=60),
    st.integers(1, 20),
    st.integers(5_000, 60_000),
)
def test_the_ring_is_bounded_in_number_and_bytes(sizes: list[int], most: int, most_bytes: int) -> None:
    ring = Ring(most, most_bytes)
    for number, size in enumerate(sizes):
        ring.add(entry(number, value=bytes(size)))
        held = ring.newest()
        assert len(held) <= most
        assert ring.size_bytes == sum(one.size_bytes for _, one in held) <= most_bytes
    numbers = [number for number, _ in ring.newest()]
    assert numbers == list(range(len(sizes) - 1, len(sizes) - 1 - len(numbers), -1))
    for number in range(len(sizes)):
        found = ring.get(number)
        assert (found is not None and found.alert_id == number) == (number in numbers)
    assert ring.get(-1) is None
    assert ring.get(len(sizes)) is None


def test_one_alert_larger_than_the_ring_is_not_held() -> None:
    ring = Ring(10, 10_000)
    ring.add(entry(value=bytes(20_000)))
    assert ring.newest() == []
    assert ring.size_bytes == 0


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [3, 2, 1, 0]),
        ({"class": "real"}, [3, 1]),
        ({"class": "sn"}, [3]),
        ({"survey": "lsst"}, [2]),
        ({"flag": "nan"}, [2, 1]),
        ({"flag": "-"}, [3, 0]),
        ({"flag": "*"}, [2, 1]),
        ({"low": "0.5"}, [3, 1]),
        ({"low": "0.2", "high": "0.6"}, [1, 0]),
        ({"text": "zTf26ab"}, [1]),
        ({"text": "9007199254740993"}, [0]),
        ({"order": "best"}, [3, 1, 0, 2]),
        ({"order": "worst", "class": "bogus"}, [2, 0]),
        ({"class": "real", "flag": "nan", "low": "0.9"}, []),
    ],
)
def test_the_filter(query: Mapping[str, str], expected: list[int]) -> None:
    def scored(score: float) -> dict[str, Any]:
        return {"score": score, "logit": score - 0.5, "classes": {"real": score, "bogus": 1 - score}}

    alerts = [
        (3, entry(3, kinds={"agn": 0.2, "sn": 0.8}, **scored(0.9))),
        (2, entry(2, survey="lsst", flags=("truncated", "nan"), **scored(0.1))),
        (1, entry(1, object_id="ZTF26abcdefg", flags=("nan",), **scored(0.6))),
        (0, entry(0, alert_id=9007199254740993, object_id=None, **scored(0.3))),
    ]
    assert [number for number, _ in Wanted.parse(query).pick(alerts)] == expected


@pytest.mark.parametrize("query", [{"low": "high"}, {"high": "nan"}, {"order": "sideways"}])
def test_a_wish_that_makes_no_sense_is_refused(query: Mapping[str, str]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever
        Wanted.parse(query)


@given(st.integers(0, 1000))
def test_neighbours_are_those_of_the_highest_cosine(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(30, 8)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    alerts = [(number, entry(number, embedding=unit[number])) for number in range(30)]
    found = neighbours(alerts[4][1], alerts, 5)
    cosine = unit.astype(float) @ unit[4].astype(float)
    best = [n for n in np.argsort(-cosine) if n != 4][:5]
    assert [number for _, number, _ in found] == best
    assert [similarity for similarity, _, _ in found] == pytest.approx(cosine[best], abs=1e-5)


def test_only_embeddings_of_the_same_model_are_compared() -> None:
    one, nothing = np.array([1, 0], np.float32), np.empty(0, np.float32)
    alerts = [
        (0, entry(0, embedding=one)),
        (1, entry(1, embedding=one, sha256="cd")),
        (2, entry(2, embedding=np.array([1, 0, 0], np.float32))),
        (3, entry(3, embedding=nothing)),
        (4, entry(4, embedding=-one)),
    ]
    assert [(s, n) for s, n, _ in neighbours(alerts[0][1], alerts, 9)] == [(-1.0, 4)]
    assert neighbours(alerts[3][1], alerts, 9) == []


# -- what is read -------------------------------------------------------------------------------------------------


def test_an_annotated_alert_is_read_whole(night: list[OutputRecord], reader: PacketReader) -> None:
    records = [record for record in night if record.topic == "ztf-annotated"]
    message = as_read(records[:1])[0]
    found = entry_of(message, reader)
    assert found.survey == "ztf"
    assert found.object_id == (records[0].key or b"").decode()
    assert found.source == f"ztf-alerts/{records[0].source.partition.number}/{records[0].source.offset}"
    assert found.latency_s == pytest.approx(
        ((message.timestamp_ms or 0) - int(dict(message.headers)["source_timestamp"] or 0)) / 1000
    )
    assert found.score == pytest.approx(1 / (1 + np.exp(-found.logit)), abs=1e-6)
    assert np.linalg.norm(found.embedding) == pytest.approx(1, abs=1e-5)
    assert found.label == ("real" if found.score > 0.5 else "bogus")
    assert "real" in found.truth


def test_of_several_annotations_the_first_that_the_headers_name_counts(
    night: list[OutputRecord], reader: PacketReader
) -> None:
    record = night[0]
    (alert,) = reader.read(record.value or b"")
    assert isinstance(alert, Alert)
    other = Annotation(
        "other", "2", "ff", 0.25, -1.1, 0.5, {"real": 0.25, "bogus": 0.75}, ("nan",), (), datetime.now(UTC)
    )
    twice = annotated(record.source, alert, other)
    message = as_read([twice])[0]
    assert (entry_of(message, reader).classifier, entry_of(message, reader).spread) == ("other 2", 0.5)
    renamed = replace(message, headers=tuple(h for h in record.headers if h[0] == "sha256"))
    assert entry_of(renamed, reader).classifier == f"core {load_bundle('core').manifest.version}"
    assert entry_of(renamed, reader).spread is None
    assert entry_of(replace(message, headers=()), reader).classifier == "other 2"


def test_kinds_of_what_is_real_and_causes_of_what_is_not(
    night: list[OutputRecord], reader: PacketReader
) -> None:
    record = night[0]
    (alert,) = reader.read(record.value or b"")
    assert isinstance(alert, Alert)
    for logit, kind in ((2.0, "sn"), (-2.0, "glint")):
        said = Annotation(
            "other", "2", "ff", 0.5, logit, None, {"real": 0.5, "bogus": 0.5}, (), (), datetime.now(UTC),
            kinds={"agn": 0.25, "sn": 0.75}, causes={"glint": 0.5, "spike": 0.125, "trail": 0.375},
        )  # fmt: skip
        assert entry_of(as_read([annotated(record.source, alert, said)])[0], reader).kind == kind
    silent = replace(said, kinds={}, causes={})
    assert entry_of(as_read([annotated(record.source, alert, silent)])[0], reader).kind == ""


def container(schema: dict[str, Any], record: dict[str, Any]) -> bytes:
    out = BytesIO()
    fastavro.writer(out, schema, [record])
    return out.getvalue()


def test_what_is_no_annotated_alert_is_refused(night: list[OutputRecord], reader: PacketReader) -> None:
    plain = night[0].source.value
    for value in (b"", b"junk", plain, (night[0].value or b"")[:-40]):
        with pytest.raises(UnreadableError):
            entry_of(Message(Partition("ztf-annotated", 0), 0, value), reader)


def test_fields_of_our_names_that_are_not_ours_are_refused(
    night: list[OutputRecord], reader: PacketReader
) -> None:
    names = ["classifier", "version", "sha256", "score", "logit", "classifications", "flags", "embedding"]
    record = next(r for r in night if r.topic == "ztf-annotated")
    (whole,) = list(fastavro.reader(BytesIO(record.value or b"")))
    schema = fastavro.reader(BytesIO(record.value or b"")).writer_schema
    fields = [{"name": name, "type": "string"} for name in names]
    fake = {"type": "array", "items": {"type": "record", "name": "fake", "fields": fields}}
    schema["fields"][-1] = {"name": "annotations", "type": fake}
    schema = {k: v for k, v in schema.items() if not k.startswith("__")}
    whole["annotations"] = [dict.fromkeys(names, "x")]
    with pytest.raises(UnreadableError):
        entry_of(Message(Partition("ztf-annotated", 0), 0, container(schema, whole)), reader)


def test_a_record_that_could_fill_the_memory_is_not_built(
    night: list[OutputRecord], reader: PacketReader
) -> None:
    (alert,) = reader.read(night[0].value or b"")
    assert isinstance(alert, Alert)
    costly = replace(alert.packet.writer, cost=alert.packet.writer.cost._replace(base=1e12))
    with pytest.raises(UnreadableError, match="may take more than"):
        record_of(replace(alert.packet, writer=costly))


def test_a_dead_letter_tells_why() -> None:
    headers = (
        ("reason", b"bad_record"), ("detail", b"x" * 900 + b"\xff"), ("survey", None),
        ("source_topic", b"night"), ("source_partition", b"3"), ("source_offset", b"17"),
    )  # fmt: skip
    letter = rejection_of(Message(Partition("ztf-rejected", 1), 4, b"12345", None, 99, headers))
    assert (letter.reason, letter.source, letter.output) == ("bad_record", "night/3/17", "ztf-rejected/1/4")
    assert len(letter.detail) == 300
    assert (letter.survey, letter.size_bytes, letter.written_ms) == ("", 5, 99)


def test_rates_come_from_the_ledger() -> None:
    now = [1_800_000_002.0]
    rates = Rates(lambda: now[0])

    def line(at: float, **counts: Any) -> dict[str, Any]:
        blank = {"scored": 0, "degraded": 0, "rejected": {}}
        return blank | counts | {"at": datetime.fromtimestamp(at, UTC).isoformat()}

    rates.add(line(now[0] - 9, scored=10, degraded=3, rejected={"bad_record": 2}))
    rates.add(line(now[0] - 9, scored=5))
    rates.add(line(now[0] - 100_000, scored=1000))
    assert len(rates.series()) == BINS
    assert rates.series()[-2:] == [20 / STEP_S, 0.0]
    assert rates.totals() == {"scored": 15, "degraded": 3, "rejected": 2}
    now[0] += 10_000
    rates.add(line(now[0]))
    assert rates.totals() == {"scored": 0, "degraded": 0, "rejected": 0}
    assert len(rates._bins) == 1
    for broken in ({}, line(now[0], scored="many"), line(now[0], rejected={"x": None}) | {"at": "late"}):
        with pytest.raises((KeyError, TypeError, ValueError)):
            rates.add(broken)


# -- what is shown ------------------------------------------------------------------------------------------------


def test_the_state_adds_up(store: Store) -> None:
    state = views.state(store)
    assert state["held"] == 60 == sum(state["scores"]) == sum(state["surveys"].values())
    assert state["rejected"] == 7
    assert state["totals"]["scored"] + state["totals"]["degraded"] == 60
    assert state["lag"]["now"] == state["lag"]["series"][-1]
    assert state["latency"]["p50"] < state["latency"]["p99"]
    json.dumps(state, allow_nan=False)


def test_a_lag_that_is_no_longer_read_is_unknown(store: Store) -> None:
    store.lags.append((time.time() - 1000, {}))
    assert views.state(store)["lag"]["now"] is None


def test_an_empty_store_has_a_state() -> None:
    state = views.state(Store(10, 1000))
    assert (state["held"], state["lag"]["now"], state["latency"]["p50"]) == (0, None, None)


def test_one_alert_in_full(store: Store, reader: PacketReader) -> None:
    number, first = store.ring.newest()[0]
    found = views.detail(store, number, reader)
    assert found is not None
    assert found["alert_id"] == str(first.alert_id)
    assert len(found["neighbours"]) == 8
    assert number not in [near["number"] for near in found["neighbours"]]
    fields = dict(found["fields"])
    assert not any(name.startswith("annotations") for name in fields)
    assert any("bytes" in (value or "") for value in fields.values())
    (annotation,) = found["annotations"]
    assert dict(annotation)["classifier"] == "core"
    assert set(found["shapes"]) == set(Plane)
    json.dumps(found, allow_nan=False)
    assert views.detail(store, 10**9, reader) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=40,
    )
)
def test_any_record_can_be_shown(value: Any) -> None:
    rows = views._bounded({"field": value})
    json.dumps(rows, allow_nan=False)
    assert all(text is None or len(text) <= 300 for _, text in rows)


def test_a_record_of_many_fields_is_cut() -> None:
    assert len(views._bounded({str(i): i for i in range(5000)})) == 1501


def test_numbers_are_as_long_as_they_are_precise() -> None:
    assert views._text(float(np.float32(0.3))) == "0.3"
    assert views._text(2461300.60123456) == "2461300.60123456"
    assert views._text(float("nan")) == "nan"
    assert views._text(2**62 + 1) == str(2**62 + 1)
