"""Several nights side by side on Ray: the same files as one after the other, whoever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import pytest

from space2vec.schemas.exit_codes import OK, USAGE
from space2vec.stream.cli import run_command
from trial import actor_pids, tar_of

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def nights(tmp_path: Path, make_alerts) -> list[Path]:
    return [
        tar_of(
            tmp_path / f"night-{seed}.tar.gz",
            {f"{n}.avro": s.packet for n, s in enumerate(make_alerts(ztf=100, seed=seed, poison=4))},
        )
        for seed in (1, 2, 3)
    ]


def files_of(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*.parquet") if not path.name.startswith(".")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.timeout(280)
def test_nights_side_by_side_though_a_worker_dies(
    ray_cluster, nights, tmp_path: Path, capsys: Capture
) -> None:
    names = [str(path) for path in nights]
    assert run_command(["replay", *names, "--to", f"parquet:{tmp_path / 'one'}", "--local"]) == OK
    capsys.readouterr()
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 60
        while not killed and time.monotonic() < deadline:
            time.sleep(0.05)
            if list((tmp_path / "side/manifests").glob("*.lock")):  # one has begun
                for process in list(actor_pids("ReplayWorker"))[:1]:
                    os.kill(process, signal.SIGKILL)
                    killed.append(process)

    killer = Thread(target=kill)
    killer.start()
    side = [
        "replay",
        *names,
        "--to",
        f"parquet:{tmp_path / 'side'}",
        "--workers",
        "2",
        "--rate",
        "100",
        "--nice",
        "3",
    ]
    assert run_command([*side, "--json"]) == OK
    killer.join()
    told = json.loads(capsys.readouterr().out)
    assert killed
    assert (told["archives"], told["done"], told["alerts"], told["rejected"]) == (3, 3, 312, 12)
    assert files_of(tmp_path / "side") == files_of(tmp_path / "one")
    assert run_command(["audit", "--replay", f"parquet:{tmp_path / 'side'}"]) == OK


def test_a_share_of_the_processor_is_for_one_process(nights, tmp_path: Path, capsys: Capture) -> None:
    to = f"parquet:{tmp_path / 'out'}"
    assert run_command(["replay", str(nights[0]), "--to", to, "--workers", "2", "--cores", "0.5"]) == USAGE
    assert "--cores is for one process" in capsys.readouterr().err


def test_giving_way_lowers_every_thread_and_is_never_taken_back() -> None:
    program = (
        "import os, threading; from space2vec.workers.niceness import give_way\n"
        "at, go = threading.Barrier(2), threading.Event()\n"
        "thread = threading.Thread(target=lambda: (at.wait(), go.wait())); thread.start(); at.wait()\n"
        "before = os.getpriority(os.PRIO_PROCESS, 0)\n"
        "give_way(0); give_way(15); give_way(5)\n"
        "found = {os.getpriority(os.PRIO_PROCESS, int(t)) for t in os.listdir('/proc/self/task')}\n"
        "go.set(); print(found == {max(before, 15)})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
