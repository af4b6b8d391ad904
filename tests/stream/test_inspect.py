from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from space2vec.schemas.exit_codes import FAILED, OK, USAGE
from space2vec.stream.cli import run_command
from space2vec.stream.pictures import NO_PIXEL
from space2vec.stream.simulated import writer_schema_files
from space2vec.training.packets import lsst_packet, ztf_packet

Capture = pytest.CaptureFixture[str]
RNG = np.random.default_rng(5)


def stamps(rows: int, columns: int) -> list[np.ndarray]:
    return [RNG.normal(100, 5, (rows, columns)).astype(np.float32) for _ in range(3)]


def inspect(capsys: Capture, *arguments: object) -> dict[str, dict[str, object]]:
    assert run_command(["inspect", *map(str, arguments), "--json"]) == OK
    found: dict[str, dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


def test_a_ztf_packet(tmp_path: Path, capsys: Capture) -> None:
    science, template, difference = stamps(63, 50)
    difference[:, 20:29] = np.nan
    packet = ztf_packet(
        science, template, difference,
        alert_id=2711111111111111111, object_id="ZTF26abc", jd=2461300.5, ra=10.5, dec=-3.25, negative=True,
        codec="deflate",
    )  # fmt: skip
    (tmp_path / "1.avro").write_bytes(packet)
    found = inspect(capsys, tmp_path / "1.avro", "--stamps", tmp_path / "t.png")
    assert found["packet"]["bytes"] == len(packet)
    assert (found["packet"]["codec"], found["packet"]["records"]) == ("deflate", 1)
    assert found["schema"]["name"] == "ztf.alert"
    assert len(str(found["schema"]["fingerprint"])) == 64
    assert found["alert"]["alert_id"] == 2711111111111111111
    assert (found["alert"]["ra"], found["alert"]["dec"]) == (10.5, -3.25)
    assert found["alert"]["difference_flipped"] is True
    assert (found["difference"]["rows"], found["difference"]["columns"]) == (63, 50)
    assert (found["difference"]["missing"], found["difference"]["form"]) == (63 * 9, "gzip")
    assert set(found["quality"]["flags"]) >= {"nan", "truncated"}  # type: ignore[call-overload]
    with Image.open(tmp_path / "t.png") as picture:
        colours = np.asarray(picture).reshape(-1, 3)
    assert (colours == NO_PIXEL).all(axis=1).sum() > 1000


def test_an_lsst_packet_without_a_template(tmp_path: Path, capsys: Capture) -> None:
    science, _, difference = stamps(30, 30)
    packet = lsst_packet(
        science, None, difference, alert_id=7, object_id=8, mjd_tai=61300.25, ra=1.0, dec=2.0
    )
    (tmp_path / "1.avro").write_bytes(packet)
    for name, text in writer_schema_files().items():
        (tmp_path / name).write_text(text)
    found = inspect(capsys, tmp_path / "1.avro", "--schemas", tmp_path, "--stamps", tmp_path / "t.png")
    assert found["packet"]["schema_id"] == 1100
    assert found["alert"]["mjd_tai"] == 61300.25
    assert "stamp_missing" in str(found["template"]["fault"])
    assert found["science"]["form"] == "FITS"
    assert found["quality"]["flags"] == ["plane_missing"]
    assert (tmp_path / "t.png").exists()


def test_a_listing_for_people(tmp_path: Path, capsys: Capture) -> None:
    science, template, difference = stamps(63, 63)
    packet = ztf_packet(
        science, template, difference, alert_id=1, object_id="ZTF26a", jd=2461300.5, ra=1.0, dec=2.0
    )
    (tmp_path / "1.avro").write_bytes(packet)
    assert run_command(["inspect", str(tmp_path / "1.avro")]) == OK
    told = capsys.readouterr().out
    assert "Avro object container" in told
    assert "ZTF26a" in told


def test_a_packet_that_cannot_be_opened_says_why(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "1.avro").write_bytes(b"no packet")
    assert run_command(["inspect", str(tmp_path / "1.avro"), "--stamps", str(tmp_path / "t.png")]) == FAILED
    assert "bad_framing" in capsys.readouterr().out
    assert not (tmp_path / "t.png").exists()


def test_a_record_that_is_not_there(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "1.avro").write_bytes(b"no packet")
    assert run_command(["inspect", str(tmp_path / "1.avro"), "--record", "4"]) == USAGE
    assert "no record 4; it holds 1" in capsys.readouterr().err
