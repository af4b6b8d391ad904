"""What a replay reads of files: tables with stamps, wire messages, containers, every schema version, URLs."""

from __future__ import annotations

import gzip
import http.server
import io
import json
import threading
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
from replaying import rows_of, told_by_replay

from space2vec.schemas.alert import Alert
from space2vec.schemas.exit_codes import FAILED, OK, USAGE
from space2vec.schemas.reader import PacketReader
from space2vec.stream import replay_archives
from space2vec.stream.cli import run_command
from space2vec.stream.replay_archives import Archive, find_archives
from space2vec.stream.replay_members import ArchiveReader
from space2vec.stream.replay_rows import avro_schema
from space2vec.training.packet_schemas import ZTF_VERSIONS, lsst_writer_schema
from space2vec.training.packets import lsst_packet, ztf_packet
from trial import tar_of

Capture = pytest.CaptureFixture[str]


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
    whole = told_by_replay(capsys, str(tmp_path / "n.tar.gz"), "--to", f"parquet:{tmp_path / 'packets'}")
    found = told_by_replay(capsys, str(path), "--to", f"parquet:{tmp_path / 'rows'}")
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
    told = told_by_replay(capsys, str(path), "--to", to, "--schemas", str(schemas))
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
    told = told_by_replay(capsys, f"{web.url}/n.tar.gz", "--to", f"parquet:{tmp_path / 'out'}")
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
    assert told_by_replay(capsys, *verb[1:-1])["done"] == 1
    assert len(rows_of(tmp_path / "out")) == 9
    web.shutdown()
    web.server_close()
    assert run_command(verb) == USAGE
    assert f"space2vec: {verb[1]}: Cannot connect" in capsys.readouterr().err
