"""Replays that are stopped, killed, or begun again: the same files, byte for byte, and nothing done twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from replaying import archive_of, brightness, files_of, replayed

from space2vec.schemas.errors import ConfigError
from space2vec.schemas.exit_codes import OK
from space2vec.stream import replay_folder, replay_manifest
from space2vec.stream.cli import run_command
from space2vec.stream.replay_archives import Archive

Capture = pytest.CaptureFixture[str]


class PowerCut(BaseException):
    pass


def test_a_power_cut_at_any_write_changes_nothing(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replayed(archive, f"parquet:{tmp_path / 'calm'}")
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
            ended = replayed(archive, f"parquet:{out}")
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
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    replayed(archive, f"parquet:{out}")
    assert saved
    assert saved[-1] >= 5


def test_stopped_and_begun_again_until_it_is_done(archive: Archive, tmp_path: Path) -> None:
    replayed(archive, f"parquet:{tmp_path / 'calm'}")
    to, calls = f"parquet:{tmp_path / 'out'}", 0
    ended = None
    while ended is None or not ended.done:
        stop = Event()
        seen: list[np.ndarray] = []

        def score(stamps: np.ndarray, stop: Event = stop, seen: list[np.ndarray] = seen) -> np.ndarray:
            seen.extend(stamps)
            if len(seen) >= 64:
                stop.set()
            return brightness(stamps)

        ended = replayed(archive, to, stop, score)
        calls += 1
        assert calls < 10
    assert calls >= 2
    assert files_of(tmp_path / "out") == files_of(tmp_path / "calm")


def test_what_is_done_is_not_done_again_unless_asked(archive: Archive, tmp_path: Path) -> None:
    to = f"parquet:{tmp_path / 'out'}"
    assert not replayed(archive, to).skipped
    before = files_of(tmp_path / "out", "alerts", "rejected", "manifests")
    second = replayed(archive, to)
    assert (second.skipped, second.fresh, second.counts.messages) == (True, 0, 158)
    third = replayed(archive, to, again=True)
    assert (third.skipped, third.fresh) == (False, 158)
    assert files_of(tmp_path / "out") == {n: c for n, c in before.items() if not n.startswith("manifests")}


def test_a_folder_holds_one_model_and_one_format_per_archive(archive: Archive, tmp_path: Path) -> None:
    replayed(archive, f"parquet:{tmp_path / 'out'}")
    with pytest.raises(ConfigError, match="as parquet"):
        replayed(archive, f"avro:{tmp_path / 'out'}")
    manifest = next((tmp_path / "out/manifests").glob("*.json"))
    told = json.loads(manifest.read_text())
    told["model"]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(told))
    with pytest.raises(ConfigError, match="another folder for this model"):
        replayed(archive, f"parquet:{tmp_path / 'out'}")
    manifest.write_text("{}")
    with pytest.raises(ConfigError, match="not a replay's manifest"):
        replayed(archive, f"parquet:{tmp_path / 'out'}")


def test_two_replays_of_one_archive_do_not_meet(archive: Archive, tmp_path: Path) -> None:
    with (
        replay_manifest.locked(tmp_path / "out", archive.shard),
        pytest.raises(ConfigError, match="another replay is writing"),
    ):
        replayed(archive, f"parquet:{tmp_path / 'out'}")


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
