"""The simulated sky over the nodes of a Ray cluster, and what becomes of a Ray of its own when it is stopped."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from waiting import holds, with_our_path

from space2vec.schemas.exit_codes import INTERRUPTED
from space2vec.training import simulate
from space2vec.training.simulate import Candidates, generate, simulators

COUNT = 200


@pytest.mark.ray
def test_two_nodes_simulate_the_bits_of_one_process(tmp_path: Path) -> None:
    # A Ray of several nodes is a process's own: this one's is taken by the tests beside.
    command = [sys.executable, __file__, str(tmp_path)]
    child = subprocess.run(
        command, check=False, timeout=120, capture_output=True, text=True, env=with_our_path()
    )
    assert child.returncode == 0, child.stderr
    account = json.loads((tmp_path / "told.json").read_text())
    assert account["processes"] == 2
    assert len(list((tmp_path / "nodes").iterdir())) == 2
    assert account["bits"] == bits(generate("des", COUNT, 4))


@pytest.mark.ray
def test_ctrl_c_ends_a_training_that_simulates_and_its_ray(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "space2vec.training.train", "--out", str(tmp_path / "core")]
    with (tmp_path / "log").open("w") as log:
        child = psutil.Popen([*command, "--count", "100000", "--processes", "2"], stdout=log, stderr=log)
    started: list[psutil.Process] = []
    try:
        assert holds(lambda: any("simulate_field" in name for name in titles(child)), 120)
        started = child.children(recursive=True)
        child.send_signal(signal.SIGINT)
        status = child.wait(30)
        _, left = psutil.wait_procs(started, 30)
    finally:
        for process in [child, *started]:
            if process.is_running():
                process.kill()
    told = (tmp_path / "log").read_text()
    assert (status, left) == (INTERRUPTED, []), told
    assert "Traceback" not in told
    assert not (tmp_path / "core").exists()


def titles(process: psutil.Popen) -> list[str]:
    """What the processes that it started call themselves; Ray's workers, by their task."""
    found = []
    for child in process.children(recursive=True):
        try:
            found.append(" ".join(child.cmdline()))
        except psutil.Error:  # it has just ended
            continue
    return found


def bits(candidates: Candidates) -> str:
    return hashlib.sha256(candidates.stamps.tobytes() + candidates.field.tobytes()).hexdigest()


def main(folder: Path) -> None:
    """Simulate over two nodes of one CPU; leave an account in ``told.json``, and a file named after each node."""
    from ray.cluster_utils import Cluster

    nodes = folder / "nodes"
    nodes.mkdir()
    field = simulate.simulate_field

    def noted(*arguments: Any) -> Candidates:
        import ray

        (nodes / ray.get_runtime_context().get_node_id()).touch()
        holds(lambda: len(list(nodes.iterdir())) == 2, 30)  # the other one's worker may yet have to start
        return field(*arguments)

    simulate.simulate_field = noted
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    with simulators(1, cluster.address) as processes:
        found = bits(generate("des", COUNT, 4, processes=processes))
    (folder / "told.json").write_text(json.dumps({"processes": processes, "bits": found}))
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
