"""`space2vec replay` as its users have it: scores as by `score`, its complaints, and the examples of docs/replay.md."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
from replaying import archive_of, rows_of

from space2vec.schemas.exit_codes import FAILED, OK, USAGE
from space2vec.stream import replay_folder
from space2vec.stream.cli import run_command
from space2vec.stream.replay_archives import Archive, find_archives
from space2vec.workers.bundle import load_bundle

Capture = pytest.CaptureFixture[str]


def test_scores_are_those_of_score(tmp_path: Path, make_alerts, capsys: Capture) -> None:
    folder = tmp_path / "packets"
    folder.mkdir()
    for number, sent in enumerate(make_alerts(ztf=12, poison=2)):
        (folder / f"{number:03d}.avro").write_bytes(sent.packet)
    assert run_command(["score", str(folder), "--json"]) == OK
    scored = {Path(v["file"]).name: v["score"] for v in map(json.loads, capsys.readouterr().out.splitlines())}
    assert run_command(["replay", str(folder), "--to", f"parquet:{tmp_path / 'out'}", "--json"]) == OK
    summary = json.loads(capsys.readouterr().out)
    assert (summary["alerts"], summary["rejected"], summary["done"]) == (14, 2, 1)
    names = sorted(scored)
    assert {names[row["member"]]: row["score"] for row in rows_of(tmp_path / "out")} == {
        name: pytest.approx(score, rel=1e-6) for name, score in scored.items() if score is not None
    }


def test_real_packets_score_as_by_score(shared: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = shared / "packets" / "ztf"
    (archive,) = find_archives([str(folder)])
    assert run_command(["score", str(folder), "--json"]) == OK
    scored = {Path(v["file"]).name: v["score"] for v in map(json.loads, capsys.readouterr().out.splitlines())}
    tar = tmp_path / "real.tar.gz"
    with tarfile.open(tar, "w:gz") as out:
        for file in archive.files:
            out.add(file.path, file.name)
    assert run_command(["replay", str(tar), "--to", f"parquet:{tmp_path / 'out'}", "--json"]) == OK
    summary = json.loads(capsys.readouterr().out)
    rows = rows_of(tmp_path / "out")
    names = [file.name for file in archive.files]
    assert summary["alerts"] >= len(archive.files)
    assert len(rows) == sum(score is not None for score in scored.values())
    assert all(row["score"] == pytest.approx(scored[names[row["member"]]], rel=1e-6) for row in rows)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--to", "somewhere"], "expected kafka:TOPIC"),
        (["--to", "csv:x"], "expected kafka:TOPIC"),
        (["--to", "parquet:x", "--rate", "1", "--speed", "1"], "take one"),
        (["--to", "parquet:x", "--annotated", "t"], "to Kafka only"),
        (["--to", "parquet:x", "--local", "--workers", "2"], "--local is without"),
        (["--to", "parquet:x", "--verify", "nosums"], "nosums"),
    ],
)
def test_wrong_flags_are_refused(
    archive: Archive, tmp_path: Path, capsys: Capture, arguments: list[str], complaint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run_command(["replay", str(tmp_path / "night.tar.gz"), *arguments]) == USAGE
    assert complaint in capsys.readouterr().err


def test_a_damaged_archive_is_a_failure_that_says_what_is_lost(
    tmp_path: Path, make_alerts, capsys: Capture
) -> None:
    path = tmp_path / "n.tar.gz"
    archive_of(path, [s.packet for s in make_alerts(ztf=6)])
    path.write_bytes(path.read_bytes()[:-3000])
    assert run_command(["replay", str(path), "--to", f"parquet:{tmp_path / 'out'}"]) == FAILED
    said = capsys.readouterr().err
    assert "5 packets, done" in said
    assert "n.tar.gz: " in said


# -- for astronomers ---------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs/replay.md").read_text()
EXAMPLES = dict(re.findall(r"^(\w+):\n\n```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))


@pytest.fixture(scope="module")
def scores(make_alerts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which ``scores/`` is a night replayed, in several parts."""
    folder = tmp_path_factory.mktemp("examples")
    night = archive_of(folder / "night.tar.gz", [s.packet for s in make_alerts(ztf=100, poison=2)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay_folder, "PART_MEMBERS", 32)
        assert run_command(["replay", night.files[0].path, "--to", f"parquet:{folder / 'scores'}"]) == OK
    return folder


@pytest.mark.parametrize("library", ["pandas", "polars", "DuckDB", "astropy"])
def test_the_examples_of_the_page_work(library: str, scores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As written in docs/replay.md."""
    rows = rows_of(scores / "scores")
    expected = sum(row["score"] > 0.9 for row in rows)
    assert 0 < expected < len(rows) == 100
    monkeypatch.chdir(scores)
    found: dict[str, Any] = {}
    exec(EXAMPLES[library], found)
    if library == "DuckDB":
        ((night, count, mean),) = found["real"]
        assert (int(night), count) == (20260916, expected)
        assert 0.9 < mean <= 1
    else:
        assert len(found["real"]) == expected
    if library == "polars":
        assert found["vectors"].shape == (expected, load_bundle("core").manifest.outputs.embedding)
