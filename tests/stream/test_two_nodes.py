"""Stream workers and classifiers over two Ray nodes, one of which is lost in the middle."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from waiting import holds, with_our_path

from space2vec.schemas.settings import Settings
from space2vec.stream.audit import audit
from space2vec.stream.lag import LagReader, LagWatch


@pytest.mark.ray
@pytest.mark.timeout(360)
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
    (tmp_path / "settings.json").write_text(settings.model_dump_json())
    # A Ray of several nodes is a process's own: this one's is taken by the tests beside.
    with (tmp_path / "log").open("w") as log:  # no pipe: one that nobody empties would stop it
        child = subprocess.Popen(
            [sys.executable, __file__, str(tmp_path)], stdout=log, stderr=log, env=with_our_path()
        )
    try:
        holds((tmp_path / "killed").exists, 130, child)
        kafka.produce(topic, [s.packet for s in sent[200:]])  # what comes once the node is gone
        # By the group's offsets, not by what the application has counted: it cannot know of what the lost worker
        # committed after its last report.
        watch = LagWatch(lambda: LagReader(settings), 0.5)
        watch.start()
        answered = holds(lambda: watch.latest is not None and not any(watch.latest.values()), 120, child)
        watch.stop()
        (tmp_path / "enough").touch()
        holds(lambda: child.poll() is not None, 60)
    finally:
        child.kill()
        child.wait()
    account = json.loads((tmp_path / "told.json").read_text()) if child.returncode == 0 else {}
    told = f"behind: {watch.latest}\n{account}\n{(tmp_path / 'log').read_text()}"
    assert answered, told
    assert account.get("whole_again"), told
    assert account["nodes_of_workers"] == account["nodes_of_classifiers"] == 2
    assert account["alive_after"] == account["alive_before"] - 1
    assert account["restarts"] >= 1
    assert_all_answered(Outputs(kafka, settings), sent, exactly=True)
    assert all(partition.balanced for partition in audit(settings))


def main(folder: Path) -> None:
    """Run the application on a head without CPUs and two nodes; lose one of them once alerts are answered.

    It ends when there is a file ``enough`` in the folder, and leaves its account in ``told.json``.
    """
    import ray
    from ray._private.state import actors  # the public one asks the dashboard, which is not started
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
            account["actors"] = [(actor["ActorClassName"], actor["State"]) for actor in actors().values()]
        finally:
            stop.set()

    def play() -> None:
        assert holds(lambda: bool(latest) and latest[-1].counts.messages >= 100, 100)
        account["nodes_of_workers"] = len(homes("StreamWorker"))
        account["nodes_of_classifiers"] = len(homes("Classifier"))
        account["alive_before"] = alive()
        cluster.remove_node(nodes[0], allow_graceful=False)
        (folder / "killed").touch()
        holds(lambda: alive() < account["alive_before"], 60)
        account["alive_after"] = alive()
        holds((folder / "enough").exists, 150)
        account["whole_again"] = holds(lambda: None not in (*latest[-1].loads, *latest[-1].classifiers), 30)

    def homes(kind: str) -> set[str]:
        return {
            actor["Address"]["NodeID"]
            for actor in actors().values()
            if actor["ActorClassName"] == kind and actor["State"] == "ALIVE"
        }

    def alive() -> int:
        return sum(node["Alive"] for node in ray.nodes())

    conductor = threading.Thread(target=conduct, daemon=True)
    conductor.start()
    summary = run_application(settings, stop, latest.append)
    conductor.join(5)
    account |= {"restarts": summary.restarts, "counted": summary.counts.messages}
    (folder / "told.json").write_text(json.dumps(account))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
