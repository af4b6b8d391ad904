"""Stream workers and classifiers over two Ray nodes, one of which is lost in the middle."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from space2vec.schemas.settings import Settings
from space2vec.stream.audit import audit


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_lost_node_loses_no_alert(kafka, broker, settings_for, make_alerts, tmp_path) -> None:
    if broker.kind == "embedded":
        pytest.skip(f"not provable on the embedded broker: {broker.cannot_prove}")
    from trial import Outputs, assert_all_answered

    sent = make_alerts(ztf=300, lsst=100, seed=41, poison=4)
    topic = kafka.create_topic(partitions=4, max_message_bytes=4 << 20)
    settings = settings_for(
        topic, ray={"workers": 2, "classifiers": 2}, stream={"until_eof": False, "delivery": "exactly-once"}
    )
    kafka.produce(topic, [s.packet for s in sent[:200]])
    told, ready = tmp_path / "told.json", tmp_path / "killed"
    (tmp_path / "settings.json").write_text(settings.model_dump_json())
    # A Ray of several nodes is a process's own: this one's is taken by the tests beside.
    command = [sys.executable, __file__, str(tmp_path), str(len(sent))]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        deadline = time.monotonic() + 200
        while not ready.exists() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        kafka.produce(topic, [s.packet for s in sent[200:]])  # what comes once the node is gone
        output, _ = child.communicate(timeout=200)
    finally:
        child.kill()
    assert child.returncode == 0, output
    account = json.loads(told.read_text())
    assert account.keys() >= {"alive_after", "restarts"}, output
    assert account["nodes_of_workers"] == 2
    assert account["alive_after"] == account["alive_before"] - 1
    assert account["restarts"] >= 1
    assert_all_answered(Outputs(kafka, settings), sent, exactly=True)
    assert all(partition.balanced for partition in audit(settings))


def main(folder: Path, messages: int) -> None:
    """Run the application on a head without CPUs and two nodes; lose one of them once alerts are answered."""
    import ray
    from ray.cluster_utils import Cluster

    from space2vec.stream.app import run_application
    from space2vec.stream.summary import Summary

    settings = Settings.model_validate_json((folder / "settings.json").read_text())
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=4) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    account: dict[str, Any] = {}
    stop = threading.Event()
    latest: list[Summary] = []

    def conduct() -> None:
        try:
            play()
        finally:
            stop.set()

    def play() -> None:
        await_that(lambda: bool(latest) and latest[-1].counts.messages >= 100)
        account["nodes_of_workers"] = len(homes("StreamWorker"))
        account["alive_before"] = alive()
        cluster.remove_node(nodes[0], allow_graceful=False)
        (folder / "killed").touch()
        await_that(lambda: alive() < account["alive_before"])
        account["alive_after"] = alive()
        await_that(lambda: latest[-1].counts.messages >= messages)
        account["restarts"] = latest[-1].restarts

    def homes(kind: str) -> set[str]:
        from ray._private.state import actors  # the public one asks the dashboard, which is not started

        return {
            actor["Address"]["NodeID"]
            for actor in actors().values()
            if actor["ActorClassName"] == kind and actor["State"] == "ALIVE"
        }

    def alive() -> int:
        return sum(node["Alive"] for node in ray.nodes())

    conductor = threading.Thread(target=conduct, daemon=True)
    conductor.start()
    run_application(settings, stop, latest.append)
    conductor.join(5)
    (folder / "told.json").write_text(json.dumps(account))
    ray.shutdown()
    cluster.shutdown()


def await_that(holds: Callable[[], bool], deadline_s: float = 120) -> None:
    deadline = time.monotonic() + deadline_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.2)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
