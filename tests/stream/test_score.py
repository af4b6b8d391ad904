from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest

from space2vec.schemas.container import HeaderReader
from space2vec.schemas.exit_codes import OK
from space2vec.schemas.limits import Limits
from space2vec.stream.cli import run_command
from space2vec.stream.simulated import LSST_SCHEMA_ID, simulated_alerts, writer_schema_files
from space2vec.training.packets import ztf_packet
from trial import tar_of

Capture = pytest.CaptureFixture[str]
FIELDS = [
    "file", "record", "survey", "alert_id", "object_id", "status", "reason", "detail", "flags", "score", "spread", "classes",
    "model", "version", "sha256",
]  # fmt: skip


@pytest.fixture(scope="module")
def alerts() -> dict[str, bytes]:
    return {
        f"{alert.survey}-{alert.alert_id}": alert.packet for alert in simulated_alerts("both", 10, seed=3)
    }


@pytest.fixture
def schemas(tmp_path: Path) -> str:
    folder = tmp_path / "schemas"
    folder.mkdir()
    for name, text in writer_schema_files().items():
        (folder / name).write_text(text)
    return str(folder)


def score(capsys: Capture, *arguments: object) -> list[dict[str, object]]:
    capsys.readouterr()
    assert run_command(["score", *map(str, arguments), "--json"]) == OK
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("bundle", ["core", "pair"])
def test_a_folder_of_both_surveys(
    alerts: dict[str, bytes], tmp_path: Path, schemas: str, capsys: Capture, bundle: str
) -> None:
    for name, packet in alerts.items():
        (tmp_path / f"{name}.avro").write_bytes(packet)
    verdicts = score(capsys, tmp_path, "--schemas", schemas, "--model", bundle)
    assert len(verdicts) == len(alerts)
    for verdict in verdicts:
        assert list(verdict) == FIELDS
        name = f"{verdict['survey']}-{verdict['alert_id']}"
        assert verdict["file"] == str(tmp_path / f"{name}.avro")
        assert verdict["status"] == ("degraded" if verdict["flags"] else "scored")
        probability, classes = verdict["score"], verdict["classes"]
        assert isinstance(probability, float)
        assert isinstance(classes, dict)
        assert 0 < probability < 1
        assert math.isclose(sum(classes.values()), 1.0)
        assert classes["real"] == probability
        assert verdict["model"] == bundle
        assert (verdict["spread"] is None) == (bundle == "core")


def test_the_same_score_however_the_packets_come(
    alerts: dict[str, bytes], tmp_path: Path, schemas: str, capsys: Capture
) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "zipped").mkdir()
    for name, packet in alerts.items():
        (tmp_path / "plain" / f"{name}.avro").write_bytes(packet)
        (tmp_path / "zipped" / f"{name}.avro.gz").write_bytes(gzip.compress(packet))
    tar_of(tmp_path / "night.tar.gz", {f"{name}.avro": packet for name, packet in alerts.items()})
    of = {
        kind: {v["alert_id"]: v["score"] for v in score(capsys, tmp_path / kind, "--schemas", schemas)}
        for kind in ("plain", "zipped", "night.tar.gz")
    }
    assert of["plain"] == of["zipped"] == of["night.tar.gz"]
    assert len(of["plain"]) == len(alerts)


def test_a_broken_file_is_one_line_and_stops_nothing(
    alerts: dict[str, bytes], tmp_path: Path, schemas: str, capsys: Capture
) -> None:
    good = next(packet for name, packet in alerts.items() if name.startswith("ztf"))
    blank = np.zeros((63, 63), np.float32)
    known = {"alert_id": 5, "object_id": "ZTF26a", "jd": 2461300.5, "ra": 1.0, "dec": 2.0}
    files = {
        "1-good": (good, "scored", None),
        "2-cut": (good[: len(good) // 2], "rejected", "damaged_container"),
        "3-empty": (b"", "rejected", "empty"),
        "4-noise": (b"no packet at all", "rejected", "bad_framing"),
        "5-null": (ztf_packet(None, None, None, **known), "rejected", "stamp_missing"),  # type: ignore[arg-type]
        "6-blank": (ztf_packet(blank, blank, blank, **known), "rejected", "stamp_blank"),  # type: ignore[arg-type]
        "7-unknown": (b"\x00\x00\x00\x30\x39" + bytes(100), "rejected", "unknown_schema"),
        "8-good": (good, "scored", None),
    }
    for name, (packet, _, _) in files.items():
        (tmp_path / f"{name}.avro").write_bytes(packet)
    verdicts = score(capsys, tmp_path, "--schemas", schemas)
    assert [Path(str(v["file"])).stem for v in verdicts] == list(files)
    for verdict, (_, status, reason) in zip(verdicts, files.values(), strict=True):
        assert verdict["reason"] == reason
        assert verdict["status"] in ((status, "degraded") if status == "scored" else (status,))
        assert bool(verdict["detail"]) == (reason is not None)
        assert (verdict["score"] is None) == (reason is not None)
    null = verdicts[4]
    assert (null["survey"], null["alert_id"], null["object_id"]) == ("ztf", 5, "ZTF26a")
    assert "science" in str(null["detail"])


def test_records_of_one_file_are_counted_and_none_are_no_error(tmp_path: Path, capsys: Capture) -> None:
    (first, second) = simulated_alerts("ztf", 2, seed=1)
    header = first.packet[: len(HeaderReader(Limits()).read(first.packet).prefix) + 16]
    (tmp_path / "two.avro").write_bytes(first.packet + second.packet[len(header) :])
    (tmp_path / "none.avro").write_bytes(header)
    verdicts = score(capsys, tmp_path)
    assert [(v["record"], v["alert_id"]) for v in verdicts] == [(0, first.alert_id), (1, second.alert_id)]


def test_a_missing_schema_says_where_to_get_it(
    alerts: dict[str, bytes], tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("space2vec.schemas.rubin.InstalledRubinSchemas.available", lambda: False)
    packet = next(packet for name, packet in alerts.items() if name.startswith("lsst"))
    (tmp_path / "1.avro").write_bytes(packet)
    (verdict,) = score(capsys, tmp_path / "1.avro")
    assert verdict["reason"] == "unknown_schema"
    assert str(LSST_SCHEMA_ID) in str(verdict["detail"])
    assert "pip install 'space2vec[rubin]'" in str(verdict["detail"])


def test_a_table_for_people(alerts: dict[str, bytes], tmp_path: Path, schemas: str, capsys: Capture) -> None:
    name, packet = next(iter(alerts.items()))
    (tmp_path / "a.avro").write_bytes(packet)
    (tmp_path / "b.avro").write_bytes(b"no packet")
    assert run_command(["score", str(tmp_path), "--schemas", schemas]) == OK
    told = capsys.readouterr()
    header, good, bad = told.out.splitlines()
    assert header.split() == ["STATUS", "SCORE", "SURVEY", "ALERT", "OBJECT", "FILE"]
    assert name.partition("-")[2] in good
    assert "bad_framing" in bad
    assert "2 alerts in 2 files" in told.err
    assert "1 rejected (bad_framing 1)" in told.err


@pytest.mark.parametrize(
    ("folder", "statuses", "reasons"),
    [
        ("ztf", {"scored", "degraded"}, {None}),
        ("lsst", {"scored", "degraded"}, {None}),
        ("lsst_fink", {"scored", "degraded"}, {None}),
        ("lsst_wire", {"scored", "degraded", "rejected"}, {None, "stamp_missing", "unknown_schema"}),
        ("other", {"scored", "degraded", "rejected"}, {None, "unknown_survey"}),
        ("ztf_nostamp", {"rejected"}, {"stamp_missing", "stamp_not_fits"}),
        ("lsst_nostamp", {"rejected"}, {"stamp_missing", "unknown_survey"}),
        ("corrupt", {"scored", "rejected"}, {None, "damaged_container", "stamp_damaged", "bad_record"}),
    ],
)
def test_real_packets(
    folder: str, statuses: set[str], reasons: set[str | None], shared: Path, capsys: Capture
) -> None:
    """Real packets of every kind, in ../shared, where present."""
    verdicts = score(capsys, shared / "packets" / folder)
    assert {verdict["status"] for verdict in verdicts} <= statuses
    assert {verdict["reason"] for verdict in verdicts} <= reasons
    assert verdicts
    assert all(verdict["detail"] for verdict in verdicts if verdict["status"] == "rejected")
    if folder == "other":
        with_stamps = {"atlas", "desirt", "pgir", "roman", "turbo", "winter"}
        answered = [v for v in verdicts if Path(str(v["file"])).parent.name in with_stamps]
        assert answered
        assert all(v["status"] != "rejected" for v in answered)
