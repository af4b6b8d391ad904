"""Two bundles side by side: one differs from the other in its temperature, so every difference is known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from space2vec.schemas.exit_codes import MODEL, OK, USAGE
from space2vec.schemas.reader import PacketReader
from space2vec.stream.cli import run_command
from space2vec.stream.comparison import SHOWN, Comparison
from space2vec.workers.bundle import load_bundle

Capture = pytest.CaptureFixture[str]
HOTTER = 2.0


@pytest.fixture
def hotter(tmp_path: Path) -> Path:
    """A bundle that is ``core`` but for its temperature: its logits are half as large."""
    folder = shutil.copytree(load_bundle("core").path, tmp_path / "hotter")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["name"] = "hotter"
    manifest["calibration"]["temperature"] *= HOTTER
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def night(tmp_path: Path, make_alerts) -> Path:
    folder = tmp_path / "night"
    folder.mkdir()
    for number, sent in enumerate(make_alerts(ztf=40, poison=3)):
        (folder / f"{number:03d}.avro").write_bytes(sent.packet)
    return folder


def test_what_differs_is_told_and_shown(hotter: Path, night: Path, tmp_path: Path, capsys: Capture) -> None:
    assert run_command(["score", str(night), "--json"]) == OK
    verdicts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    scored = [v for v in verdicts if v["score"] is not None]
    scores = np.array([v["score"] for v in scored])
    logits = np.log(scores / (1 - scores))
    cooler = 1 / (1 + np.exp(-logits / HOTTER))
    point = float((scores.max() + cooler.max()) / 2)
    sheet, crossed = tmp_path / "changes.png", tmp_path / "crossed.jsonl"
    arguments = ["model", "compare", "core", str(hotter), str(night), "--threshold", str(point)]
    assert run_command([*arguments, "--sheet", str(sheet), "--crossed", str(crossed), "--json"]) == OK
    told = json.loads(capsys.readouterr().out)
    assert [bundle["model"] for bundle in told["bundles"]] == ["core", "hotter"]
    assert (told["alerts"], told["scored_by_both"], told["rejected"]) == (40, 40, [0, 0])
    assert told["histograms"][0] == np.histogram(scores, 20, (0, 1))[0].tolist()
    assert told["histograms"][1] == np.histogram(cooler, 20, (0, 1))[0].tolist()
    assert told["rose_above"] == 0
    assert told["fell_below"] == (scores >= point).sum() - (cooler >= point).sum() > 0
    fell = {v["alert_id"] for v, after in zip(scored, cooler, strict=True) if v["score"] >= point > after}
    lines = [json.loads(line) for line in crossed.read_text().splitlines()]
    assert {line["alert_id"] for line in lines} == fell
    assert len(lines) == len(fell) == told["fell_below"]
    assert all(line["before"] >= point > line["after"] for line in lines)
    assert told["mean_logit_change"] == pytest.approx((logits / HOTTER - logits).mean(), rel=1e-3)
    largest = told["largest"]
    assert len(largest) == SHOWN
    most = verdicts[int(np.argmax([abs(logit) for logit in _logits(verdicts)]))]
    assert largest[0]["alert_id"] == most["alert_id"]
    assert largest[0]["before"] == pytest.approx(most["score"], rel=1e-5)
    with Image.open(sheet) as image:
        assert min(image.size) > 200
    assert run_command(arguments) == OK
    said = capsys.readouterr().out
    assert "0 rose above" in said
    assert f"core {load_bundle('core').manifest.version}" in said


def _logits(verdicts: list[dict]) -> list[float]:
    return [0.0 if v["score"] is None else float(np.log(v["score"] / (1 - v["score"]))) for v in verdicts]


def test_a_bundle_is_no_different_from_itself(night: Path, capsys: Capture) -> None:
    assert run_command(["model", "compare", "core", "core", str(night), "--json"]) == OK
    told = json.loads(capsys.readouterr().out)
    assert told["rms_logit_change"] == told["rose_above"] == told["fell_below"] == 0
    assert told["histograms"][0] == told["histograms"][1]


def test_a_bundle_that_is_not_there(night: Path, capsys: Capture) -> None:
    assert run_command(["model", "compare", "core", "nosuch", str(night)]) == MODEL
    assert "nosuch" in capsys.readouterr().err


def test_a_sheet_that_has_nowhere_to_go_is_told_before_the_night_is_scored(
    tmp_path: Path, capsys: Capture
) -> None:
    sheet = str(tmp_path / "nosuch" / "changes.png")
    assert run_command(["model", "compare", "core", "core", str(tmp_path), "--sheet", sheet]) == USAGE
    assert "nosuch/changes.png: no such folder" in capsys.readouterr().err


def test_the_largest_changes_are_kept_over_many_batches(make_alerts) -> None:
    reader = PacketReader()
    (alert,) = (next(iter(reader.read(sent.packet))) for sent in make_alerts(ztf=1))
    noise = np.random.default_rng(2)
    comparison, changes = Comparison(), []
    for _ in range(30):
        logits = noise.normal(size=(2, 50)).astype(np.float32)
        logits[0, 0] = np.nan  # which the first bundle does not score
        changes += np.abs(logits[1] - logits[0])[1:].tolist()
        comparison.add([alert] * 50, logits)  # type: ignore[list-item]
    assert (comparison.alerts, comparison.scored, comparison.rejected.tolist()) == (1500, 1470, [30, 0])
    kept = sorted((change.by for change in comparison.largest), reverse=True)
    assert kept == pytest.approx(sorted(changes, reverse=True)[:SHOWN], rel=1e-6)
