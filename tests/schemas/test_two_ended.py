"""The short cut gives what the full reading gives, or steps aside."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from space2vec.schemas.alert import Alert
from space2vec.schemas.avro_types import SchemaTree
from space2vec.schemas.errors import PacketError, Reason
from space2vec.schemas.packet import Packet, WriterSchema
from space2vec.schemas.profiles import Profiles
from space2vec.schemas.reader import PacketReader
from space2vec.schemas.regular import RegularReader
from space2vec.schemas.two_ended import TwoEndedReader
from space2vec.schemas.writer_schema import writer_schema
from space2vec.training.packet_schemas import LSST_VERSIONS, ZTF_VERSIONS, lsst_writer_schema
from space2vec.training.packets import lsst_packet, ztf_packet

Make = Callable[..., bytes]
PROFILES = Profiles.load()


MADE = {int(float(v) * 100): writer_schema(lsst_writer_schema(v)) for v in LSST_VERSIONS}


class _Schemas:
    def get(self, schema_id: int) -> WriterSchema:
        if schema_id in MADE:
            return MADE[schema_id]
        raise PacketError(Reason.UNKNOWN_SCHEMA, "not made")


SHORT = PacketReader(_Schemas(), PROFILES)
FULL = PacketReader(_Schemas(), PROFILES, two_ended=False)


def told(found: Alert | PacketError) -> Any:
    """Everything an alert or error says, comparable."""
    if isinstance(found, PacketError):
        return found.reason, found.field
    stamps = {plane: (stamp.shape, stamp.tobytes()) for plane, stamp in found.stamps.items()}
    faults = {plane: str(fault) for plane, fault in found.faults.items()}
    names = [n for n in Alert.__slots__ if n not in ("stamps", "faults", "packet")]
    return [repr(getattr(found, name)) for name in names], stamps, faults, found.packet.body


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Record for every datum whether the short cut was taken."""
    outcomes: list[bool] = []
    read = TwoEndedReader.read

    def watched(self: TwoEndedReader, packet: Packet) -> Any:
        outcome = read(self, packet)
        outcomes.append(outcome is not None)
        return outcome

    monkeypatch.setattr(TwoEndedReader, "read", watched)
    return outcomes


def both(raw: bytes) -> Any:
    short, full = ([told(found) for found in reader.read(raw)] for reader in (SHORT, FULL))
    assert short == full
    return short


@pytest.mark.parametrize("version", ZTF_VERSIONS)
@pytest.mark.parametrize("history", [0, 3, 90])
def test_taken_for_ztf(ztf: Make, taken: list[bool], version: str, history: int) -> None:
    both(ztf(schema=version, history=history, negative=True))
    assert taken == [True]


@pytest.mark.parametrize("version", LSST_VERSIONS)
@pytest.mark.parametrize("history", [0, 3, 350])
def test_taken_for_lsst(lsst: Make, taken: list[bool], version: str, history: int) -> None:
    both(lsst(schema_id=int(float(version) * 100), history=history, negative=True))
    assert taken == [True]


def test_a_new_form_of_cutout_is_learnt(ztf: Make, taken: list[bool], container: Make) -> None:
    reader = PacketReader(profiles=PROFILES)
    raw = ztf(history=5)
    (alert,) = reader.read(raw)
    assert isinstance(alert, Alert)
    schema, record = alert.packet.writer.schema, alert.packet.decode()
    for name in ("cutoutScience", "cutoutTemplate", "cutoutDifference"):
        plain = gzip.decompress(record[name]["stampData"])
        record[name] = {"fileName": "a much longer name than before" * 4, "stampData": plain}
    plain = container(schema, record)
    assert [told(found)[1] for message in (plain, raw) for found in reader.read(message)] == [
        told(alert)[1],
        told(alert)[1],
    ]
    assert taken == [True, True, True]


@pytest.mark.parametrize("missing", range(3))
def test_null_cutouts(lsst: Make, triplet: Any, taken: list[bool], missing: int) -> None:
    stamps = [*triplet(30)]
    stamps[missing] = None
    both(lsst(stamps, history=5))
    both(lsst(stamps, history=350))
    # LSST's first is the difference: after a long history it must be there.
    assert taken == [True, missing != 2]


@pytest.mark.parametrize("content", [b"\xff\xd8\xff\xe0 a picture", b"", b"\x1f\x8b", None])
def test_cutouts_need_not_be_fits_where_the_history_ends_before_them(
    ztf: Make, taken: list[bool], container: Make, content: bytes | None
) -> None:
    reader = PacketReader(profiles=PROFILES)
    raw = ztf(history=5)
    (alert,) = reader.read(raw)
    assert isinstance(alert, Alert)
    record = alert.packet.decode()
    record["cutoutScience"] = None if content is None else {"fileName": "x", "stampData": content}
    odd = container(alert.packet.writer.schema, record)
    full = PacketReader(profiles=PROFILES, two_ended=False)
    assert [told(found) for found in reader.read(odd)] == [told(found) for found in full.read(odd)]
    assert taken == [True, content is not None]


def test_no_object_in_front(lsst: Make, taken: list[bool]) -> None:
    both(lsst(object_id=None))
    assert taken == [False]


@pytest.mark.parametrize("history", [0, 2])
def test_damage_in_a_short_history_is_seen(lsst: Make, taken: list[bool], history: int) -> None:
    raw = bytearray(lsst(history=history))
    start = raw.index(b"SIMPLE") - 100
    raw[start : start + 4] = b"\x77\x77\x77\x77"
    both(bytes(raw))
    assert taken == [False]


def test_damage_to_the_first_cutouts_magic_is_seen(lsst: Make, taken: list[bool]) -> None:
    raw = lsst(history=350)
    at = raw.index(b"SIMPLE")
    both(raw[:at] + raw[at + 1 :])
    assert taken == [False]


@pytest.mark.parametrize("tail", [b"\x00", b"\x00\x00", b"\x02\x00", b"SIMPLE  ="])
@pytest.mark.parametrize("history", [0, 350])
def test_bytes_left_over_are_seen(lsst: Make, taken: list[bool], tail: bytes, history: int) -> None:
    both(lsst(history=history) + tail)
    assert taken == [False]


@pytest.mark.parametrize("cut", [1, 2880, 40_000, 80_000, 100_000])
@pytest.mark.parametrize("history", [0, 350])
def test_bytes_missing_are_seen(lsst: Make, taken: list[bool], cut: int, history: int) -> None:
    both(lsst(history=history)[:-cut])
    assert taken == [False]


def test_a_failing_short_cut_costs_little(ztf: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = ztf(history=50)[:-20] + b"\x00" * 20
    tries = 0
    read = RegularReader.read

    def counted(self: RegularReader, *args: Any) -> Any:
        nonlocal tries
        tries += 1
        return read(self, *args)

    monkeypatch.setattr(RegularReader, "read", counted)
    list(SHORT.read(raw))
    assert tries < 50


STAMPS = np.random.default_rng(5).normal(100, 5, (3, 12, 12)).astype(np.float32)
optional_stamps = st.lists(st.booleans(), min_size=3, max_size=3).map(
    lambda there: [stamp if here else None for stamp, here in zip(STAMPS, there, strict=True)]
)
ztf_packets = st.builds(
    lambda stamps, **more: ztf_packet(*stamps, **more),
    optional_stamps,
    alert_id=st.integers(-(1 << 63), (1 << 63) - 1),
    object_id=st.text("ZTF0123456789abcdefghij", max_size=70),
    jd=st.floats(2.4e6, 2.5e6),
    ra=st.floats(0, 360),
    dec=st.floats(-90, 90) | st.just(float("nan")),
    negative=st.booleans(),
    xpos=st.floats(0, 3072),
    schema=st.sampled_from(ZTF_VERSIONS),
    codec=st.sampled_from(["null", "deflate"]),
    history=st.integers(0, 120),
)
lsst_packets = st.builds(
    lambda stamps, **more: lsst_packet(*stamps, **more),
    optional_stamps,
    alert_id=st.integers(-(1 << 63), (1 << 63) - 1),
    object_id=st.none() | st.integers(0, (1 << 63) - 1),
    mjd_tai=st.floats(6e4, 7e4),
    ra=st.floats(0, 360),
    dec=st.floats(-90, 90),
    negative=st.booleans(),
    schema_id=st.sampled_from(sorted(MADE)),
    history=st.sampled_from([0, 1, 5, 40, 60, 350]),
    psf=st.sampled_from([0, 5, 41]),
)


@settings(max_examples=150)
@given(ztf_packets | lsst_packets)
def test_same_alerts_with_and_without(raw: bytes) -> None:
    both(raw)


DAMAGED = [
    ztf_packet(*STAMPS, alert_id=1 << 60, object_id="ZTF18abudxnw", jd=2460449.5, ra=1.0, dec=2.0, history=8),
    lsst_packet(*STAMPS, alert_id=1 << 60, object_id=5, mjd_tai=61000.0, ra=1.0, dec=2.0, history=3, psf=5),
]


@settings(max_examples=300)
@given(st.integers(0, 1), st.floats(0, 1), st.binary(max_size=4), st.integers(0, 4))
def test_same_outcome_for_damaged_packets(which: int, where: float, noise: bytes, lost: int) -> None:
    raw = DAMAGED[which]
    at = int(where * len(raw))
    both(raw[:at] + noise + raw[at + lost :])


def test_same_alerts_over_every_real_packet(shared: Path, taken: list[bool]) -> None:
    for path in sorted((shared / "packets").rglob("*.avro")):
        both(path.read_bytes())
    assert sum(taken) > 650


class TestRegularReader:
    FIELDS = (
        {"name": "flag", "type": "boolean"},
        {"name": "rate", "type": ["float", "null"]},
        {"name": "name", "type": ["null", "string"]},
        {"name": "mixed", "type": ["int", "double", "null"]},
        {"name": "sum", "type": {"type": "fixed", "name": "sum", "size": 3}},
        {"name": "inner", "type": ["null", {"type": "record", "name": "inner", "fields": [
            {"name": "id", "type": "long"}, {"name": "note", "type": "string"}]}]},
        {"name": "past", "type": ["null", {"type": "array", "items": ["null", "inner"]}]},
        {"name": "extra", "type": {"type": "map", "values": ["string", "null"]}},
        {"name": "last", "type": "int"},
    )  # fmt: skip
    SCHEMA = fastavro.parse_schema({"type": "record", "name": "all", "fields": list(FIELDS)})
    records = st.fixed_dictionaries(
        {
            "flag": st.booleans(),
            "rate": st.none() | st.floats(width=32),
            "name": st.none() | st.text(max_size=200),
            "mixed": st.none() | st.integers(0, 99) | st.floats(),
            "sum": st.binary(min_size=3, max_size=3),
            "inner": st.none()
            | st.fixed_dictionaries({"id": st.integers(-9, 1 << 62), "note": st.text(max_size=9)}),
            "past": st.none()
            | st.lists(
                st.none() | st.fixed_dictionaries({"id": st.just(3), "note": st.text("abc", max_size=99)})
            ),
            "extra": st.dictionaries(st.text("ab"), st.none() | st.text("ab")),
            "last": st.integers(-9, 9),
        }
    )

    @settings(max_examples=200)
    @given(records, st.sampled_from([("flag", "rate", "last"), ("name",), ("inner.id",), ()]))
    def test_reads_what_fastavro_reads(self, record: dict[str, Any], wanted: tuple[str, ...]) -> None:
        buffer = BytesIO()
        fastavro.schemaless_writer(buffer, self.SCHEMA, record)
        body = buffer.getvalue()
        tree = SchemaTree(self.SCHEMA)
        reader = RegularReader.compile(tree, tree.named["all"]["fields"], wanted)
        assert reader is not None
        found = reader.read(b"xx" + body + b"yy", 2, 4 + len(body))
        if found is None:
            # Unusual: a wanted value's record is null, or a string is long or not ASCII.
            texts = [inner["note"] for inner in [record["inner"], *(record["past"] or ())] if inner]
            usual = all(text.isascii() and len(text) < 128 for text in [*texts, record["name"] or ""])
            assert not usual or (record["inner"] is None and "inner.id" in wanted)
            return
        values, end = found
        assert end == 2 + len(body)
        expected = fastavro.schemaless_reader(BytesIO(body), self.SCHEMA, None)
        for path in wanted:
            other = expected
            for key in path.split("."):
                other = other[key]
            assert repr(values[path]) == repr(other)

    NUMBERS = ("float", "double", "int", "long", "boolean")
    numbers = st.lists(st.tuples(st.sampled_from(NUMBERS), st.booleans(), st.booleans()), max_size=30)

    @settings(max_examples=200)
    @given(numbers, st.integers(0, 1 << 62), st.binary(max_size=2))
    def test_numbers_that_may_be_null_in_any_mixture(
        self, kinds: list[tuple[str, bool, bool]], value: int, noise: bytes
    ) -> None:
        """Runs of them are tried together: all there, all null, then one by one."""
        fields = [
            {"name": f"f{i}", "type": [kind, "null"] if last else ["null", kind]}
            for i, (kind, last, _) in enumerate(kinds)
        ]
        schema = fastavro.parse_schema({"type": "record", "name": "all", "fields": fields})
        values = {"float": 0.5, "double": -2.0, "int": value % 1000, "long": value, "boolean": True}
        buffer = BytesIO()
        fastavro.schemaless_writer(
            buffer,
            schema,
            {f"f{i}": values[kind] if there else None for i, (kind, _, there) in enumerate(kinds)},
        )
        body = buffer.getvalue()
        reader = RegularReader.compile(SchemaTree(schema), schema["fields"], ())
        assert reader is not None
        assert reader.read(body + noise, 0, len(body + noise)) == ({}, len(body))
        if body:
            assert reader.read(body, 0, len(body) - 1) is None

    def test_a_mismatch_after_many_runs_is_found_at_once(self) -> None:
        fields = [{"name": f"f{i}", "type": ["null", "float"]} for i in range(400)]
        fields.append({"name": "last", "type": "boolean"})
        schema = fastavro.parse_schema({"type": "record", "name": "all", "fields": fields})
        reader = RegularReader.compile(SchemaTree(schema), schema["fields"], ())
        assert reader is not None
        start = time.process_time()
        for record in (b"\x00" * 400, b"\x02abcd" * 400, b"\x00\x02abcd" * 200):
            assert reader.read(record + b"\x01", 0, len(record) + 1) == ({}, len(record) + 1)
            assert reader.read(record + b"\x07", 0, len(record) + 1) is None
        assert time.process_time() - start < 1

    @pytest.mark.parametrize("kind", [{"type": "enum", "name": "e", "symbols": ["a"]}, ["int", "enum"]])
    def test_knows_what_is_not_regular(self, kind: Any) -> None:
        fields = [{"name": "x", "type": kind}]
        assert (
            RegularReader.compile(SchemaTree({"type": "record", "name": "r", "fields": fields}), fields, ())
            is None
        )

    @pytest.mark.parametrize("kind", ["string", {"type": "array", "items": "string"}])
    def test_gives_up_on_more_strings_than_an_expression_should_have(self, kind: Any) -> None:
        fields = [{"name": f"f{i}", "type": kind} for i in range(200)]
        parsed = fastavro.parse_schema({"type": "record", "name": "x", "fields": fields})
        assert RegularReader.compile(SchemaTree(parsed), parsed["fields"], ()) is None
        assert RegularReader.compile(SchemaTree(parsed), parsed["fields"][:20], ()) is not None
