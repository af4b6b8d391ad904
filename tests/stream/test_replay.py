"""Replaying into a folder: whatever happens on the way, the same files, byte for byte."""

from __future__ import annotations

import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from space2vec.schemas.errors import ConfigError
from space2vec.schemas.settings import Settings
from space2vec.stream import replay_folder, replay_manifest
from space2vec.stream.cli import run_command
from space2vec.stream.exit_codes import FAILED, OK, USAGE
from space2vec.stream.memory import MemoryScorer
from space2vec.stream.parquet_tables import alerts_table
from space2vec.stream.replay import Progress, Replay, replay_archive
from space2vec.stream.replay_archives import Archive, find_archives
from space2vec.stream.replay_audit import audit_replay
from space2vec.training.packets import ztf_packet
from space2vec.workers.bundle import Bundle, load_bundle
from space2vec.workers.scores import Scores
from trial import tar_of

Capture = pytest.CaptureFixture[str]


def archive_of(path: Path, packets: Sequence[bytes]) -> Archive:
    tar_of(path, {f"{number}.avro": packet for number, packet in enumerate(packets)})
    (found,) = find_archives([str(path)])
    return found


def brightness(stamps: np.ndarray) -> np.ndarray:
    return stamps.reshape(len(stamps), -1).sum(1)


class Judge(MemoryScorer):
    """Scores by a plain function, in the shape that a bundle has."""

    def __init__(self, bundle: Bundle, score: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__(score)
        outputs = bundle.manifest.outputs
        self._groups = len(outputs.kinds) + len(outputs.causes)

    def wait(self, ticket: object, timeout: float) -> Scores | None:
        scores = super().wait(ticket, timeout)
        if scores is None:
            return None
        return Scores(scores.logit, scores.embedding, np.zeros((len(scores), self._groups), np.float32))


def replayed(archive: Archive, to: str, stop: Event | None = None, **asked: Any) -> Progress:
    settings = Settings.model_validate({"stream": {"batch_alerts": 16, "commit_interval_s": 1e-9}})
    replay = Replay(settings, to, **asked)
    return replay_archive(replay, archive, lambda bundle: Judge(bundle, brightness), stop or Event())


def files_of(folder: Path, *kinds: str) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for kind in kinds or ("alerts", "rejected")
        for path in sorted((folder / kind).rglob("*.*"))
        if path.is_file()
    }


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows = [
        row
        for path in sorted((folder / "alerts").rglob("*.parquet"))
        for row in pq.ParquetFile(path).read().to_pylist()
    ]
    return sorted(rows, key=lambda row: row["member"])


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_folder, "PART_MEMBERS", 32)


@pytest.fixture
def night(tmp_path: Path, make_alerts, small_parts: None) -> Archive:
    return archive_of(tmp_path / "night.tar.gz", [s.packet for s in make_alerts(ztf=150, poison=8)])


# -- what is written ---------------------------------------------------------------------------------------------


def test_every_packet_is_a_row_or_rejected_whole(tmp_path: Path, make_alerts, small_parts: None) -> None:
    sent = make_alerts(ztf=70, poison=6)
    out = tmp_path / "out"
    ended = replayed(archive_of(tmp_path / "night.tar.gz", [s.packet for s in sent]), f"parquet:{out}")
    rows = rows_of(out)
    good = {number: s for number, s in enumerate(sent) if s.alert_id is not None}
    bad = {number: s for number, s in enumerate(sent) if s.alert_id is None}
    assert {row["member"]: row["alert_id"] for row in rows} == {n: s.alert_id for n, s in good.items()}
    rejected = [row for path in (out / "rejected").iterdir() for row in pq.read_table(path).to_pylist()]
    assert {row["member"]: row["packet"] for row in rejected} == {n: s.packet for n, s in bad.items()}
    assert all(row["file"] == f"{row['member']}.avro" and row["reason"] and row["detail"] for row in rejected)
    assert (ended.done, ended.counts.messages, ended.counts.rejected) == (True, 76, 6)
    assert ended.counts.scored + ended.counts.degraded == 70
    (account,) = audit_replay(Settings(), f"parquet:{out}")
    assert account.balanced
    assert not account.findings
    assert account.messages == 76


def test_rows_go_by_the_night_they_were_observed_in(tmp_path: Path, small_parts: None) -> None:
    stamps = [np.random.default_rng(1).normal(size=(63, 63)).astype(np.float32) for _ in range(3)]
    packets = [
        ztf_packet(*stamps, alert_id=i, object_id=f"ZTF{i}", jd=jd, ra=1.0, dec=2.0)
        for i, jd in enumerate(
            [2458451.7, 2458451.9999, 2458452.02]
        )  # 29 November 2018, 4:48, 12:00, 12:29 UTC
    ]
    replayed(archive_of(tmp_path / "n.tar.gz", packets), f"parquet:{tmp_path / 'out'}")
    nights = {
        p.name: sum(pq.read_metadata(f).num_rows for f in p.iterdir())
        for p in (tmp_path / "out/alerts").iterdir()
    }
    assert nights == {"night=20181128": 1, "night=20181129": 2}


def test_the_file_says_what_scored(night: Archive, tmp_path: Path) -> None:
    replayed(night, f"parquet:{tmp_path / 'out'}")
    path = next((tmp_path / "out/alerts").rglob("*.parquet"))
    schema = pq.read_schema(path)
    told = {name.decode(): value.decode() for name, value in schema.metadata.items() if b"space2vec" in name}
    assert told["space2vec.model"] == "core"
    assert len(told["space2vec.sha256"]) == 64
    assert told["space2vec.digest"] == night.digest
    assert {"p_real", "p_bogus", "score", "logit", "flags"} < set(schema.names)


def test_what_a_bundle_tells_beyond_real_and_bogus_has_columns_too() -> None:
    def told(*labels: str) -> list[dict[str, Any]]:
        return [{"label": label, "classId": None, "probability": 1 / len(labels)} for label in labels]

    row = {
        "survey": "ztf", "alert_id": 1, "object_id": None, "mjd_tai": 61300.5, "ra": 1.0, "dec": 2.0,
        "status": "degraded", "score": 0.5, "logit": 0.0, "spread": 0.25, "flags": ["edge", "nan"], "passes": ["pure"],
        "classifications": told("real", "bogus"), "kinds": told("supernova", "star"), "causes": told("dipole"),
        "embedding": [1.0, 2.0], "archive": "n.tar", "member": 3,
    }  # fmt: skip
    (found,) = pq.read_table(io.BytesIO(alerts_table([row], {"model": "made"}))).to_pylist()
    assert (found["flags"], found["passes"], found["embedding"]) == ("edge nan", "pure", [1.0, 2.0])
    assert found["spread"] == 0.25
    assert {name: value for name, value in found.items() if name.startswith(("p_", "kind_", "cause_"))} == {
        "p_real": 0.5, "p_bogus": 0.5, "kind_supernova": 0.5, "kind_star": 0.5, "cause_dipole": 1.0,
    }  # fmt: skip


def test_avro_parts_hold_classification_records(night: Archive, tmp_path: Path) -> None:
    import fastavro

    ended = replayed(night, f"avro:{tmp_path / 'out'}")
    replayed(night, f"parquet:{tmp_path / 'tables'}")
    records = []
    for path in sorted((tmp_path / "out/alerts").rglob("*.avro")):
        with path.open("rb") as file:
            records += list(fastavro.reader(file))
    rows = rows_of(tmp_path / "tables")
    assert [(r["offset"], r["alert_id"], r["logit"]) for r in records] == [
        (row["member"], row["alert_id"], row["logit"]) for row in rows
    ]
    assert len(records) == ended.counts.messages - ended.counts.rejected == 150


# -- stopped, killed, begun again --------------------------------------------------------------------------------


class PowerCut(BaseException):
    pass


def test_a_power_cut_at_any_write_changes_nothing(
    night: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replayed(night, f"parquet:{tmp_path / 'calm'}")
    out, replace = tmp_path / "out", replay_manifest.replace_file
    noise, cuts = random.Random(3), 0

    def dying(path: Path, content: bytes) -> None:
        if noise.random() < 0.25:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f".{path.name}.draft").write_bytes(content[: len(content) // 2])
            raise PowerCut
        replace(path, content)
        if noise.random() < 0.1:
            raise PowerCut

    monkeypatch.setattr(replay_manifest, "replace_file", dying)
    while True:
        try:
            ended = replayed(night, f"parquet:{out}")
        except PowerCut:
            cuts += 1
            continue
        break
    assert cuts >= 3
    assert ended.done
    assert ended.counts.messages == 158
    calm = files_of(tmp_path / "calm")
    assert {name: content for name, content in files_of(out).items() if ".draft" not in name} == calm


def test_every_name_is_on_disk_before_the_manifest_tells_of_it(
    night: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is synced holds its entries for good; one that a part is in must itself be an entry of such a one."""
    out, fsync = tmp_path / "new" / "out", os.fsync
    durable: set[Path] = set()

    def syncing(file: int) -> None:
        fsync(file)
        synced = Path(f"/proc/self/fd/{file}").readlink()
        durable.update(synced.iterdir() if synced.is_dir() else [synced.with_suffix("")])

    save = replay_manifest.Manifest.save
    saved: list[int] = []

    def checked(manifest: Any, folder: Path, shard: str) -> None:
        named = {folder / name for part in manifest.parts for name in part.files}
        above = {each for path in named for each in path.parents if tmp_path in each.parents}
        assert named | above <= durable
        save(manifest, folder, shard)
        assert {folder / "manifests", folder / "manifests" / f"{shard}.json"} <= durable
        saved.append(len(named))

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(replay_manifest.Manifest, "save", checked)
    replayed(night, f"parquet:{out}")
    assert saved
    assert saved[-1] >= 5


def test_stopped_and_begun_again_until_it_is_done(night: Archive, tmp_path: Path) -> None:
    replayed(night, f"parquet:{tmp_path / 'calm'}")
    to, calls = f"parquet:{tmp_path / 'out'}", 0
    ended = None
    while ended is None or not ended.done:
        stop = Event()
        settings = Settings.model_validate({"stream": {"batch_alerts": 16, "commit_interval_s": 1e-9}})

        def score(stamps: np.ndarray, stop: Event = stop) -> np.ndarray:
            score.seen += len(stamps)  # type: ignore[attr-defined]
            if score.seen >= 64:  # type: ignore[attr-defined]
                stop.set()
            return brightness(stamps)

        score.seen = 0  # type: ignore[attr-defined]
        ended = replay_archive(Replay(settings, to), night, lambda bundle, s=score: Judge(bundle, s), stop)  # type: ignore[misc]
        calls += 1
        assert calls < 10
    assert calls >= 2
    assert files_of(tmp_path / "out") == files_of(tmp_path / "calm")


def test_what_is_done_is_not_done_again_unless_asked(night: Archive, tmp_path: Path) -> None:
    to = f"parquet:{tmp_path / 'out'}"
    assert not replayed(night, to).skipped
    before = files_of(tmp_path / "out", "alerts", "rejected", "manifests")
    second = replayed(night, to)
    assert (second.skipped, second.fresh, second.counts.messages) == (True, 0, 158)
    third = replayed(night, to, again=True)
    assert (third.skipped, third.fresh) == (False, 158)
    assert files_of(tmp_path / "out") == {n: c for n, c in before.items() if not n.startswith("manifests")}


def test_a_folder_holds_one_model_and_one_format_per_archive(
    night: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replayed(night, f"parquet:{tmp_path / 'out'}")
    with pytest.raises(ConfigError, match="as parquet"):
        replayed(night, f"avro:{tmp_path / 'out'}")
    manifest = next((tmp_path / "out/manifests").glob("*.json"))
    told = json.loads(manifest.read_text())
    told["model"]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(told))
    with pytest.raises(ConfigError, match="another folder for this model"):
        replayed(night, f"parquet:{tmp_path / 'out'}")
    manifest.write_text("{}")
    with pytest.raises(ConfigError, match="not a replay's manifest"):
        replayed(night, f"parquet:{tmp_path / 'out'}")


def test_two_replays_of_one_archive_do_not_meet(night: Archive, tmp_path: Path) -> None:
    with (
        replay_manifest.locked(tmp_path / "out", night.shard),
        pytest.raises(ConfigError, match="another replay is writing"),
    ):
        replayed(night, f"parquet:{tmp_path / 'out'}")


def test_an_audit_finds_a_part_that_is_gone_or_changed(night: Archive, tmp_path: Path) -> None:
    replayed(night, f"parquet:{tmp_path / 'out'}")
    first, second, *_ = sorted((tmp_path / "out/alerts").rglob("*.parquet"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    (account,) = audit_replay(Settings(), f"parquet:{tmp_path / 'out'}")
    assert not account.balanced
    assert [(f.first, f.last) for f in account.findings] == [(0, 31), (32, 63)]
    assert account.missing == 64


def test_an_audit_finds_files_that_no_manifest_names(night: Archive, tmp_path: Path) -> None:
    out = tmp_path / "out"
    replayed(night, f"parquet:{out}")
    part = next((out / "alerts").rglob("*-000000032-000000064.parquet"))
    part.with_name(part.name.replace("000000064", "000000050")).write_bytes(part.read_bytes())
    (account,) = audit_replay(Settings(), f"parquet:{out}")
    assert not account.balanced
    assert [(f.first, f.last) for f in account.findings] == [(32, 49)]
    assert "doubled" in str(account.findings[0])
    assert account.doubled == 18


def test_nothing_is_not_balanced(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing has been replayed there"):
        audit_replay(Settings(), f"parquet:{tmp_path}")


def test_many_rejected_packets_end_a_part_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_parts: None
) -> None:
    monkeypatch.setattr(replay_folder, "PART_BYTES", 10_000)
    ended = replayed(archive_of(tmp_path / "n.tar.gz", [b"x" * 3000] * 40), f"parquet:{tmp_path / 'out'}")
    assert ended.counts.rejected == 40
    manifest = json.loads(next((tmp_path / "out/manifests").glob("*.json")).read_text())
    assert [(part["first"], part["end"]) for part in manifest["parts"]] == [
        (i, i + 4) for i in range(0, 40, 4)
    ]


def test_an_archive_cut_off_is_replayed_as_far_as_it_goes(
    tmp_path: Path, make_alerts, small_parts: None
) -> None:
    whole = tmp_path / "night.tar.gz"
    archive_of(whole, [s.packet for s in make_alerts(ztf=60)])
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    ended = replayed(find_archives([str(cut)])[0], f"parquet:{tmp_path / 'out'}")
    assert ended.done
    assert 25 <= ended.counts.messages <= 33
    assert len(rows_of(tmp_path / "out")) == ended.counts.messages
    (fault,) = ended.faults
    assert "cut.tar.gz" in fault
    assert replayed(find_archives([str(cut)])[0], f"parquet:{tmp_path / 'out'}").faults == ended.faults


# -- as the user has it ------------------------------------------------------------------------------------------


KILLED = """
import os, signal, sys, threading
from space2vec.stream import replay_folder, replay_manifest
from space2vec.stream.cli import run_command

wait, after = int(sys.argv[1]), float(sys.argv[2])
replay_folder.PART_MEMBERS = 64
replace, writes = replay_manifest.replace_file, 0

def killing(path, content):
    global writes
    writes += 1
    if writes == wait:
        threading.Timer(after, os.kill, (os.getpid(), signal.SIGKILL)).start()
    if writes > wait + 3:
        threading.Event().wait()  # so it cannot be through before it is killed, however fast the machine
    replace(path, content)

replay_manifest.replace_file = killing
sys.exit(run_command(sys.argv[3:]))
"""


@pytest.mark.timeout(280)
def test_killed_at_random_and_begun_again(
    tmp_path: Path, make_alerts, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """A thousand alerts, one in a hundred damaged, kill -9 three times: the same files as undisturbed."""
    sent = make_alerts(ztf=200, poison=2)
    archive_of(tmp_path / "night.tar.gz", [sent[i % len(sent)].packet for i in range(1010)])
    monkeypatch.setattr(replay_folder, "PART_MEMBERS", 64)

    def verb(out: str) -> list[str]:
        return ["replay", str(tmp_path / "night.tar.gz"), "--to", f"parquet:{tmp_path / out}", "--json"]

    assert run_command(verb("calm")) == OK
    expected = json.loads(capsys.readouterr().out)
    noise = random.Random(5)
    for _ in range(3):
        when = [str(noise.randint(1, 5)), str(noise.random() * 0.02)]
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, *when, *verb("out")],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            check=False,
        )
        assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, b"")
    assert run_command(verb("out")) == OK
    told = json.loads(capsys.readouterr().out)
    assert 0 < told["fresh"] < 1010
    for name in ("alerts", "scored", "degraded", "rejected", "reasons", "done"):
        assert told[name] == expected[name]
    assert told["alerts"] == 1010
    names = files_of(tmp_path / "out")
    assert {n: c for n, c in names.items() if ".draft" not in n} == files_of(tmp_path / "calm")
    assert run_command(["audit", "--replay", f"parquet:{tmp_path / 'out'}"]) == OK


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
    night: Archive, tmp_path: Path, capsys: Capture, arguments: list[str], complaint: str,
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
