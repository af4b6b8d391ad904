"""A machine falls silent while alerts flow: how late alerts are, and whether one is lost or doubled.

Two machines of a Ray cluster are played by network namespaces on this one (Linux, root, `ip` and `iptables`), each
with a stream worker and two classifiers, beside a real Apache Kafka. Alerts come at a steady rate. One machine is cut
off, without any connection being closed: from everything, as one without power is, or from the other machines of the
cluster but not from Kafka. Time is from the broker's timestamp of an alert to the moment that a read_committed reader
sees it answered.

Examples::

    python bench/silent_node.py --json
    python bench/silent_node.py --cut ray --cpus 6
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from costs import machine
from rig import Answers, Night, percentiles, service, wait_until
from sent_packets import made_packets, repeated

from space2vec.stream.audit import audit

NET = "10.213.77"
HEAD, *MACHINES = (f"{NET}.{number}" for number in (1, 2, 3))
RAY_PORT = 6479
# Docker lets nothing through between machines on a bridge that is not its own.
BETWEEN = ("FORWARD", "-i", "s2v0", "-o", "s2v0", "-j", "ACCEPT")
WARM_UP = 400
BEFORE_S = 10.0


def main() -> int:
    """Run it; 0 when nothing was lost or doubled."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cut", choices=("all", "ray"), default="all", help="from what")
    parser.add_argument(
        "--cpus", type=int, default=3, help="of each machine; 3: no room for those who are lost"
    )
    parser.add_argument("--rate", type=float, default=100.0, help="alerts per second")
    parser.add_argument("--seconds", type=float, default=100.0, help="for which it is cut off")
    parser.add_argument("--json", action="store_true", help="one JSON line on stdout")
    args = parser.parse_args()
    os.environ["RAY_AUTH_MODE"] = "disabled"
    with ExitStack() as stack:
        stack.enter_context(network())
        stack.enter_context(cluster(args.cpus))
        result = measure(args)
    print(json.dumps(result) if args.json else "\n".join(f"{k:>16}: {v}" for k, v in result.items()))
    return 0 if result["missing"] == result["doubled"] == 0 else 1


def measure(args: argparse.Namespace) -> dict[str, Any]:
    packets = made_packets("ztf", 64)
    ray = {"workers": 2, "classifiers": 4, "address": f"{HEAD}:{RAY_PORT}"}
    settings = {"ray": ray, "sink": {"annotated": ""}, "stream": {"delivery": "exactly-once"}}
    count = round((BEFORE_S + args.seconds) * args.rate)
    with Night(settings, host=HEAD) as night:
        answers = Answers(night)
        answers.start()
        night.publish(repeated(packets, WARM_UP))
        with service(night) as running:
            wait_until(lambda: answers.count >= WARM_UP, running, lambda: answers.count)
            since = [len(night.sent_at[number]) for number in range(night.partitions)]
            source = threading.Thread(
                target=night.publish, args=(repeated(packets, count), args.rate), daemon=True
            )
            source.start()
            time.sleep(BEFORE_S)
            began = time.time()
            cut(args.cut, off=True)
            source.join()
            cut(args.cut, off=False)
            wait_until(lambda: answers.count >= WARM_UP + count, running, lambda: answers.count)
            time.sleep(5.0)  # for what might come twice
        answers.close()
        accounts = audit(night.settings)
    late = answers.latencies(night, since)
    seen = sorted({began, *(when for when, *_ in answers.lines if when >= began)})
    return {
        "bench": "silent_node",
        "machine": machine(),
        "cut": args.cut,
        "cpus": args.cpus,
        "alerts": count,
        **percentiles(late),
        "later_than_10_s": int((late > 10).sum()),
        "none_answered_s": round(float(np.diff(seen).max()), 1),
        "restarts": running.summary.restarts,
        "missing": sum(account.missing for account in accounts),
        "doubled": sum(account.doubled for account in accounts),
    }


@contextmanager
def network() -> Iterator[None]:
    """Have a bridge, and the machines on it, for the length of the block."""
    call("ip", "link", "add", "s2v0", "type", "bridge")  # fails where another run has it
    try:
        call("iptables", "-I", *BETWEEN)
        call("ip", "address", "add", f"{HEAD}/24", "dev", "s2v0")
        call("ip", "link", "set", "s2v0", "up")
        for number, address in enumerate(MACHINES, 1):
            here, there = f"s2v{number}", f"s2v-{number}"
            call("ip", "netns", "add", there)
            call("ip", "link", "add", here, "type", "veth", "peer", "name", "eth0", "netns", there)
            call("ip", "link", "set", here, "master", "s2v0", "up")
            call("ip", "address", "add", f"{address}/24", "dev", "eth0", on=number)
            call("ip", "link", "set", "eth0", "up", on=number)
            call("ip", "link", "set", "lo", "up", on=number)
        yield
    finally:
        for number in range(1, 1 + len(MACHINES)):
            call("ip", "link", "delete", f"s2v{number}", must=False)
            call("ip", "netns", "delete", f"s2v-{number}", must=False)
        call("iptables", "-D", *BETWEEN, must=False)
        call("ip", "link", "delete", "s2v0", must=False)


@contextmanager
def cluster(cpus: int) -> Iterator[None]:
    """Have a Ray cluster of a head without CPUs and the machines, for the length of the block."""
    common = (str(Path(sys.executable).parent / "ray"), "start", "--block", "--object-store-memory=200000000")
    running: list[subprocess.Popen[bytes]] = []

    def start(on: int | None, *options: str) -> None:
        command = (*inside(on), *common, *options)
        quiet = subprocess.DEVNULL
        running.append(subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True))

    import ray

    def await_machines(count: int) -> None:
        deadline = time.monotonic() + 60
        while sum(node["Alive"] for node in ray.nodes()) < count:
            if time.monotonic() > deadline:
                raise SystemExit(f"the cluster has not {count} machines after 60 s")
            time.sleep(0.5)

    try:
        head = ("--head", f"--port={RAY_PORT}", f"--node-ip-address={HEAD}")
        start(None, *head, "--num-cpus=0", "--include-dashboard=false")
        time.sleep(8.0)
        ray.init(address=f"{HEAD}:{RAY_PORT}", log_to_driver=False)
        for number, address in enumerate(MACHINES, 1):
            join = (f"--address={HEAD}:{RAY_PORT}", f"--node-ip-address={address}")
            start(number, *join, f"--num-cpus={cpus}")
            await_machines(1 + number)  # two that start at once on one machine get into each other's way
        yield
    finally:
        ray.shutdown()
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def cut(what: str, *, off: bool) -> None:
    """Cut the first machine off, or join it again."""
    if what == "all":
        call("ip", "link", "set", "s2v1", "down" if off else "up")
        return
    for address in (HEAD, MACHINES[1]):
        kafka = ("!", "--sport", "20000:32000") if address == HEAD else ()  # where our broker has its ports
        rule = ("INPUT", "-p", "tcp", "-s", address, *kafka, "-j", "DROP")
        call("iptables", "-I" if off else "-D", *rule, on=1)


def call(*command: str, on: int | None = None, must: bool = True) -> None:
    """Run a command, here or on a machine."""
    told = subprocess.run((*inside(on), *command), capture_output=True, text=True, check=False)
    if must and told.returncode:
        raise SystemExit(f"{' '.join(command)}: {told.stderr.strip()}")


def inside(on: int | None) -> Sequence[str]:
    """What makes a command run on a machine."""
    return () if on is None else ("ip", "netns", "exec", f"s2v-{on}")


if __name__ == "__main__":
    raise SystemExit(main())
