"""What a replay reads: tables with stamps, wire messages, containers, every schema version, URLs, topics by time."""

from __future__ import annotations

import gzip
import http.server
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from replaying import rows_of

from space2vec.schemas.alert import Alert
from space2vec.schemas.classification import decode_classification
from space2vec.schemas.errors import ConfigError
from space2vec.schemas.reader import PacketReader
from space2vec.schemas.settings import Settings
from space2vec.stream import replay_archives
from space2vec.stream.cli import run_command
from space2vec.stream.exit_codes import FAILED, OK, USAGE
from space2vec.stream.replay_archives import Archive, find_archives
from space2vec.stream.replay_members import ArchiveReader
from space2vec.stream.replay_rows import avro_schema
from space2vec.stream.replay_source import PROVENANCE
from space2vec.stream.replay_topics import find_sources, open_archive
from space2vec.training.packet_schemas import ZTF_VERSIONS
from space2vec.training.packets import lsst_packet, lsst_writer_schema, ztf_packet
from trial import tar_of

Capture = pytest.CaptureFixture[str]


def replayed(capsys: Capture, *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run_command(["replay", *arguments, "--local", "--json"]) == OK
    return json.loads(capsys.readouterr().out)


def scores_of(folder: Path) -> list[tuple[int, float]]:
    return [(row["alert_id"], row["score"]) for row in rows_of(folder)]


# -- tables ------------------------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path: Path, make_alerts) -> tuple[Path, list[Any]]:
    """A table with stamps as Fink keeps it, and the packets that it was made of."""
    sent = make_alerts(ztf=50)
    records = [next(fastavro.reader(io.BytesIO(s.packet))) for s in sent]
    path = tmp_path / "part-00000.parquet"
    pq.write_table(pa.Table.from_pylist(records), path, row_group_size=20)
    return path, sent


def test_rows_of_a_table_score_as_the_packets_they_were(table, tmp_path: Path, capsys: Capture) -> None:
    path, sent = table
    tar_of(tmp_path / "n.tar.gz", {f"{i}.avro": s.packet for i, s in enumerate(sent)})
    whole = replayed(capsys, str(tmp_path / "n.tar.gz"), "--to", f"parquet:{tmp_path / 'packets'}")
    found = replayed(capsys, str(path), "--to", f"parquet:{tmp_path / 'rows'}")
    assert (found["alerts"], found["scored"], found["rejected"]) == (50, whole["scored"], 0)
    assert scores_of(tmp_path / "rows") == scores_of(tmp_path / "packets")


def test_a_damaged_table_is_told_and_what_follows_is_read(table, tmp_path: Path, make_alerts) -> None:
    path, _ = table
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.parquet").write_bytes(path.read_bytes()[:-100])
    (folder / "b.parquet").write_bytes(path.read_bytes())
    (folder / "c.avro").write_bytes(make_alerts(ztf=1)[0].packet)
    (archive,) = find_archives([str(folder)])
    reader = ArchiveReader(archive)
    names = [member.name for member in reader.members()]
    assert names == [*(f"b.parquet[{row}]" for row in range(50)), "c.avro"]
    (fault,) = reader.faults
    assert fault.startswith("a.parquet: ")
    assert reader.bytes_read == archive.size


def test_every_type_that_a_table_may_have_goes_into_avro() -> None:
    schema = pa.schema(
        [
            pa.field("small", pa.int8(), nullable=False),
            pa.field("wide", pa.uint32()),
            pa.field("single", pa.float32()),
            pa.field("when", pa.timestamp("us")),
            pa.field("many", pa.list_(pa.struct([pa.field("jd", pa.float64()), pa.field("raw", pa.binary())]))),
            pa.field("none", pa.null()),
            pa.field("yes", pa.bool_()),
        ]
    )  # fmt: skip
    parsed = fastavro.parse_schema(avro_schema(schema))
    row = {
        "small": 1, "wide": 2**32 - 1, "single": 0.5, "when": datetime(2026, 11, 22, tzinfo=UTC),
        "many": [{"jd": 2461300.5, "raw": b"x"}, None], "none": None, "yes": True,
    }  # fmt: skip
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, parsed, row)
    buffer.seek(0)
    assert fastavro.schemaless_reader(buffer, parsed, None) == row
    with pytest.raises(ValueError, match=r"column a\.b: Avro has no type for time64"):
        avro_schema(pa.schema([pa.field("a", pa.struct([pa.field("b", pa.time64("us"))]))]))


def test_a_large_table_is_a_shard_of_its_own(table, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = table
    monkeypatch.setattr(replay_archives, "LARGE_BYTES", 1000)
    (archive,) = find_archives([str(path.parent)])
    assert archive.name == path.name
    assert [member.number for member in ArchiveReader(archive).members(47)] == [47, 48, 49]


# -- framings and versions ---------------------------------------------------------------------------------------


def test_every_schema_version_and_framing_in_one_archive(tmp_path: Path, capsys: Capture) -> None:
    noise = np.random.default_rng(4)
    stamps = [noise.normal(size=(63, 63)).astype(np.float32) for _ in range(3)]
    small = [stamp[:30, :30] for stamp in stamps]
    ztf = {
        version: ztf_packet(
            *stamps, alert_id=n, object_id=f"ZTF{n}", jd=2461300.7, ra=1.0, dec=2.0, schema=version
        )
        for n, version in enumerate(ZTF_VERSIONS)
    }
    wires = {
        number: lsst_packet(
            *small, alert_id=number, object_id=1, mjd_tai=61300.2, ra=1.0, dec=2.0, schema_id=number
        )
        for number in (800, 900, 1000, 1100)
    }
    schemas = tmp_path / "schemas"
    schemas.mkdir()
    for number in wires:
        version = f"{number // 100}.{number % 100}"
        (schemas / f"{number}.avsc").write_text(json.dumps(lsst_writer_schema(version)))
    many = io.BytesIO()
    first = fastavro.reader(io.BytesIO(ztf["4.02"]))
    record = next(first)
    fastavro.writer(many, first.writer_schema, [record | {"candid": 100 + i} for i in range(5)], "deflate")
    path = tar_of(
        tmp_path / "all.tar.gz",
        {f"ztf/{version}.avro": packet for version, packet in ztf.items()}
        | {f"lsst/{number}.avro.gz": gzip.compress(packet) for number, packet in wires.items()}
        | {"many.avro": many.getvalue()},
    )
    to = f"parquet:{tmp_path / 'out'}"
    told = replayed(capsys, str(path), "--to", to, "--schemas", str(schemas))
    assert (told["alerts"], told["rejected"]) == (len(ztf) + len(wires) + 5, 0)
    assert told["each"][0]["messages"] == len(ztf) + len(wires) + 1
    ids = Counter((row["survey"], row["alert_id"]) for row in rows_of(tmp_path / "out"))
    assert ids == Counter(
        [*(("ztf", n) for n in range(len(ztf))), *(("lsst", n) for n in wires), *(("ztf", 100 + i) for i in range(5))]
    )  # fmt: skip
    assert run_command(["audit", "--replay", to]) == OK


# -- URLs --------------------------------------------------------------------------------------------------------


class Web(http.server.ThreadingHTTPServer):
    """A web server over a folder, that may give up in the middle of an answer."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked = 0
        self.whole: int | None = None
        """How many answers there are before one is cut off; none: all are whole."""

    def handle_error(self, *_: object) -> None:
        """A reader that has read enough goes away."""


class Quiet(http.server.SimpleHTTPRequestHandler):
    server: Web

    def log_message(self, *_: object) -> None:
        pass

    def copyfile(self, source: Any, outputfile: Any) -> None:
        self.server.asked += 1
        if self.server.whole is not None and self.server.asked > self.server.whole:
            outputfile.write(source.read(50_000))
            self.close_connection = True
        else:
            super().copyfile(source, outputfile)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    folder = tmp_path / "web"
    folder.mkdir()
    server = Web(folder)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_archive_is_read_over_the_web(web: Web, tmp_path: Path, make_alerts, capsys: Capture) -> None:
    sent = make_alerts(ztf=20)
    tar_of(tmp_path / "web/n.tar.gz", {f"{i}.avro": s.packet for i, s in enumerate(sent)})
    told = replayed(capsys, f"{web.url}/n.tar.gz", "--to", f"parquet:{tmp_path / 'out'}")
    assert (told["alerts"], told["done"]) == (20, 1)
    assert [row["alert_id"] for row in rows_of(tmp_path / "out")] == [s.alert_id for s in sent]


def test_a_connection_that_breaks_is_no_end_of_the_archive(
    web: Web, tmp_path: Path, make_alerts, capsys: Capture
) -> None:
    tar_of(tmp_path / "web/n.tar.gz", {f"{i}.avro": s.packet for i, s in enumerate(make_alerts(ztf=9))})
    verb = ["replay", f"{web.url}/n.tar.gz", "--to", f"parquet:{tmp_path / 'out'}", "--local"]
    find_archives([verb[1]])  # which takes so many answers
    web.whole = 2 * web.asked
    assert run_command(verb) == FAILED
    said = capsys.readouterr().err
    assert (
        "n.tar.gz: 0 packets, not finished: run again\n  storage failed: [Errno 5] ClientPayloadError" in said
    )
    web.whole = None
    assert replayed(capsys, *verb[1:-1])["done"] == 1
    assert len(rows_of(tmp_path / "out")) == 9
    web.shutdown()
    web.server_close()
    assert run_command(verb) == USAGE
    assert f"space2vec: {verb[1]}: Cannot connect" in capsys.readouterr().err


# -- topics ------------------------------------------------------------------------------------------------------


def between(since: float, until: float) -> list[str]:
    moments = [datetime.fromtimestamp(moment, UTC).isoformat() for moment in (since, until)]
    return ["--since", moments[0], "--until", moments[1]]


@pytest.fixture
def topic(kafka, make_alerts) -> tuple[str, list[Any], float, float]:
    """A topic, what it was given between two times, and the times; there is more before and after."""
    name, waves = kafka.create_topic(2), [make_alerts(ztf=40, seed=seed, poison=2) for seed in (1, 2, 3)]
    moments = []
    for wave in waves:
        time.sleep(0.05)
        moments.append(time.time())
        time.sleep(0.05)
        kafka.produce(name, [s.packet for s in wave])
    return name, waves[1], moments[1], moments[2]


def test_a_topic_by_time_is_rescored_without_its_packets(
    kafka, topic, tmp_path: Path, capsys: Capture
) -> None:
    name, sent, since, until = topic
    out = kafka.create_topic(2)
    config = tmp_path / "replay.toml"
    config.write_text('[stream]\ndelivery = "at-least-once"\n[source]\ngroup = "of-its-own"\n')
    arguments = [
        f"kafka:{name}", *between(since, until), "--to", f"kafka:{out}", "-b", kafka.bootstrap, "--config", str(config),
    ]  # fmt: skip
    told = replayed(capsys, *arguments)
    assert (told["alerts"], told["scored"] + told["degraded"], told["rejected"]) == (42, 40, 2)
    ids = Counter(decode_classification(m.value())["alert_id"] for m in kafka.read(out))
    assert ids == Counter(s.alert_id for s in sent if s.alert_id is not None)
    rejected = kafka.read(f"{out}-rejected")
    assert Counter(m.value() or b"" for m in rejected) == Counter(
        s.packet for s in sent if s.alert_id is None
    )
    for message in rejected:
        told_of = json.loads(dict(message.headers())[PROVENANCE])
        assert told_of["archive"] in (f"{name}-0", f"{name}-1")
        assert told_of["member"].startswith(f"{told_of['archive']}@")
    again = replayed(capsys, *arguments)
    assert (again["skipped"], again["fresh"]) == (2, 0)
    assert run_command(["audit", "--replay", f"kafka:{out}", "-b", kafka.bootstrap]) == OK


def test_bundles_are_compared_over_a_topic(kafka, topic, capsys: Capture) -> None:
    name, _, since, until = topic
    span = between(since, until)
    compare = ["model", "compare", "core", "core", f"kafka:{name}", *span, "-b", kafka.bootstrap, "--json"]
    assert run_command(compare) == OK
    assert json.loads(capsys.readouterr().out)["alerts"] == 40


def test_a_topic_that_is_not_what_it_was_is_not_gone_on_with(
    kafka, topic, tmp_path: Path, capsys: Capture
) -> None:
    name, _, since, until = topic
    arguments = [
        "replay", f"kafka:{name}", *between(since, until), "--to", f"parquet:{tmp_path / 'out'}",
        "-b", kafka.bootstrap, "--local",
    ]  # fmt: skip
    assert run_command(arguments) == OK
    for path in (tmp_path / "out/manifests").glob("*.json"):
        manifest = json.loads(path.read_text())
        path.write_text(json.dumps(manifest | {"done": False, "size": manifest["size"] + 5}))
    assert run_command(arguments) == USAGE
    assert "offsets; there were" in capsys.readouterr().err


def test_a_topic_is_gone_on_with_by_the_number_of_the_packet(kafka, topic) -> None:
    name, sent, since, until = topic
    settings = Settings.model_validate({"source": {"brokers": kafka.bootstrap}})
    archives = find_sources([f"kafka:{name}"], settings, int(since * 1000), int(until * 1000))
    packets = []
    for archive in archives:
        reader = open_archive(archive, settings)
        whole = list(reader.members())
        assert [member.number for member in whole] == list(range(archive.size))
        assert (reader.bytes_read, reader.faults) == (archive.size, [])
        assert list(open_archive(archive, settings).members(5)) == whole[5:]
        packets += [member.packet for member in whole]
    assert Counter(packets) == Counter(s.packet for s in sent)


def test_a_topic_needs_its_times(kafka, topic, tmp_path: Path) -> None:
    name, _, since, until = topic
    settings = Settings.model_validate({"source": {"brokers": kafka.bootstrap}})
    begin, end = int(since * 1000), int(until * 1000)
    with pytest.raises(ConfigError, match="needs --since and --until"):
        find_sources([f"kafka:{name}"], settings, begin, None)
    with pytest.raises(ConfigError, match="yet to come"):
        find_sources([f"kafka:{name}"], settings, begin, end + 10**9)
    with pytest.raises(ConfigError, match="nothing was written"):
        find_sources([f"kafka:{name}"], settings, 1000, 2000)
    with pytest.raises(ConfigError, match="no such topic"):
        find_sources(["kafka:nowhere"], settings, begin, end)
    with pytest.raises(ConfigError, match=r"for kafka:TOPIC"):
        find_sources([str(tmp_path)], settings, begin, end)


def test_alerts_of_an_archive_are_those_of_its_packets(table) -> None:
    path, sent = table
    reader = PacketReader()
    (archive,) = find_archives([str(path)])
    assert isinstance(archive, Archive)
    alerts = [next(iter(reader.read(member.packet))) for member in ArchiveReader(archive).members()]
    for alert, s in zip(alerts, sent, strict=True):
        (whole,) = reader.read(s.packet)
        assert isinstance(alert, Alert)
        assert isinstance(whole, Alert)
        assert (alert.alert_id, alert.mjd_tai, alert.x) == (whole.alert_id, whole.mjd_tai, whole.x)
        assert all(np.array_equal(alert.stamps[plane], stamp) for plane, stamp in whole.stamps.items())
