"""Kill things for as long as alerts flow, and count what came out.

Real Apache Kafka, three brokers; `space2vec run` with three stream workers and two classifiers as an
operator would run it, restarted by this script when it dies, as Kubernetes would. Every few seconds
something is killed with SIGKILL: a stream worker, a classifier, a child of the Ray head, the whole
application, a broker. Alerts are published all the while. At the end read_committed readers count every
alert id, and `space2vec audit` recounts from the topics.

Examples::

    python bench/chaos.py --json
    python bench/chaos.py --alerts 3000 --kills 8 --topology two --seed 7
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from space2vec.schemas.classification import decode_classification
from space2vec.schemas.settings import ClusterSettings
from space2vec.stream.broker_apache import ApacheCluster
from space2vec.stream.topic_reader import TopicReader
from space2vec.training.packets import ztf_packet

TOPIC = "alerts"
PARTITIONS = 6
FENCING = {"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}
VICTIMS = {"worker": 4, "classifier": 3, "broker": 3, "ray": 1, "application": 1}  # and how often


def main() -> int:
    """Run it; 0 when nothing was lost or doubled."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--alerts", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--topology", choices=("one", "two"), default="one", help="clusters")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--settle", type=float, default=600.0, help="most seconds to answer what is left")
    parser.add_argument("--json", action="store_true", help="one JSON line on stdout")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="space2vec-chaos-") as folder:
        result = Chaos(args, Path(folder)).run()
    if args.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:>12}: {value}")
    return 0 if result["lost"] == result["duplicated"] == 0 and result["balanced"] else 1


def say(what: str) -> None:
    """Tell how far it is, and when."""
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


class Chaos:
    """One run."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args = args
        self.folder = folder
        self.random = random.Random(args.seed)
        self.kills: Counter[str] = Counter()
        self.app: subprocess.Popen[bytes] | None = None
        self.down: list[tuple[float, int]] = []  # brokers to start again, and when

    def run(self) -> dict[str, object]:
        began = time.monotonic()
        self.cluster = ApacheCluster(3, self.folder / "kafka", FENCING)
        self.source = self.cluster
        if self.args.topology == "two":
            self.source = ApacheCluster(1, self.folder / "source")
        try:
            for cluster in {self.cluster, self.source}:
                cluster.launch()
            self.prepare()
            self.storm()
            say("storm over")
            self.settle()
            say("settled")
            lost, duplicated = self.count()
            say("counted")
            balanced = self.audit()
        except BaseException:
            self.tell_log()
            raise
        finally:
            self.end_application(signal.SIGKILL)
            for cluster in {self.cluster, self.source}:
                cluster.stop()
        return {
            "alerts": self.args.alerts,
            "kills": sum(self.kills.values()),
            "lost": lost,
            "duplicated": duplicated,
            "balanced": balanced,
            "seconds": round(time.monotonic() - began, 1),
            "topology": self.args.topology,
            "seed": self.args.seed,
            "killed": dict(self.kills),
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        }

    # ---- before ------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the source topic and the settings file."""
        admin = AdminClient({"bootstrap.servers": self.source.bootstrap})
        topic = NewTopic(TOPIC, PARTITIONS, replication_factor=-1, config={"max.message.bytes": str(4 << 20)})
        admin.create_topics([topic])[TOPIC].result(60)
        home = f'brokers = "{self.cluster.bootstrap}"\n' if self.source is not self.cluster else ""
        self.config = self.folder / "chaos.toml"
        self.config.write_text(
            f'[source]\nbrokers = "{self.source.bootstrap}"\ntopics = ["{TOPIC}"]\ngroup = "chaos"\n'
            f"[sink]\n{home}partitions = 3\n"
            '[model]\ndevice = "cpu"\n[ray]\nworkers = 3\nclassifiers = 2\n'
            # A small batch and commit interval: many transactions to be caught in the middle of.
            '[stream]\ninstance = "chaos"\nbatch_alerts = 64\ncommit_interval_s = 0.3\ndelivery = "exactly-once"\n'
            '[source.options]\n"session.timeout.ms" = "6000"\n"topic.metadata.refresh.interval.ms" = "5000"\n'
        )
        self.producer = Producer(
            {
                "bootstrap.servers": self.source.bootstrap,
                "enable.idempotence": True,
                "compression.type": "zstd",
                "linger.ms": 20,
                "log_level": 2,
            }
        )

    def packets(self) -> Iterator[bytes]:
        """Alerts that differ in id alone: what is scored is not what is tested here."""
        stamp = np.zeros((63, 63), np.float32)
        stamp[31, 31] = 100.0
        stamp[::7, ::5] += 1.0
        for number in range(self.args.alerts):
            if number % 100 == 99:  # one in a hundred is damaged, and must be a dead letter once
                yield b"Obj\x01 damaged %d" % number
            else:
                yield ztf_packet(
                    stamp,
                    stamp / 2,
                    stamp / 2,
                    alert_id=number,
                    object_id=f"ZTF{number % 977}",
                    jd=2461300.7,
                    ra=10.0,
                    dec=10.0,
                )

    # ---- the storm ---------------------------------------------------------------------------------

    def storm(self) -> None:
        """Publish a share of the alerts, kill something, see that all is up again, and so on."""
        packets = self.packets()
        share = -(-self.args.alerts // max(1, self.args.kills))
        while sum(self.kills.values()) < self.args.kills:
            for packet in islice(packets, share):
                self.produce(packet)
            self.producer.poll(0)
            self.await_workers()
            time.sleep(self.random.uniform(2.0, 6.0))
            self.kill(self.random.choices(list(VICTIMS), list(VICTIMS.values()))[0])
        for packet in packets:
            self.produce(packet)
        while self.producer.flush(1.0):
            self.look_after()

    def await_workers(self) -> None:
        """See that there is something to kill: workers that are at work."""
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            self.look_after()
            if self.descendants("worker"):
                return
            time.sleep(0.5)

    def produce(self, packet: bytes) -> None:
        def arrived(error: object, _: object) -> None:
            if error is not None:
                raise RuntimeError(f"alert not published: {error}")

        while True:
            try:
                self.producer.produce(TOPIC, packet, on_delivery=arrived)
                return
            except BufferError:
                self.producer.poll(0.5)
                self.look_after()

    def look_after(self) -> None:
        """Start again what was killed, and the application if it is gone."""
        while self.down and self.down[0][0] <= time.monotonic():
            self.cluster.start(self.down.pop(0)[1])
        if self.app is None or self.app.poll() is not None:
            log = (self.folder / "run.log").open("ab")
            self.app = subprocess.Popen(
                [sys.executable, "-m", "space2vec.stream", "run", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"RAY_AUTH_MODE": "disabled"},
            )

    def kill(self, victim: str) -> None:
        """Kill one of a kind, if one is alive."""
        if victim == "broker":
            if self.down:  # two at once would rightly stop a cluster of three
                return
            node = self.random.randint(1, 3)
            self.cluster.kill(node)
            self.down.append((time.monotonic() + self.random.uniform(2.0, 8.0), node))
        elif victim == "application":
            if self.app is None or self.app.poll() is not None:
                return
            self.app.kill()
            self.app.wait()
        else:
            pids = self.descendants(victim)
            if not pids:
                return
            os.kill(self.random.choice(pids), signal.SIGKILL)
        self.kills[victim] += 1
        say(f"killed {victim} ({sum(self.kills.values())} of {self.args.kills})")

    def descendants(self, victim: str) -> list[int]:
        """Processes of one kind that belong to the application."""
        if self.app is None:
            return []
        parents, titles = {}, {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                titles[int(process.name)] = (
                    (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
                parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
        ours = {self.app.pid}
        while fresh := {pid for pid, parent in parents.items() if parent in ours} - ours:
            ours |= fresh
        wanted = {
            "worker": lambda title: title.startswith("ray::StreamWorker"),
            "classifier": lambda title: title.startswith("ray::Classifier"),
            "ray": lambda title: "gcs_server" in title or "raylet" in title or "agent" in title,
        }[victim]
        return sorted(pid for pid in ours - {self.app.pid} if wanted(titles[pid]))

    # ---- after -------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let everything be answered with nothing killed any more, then drain."""
        while self.down:
            self.cluster.start(self.down.pop(0)[1])
        self.end_application(signal.SIGTERM)
        with (self.folder / "run.log").open("ab") as log:
            subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "space2vec.stream",
                    "run",
                    "--config",
                    str(self.config),
                    "--until-eof",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
                timeout=self.args.settle,
                env=os.environ | {"RAY_AUTH_MODE": "disabled"},
            )

    def tell_log(self) -> None:
        """Print what the application said last: the folder with its log goes with this process."""
        log = self.folder / "run.log"
        if log.exists():
            say("the end of the application's log:")
            print("\n".join(log.read_text(errors="replace").splitlines()[-60:]), file=sys.stderr, flush=True)

    def end_application(self, how: signal.Signals) -> None:
        if self.app is not None and self.app.poll() is None:
            self.app.send_signal(how)
            self.app.wait(90)

    def count(self) -> tuple[int, int]:
        """Alerts lost and doubled, by a read_committed reader that knows nothing of us."""
        seen: Counter[int] = Counter()
        reader = TopicReader(ClusterSettings(brokers=self.cluster.bootstrap))
        reader.await_open(["ztf-classifications", "ztf-annotated", "unknown-rejected"])
        for message in reader.messages(reader.spans("ztf-classifications")):
            seen[decode_classification(message.value)["alert_id"]] += 1
        annotated = sum(1 for _ in reader.messages(reader.spans("ztf-annotated")))
        for message in reader.messages(reader.spans("unknown-rejected")):
            seen[int(message.value.rpartition(b" ")[2])] += 1
        reader.close()
        lost = sum(not seen[number] for number in range(self.args.alerts))
        doubled = sum(count - 1 for count in seen.values() if count > 1)
        scored = self.args.alerts - self.args.alerts // 100
        return lost + max(0, scored - annotated), doubled + max(0, annotated - scored)

    def audit(self) -> bool:
        found = subprocess.run(
            [sys.executable, "-m", "space2vec.stream", "audit", "--config", str(self.config)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        print(found.stdout + found.stderr, file=sys.stderr)
        return found.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
