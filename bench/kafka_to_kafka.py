"""Kafka to Kafka: the rate that a backlog is worked off at, and how late answers are at a survey's rate.

A real Apache Kafka on the same machine. First a backlog is drained, from the first commit to the last: alerts per
second, and CPU microseconds per alert of every part, the broker included. Then alerts come at a fixed rate, and
latency is from the broker's timestamp of the alert to the moment that a read_committed reader sees it answered.

Examples::

    python bench/kafka_to_kafka.py --json
    python bench/kafka_to_kafka.py --packets ../shared/packets/ztf --delivery at-least-once
    python bench/kafka_to_kafka.py --survey lsst --outputs classifications --rate 260
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

from costs import Costs, machine
from rig import Answers, Night, Service, percentiles, service, wait_until
from sent_packets import found_packets, made_packets, repeated

WARM_UP = 0.1
"""Part of the backlog that is answered before the clock starts: Java's compiler, for one, is not done at once."""

SHORTEST_S = 3.0
"""Below this the second between two commits is too much of the time measured."""


def main() -> int:
    """Run it and print the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--survey", choices=("ztf", "lsst"), default="ztf", help="whose packets to make")
    parser.add_argument("--packets", type=Path, help="folder of real packets to send instead")
    parser.add_argument("--history", type=int, default=0, help="earlier measurements in each made packet")
    parser.add_argument("--alerts", type=int, default=10_000, help="size of the backlog")
    parser.add_argument("--rate", type=float, default=260.0, help="alerts per second afterwards")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long; 0: the backlog only")
    parser.add_argument("--delivery", choices=("exactly-once", "at-least-once"), default="exactly-once")
    parser.add_argument("--outputs", choices=("both", "annotated", "classifications"), default="both")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1, help="stream workers")
    parser.add_argument("--classifiers", type=int, default=1)
    parser.add_argument("--compression", default="none", help="of the alerts in the source topic")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="any other setting"
    )
    parser.add_argument("-X", action="append", default=[], metavar="NAME=VALUE", help="librdkafka property")
    parser.add_argument("--json", action="store_true", help="one JSON line on stdout")
    args = parser.parse_args()
    try:
        result = measure(args)
    except TooSoonError as error:
        raise SystemExit(f"{error}: take more (--alerts)") from None
    print(json.dumps(result) if args.json else told(result))
    return 0


class TooSoonError(RuntimeError):
    """A backlog was answered too soon to time it by commits."""


def measure(args: argparse.Namespace) -> dict[str, Any]:
    where = machine()
    packets = (
        found_packets(args.packets, 256) if args.packets else made_packets(args.survey, 256, args.history)
    )
    with Night(settings_of(args), args.partitions, args.compression) as night:
        night.publish(repeated(packets, args.alerts))
        answers = Answers(night)
        answers.start()
        with Costs() as costs, service(night) as running:
            wait_until(lambda: answers.count >= args.alerts, running, lambda: answers.count)
            time.sleep(1.0)  # so that the workers' last word is in
            result = drained(args.alerts, answers, costs, running)
            if args.seconds:
                result |= paced(args, night, answers, costs, running, packets)
        answers.close()
        assert answers.scored == answers.count, f"{answers.count - answers.scored} alerts rejected"
    return {
        "bench": "kafka_to_kafka",
        "machine": where,
        "packets": args.survey if args.packets is None else str(args.packets),
        "packet_bytes": sum(map(len, packets)) // len(packets),
        "delivery": args.delivery,
        "outputs": args.outputs,
        **result,
        "peak_mb": {role: round(size / 1e6) for role, size in costs.peaks().items()},
    }


def settings_of(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    settings: dict[str, dict[str, Any]] = {
        "ray": {"workers": args.workers, "classifiers": args.classifiers},
        "stream": {"delivery": args.delivery},
        "sink": {},
        "source": {"options": dict(pair.split("=", 1) for pair in args.X)},
    }
    if args.outputs != "both":
        settings["sink"]["classifications" if args.outputs == "annotated" else "annotated"] = ""
    for pair in args.set:
        name, value = pair.split("=", 1)
        section, key = name.split(".")
        settings.setdefault(section, {})[key] = value
    return settings


def drained(backlog: int, answers: Answers, costs: Costs, running: Service) -> dict[str, Any]:
    """Rate and costs from the commit that ends the warm-up to the last one.

    Raises
    ------
    TooSoonError
        If these are less than :data:`SHORTEST_S` apart.
    """
    totals = list(itertools.accumulate(after - first for _, _, first, after in answers.lines))
    start = next(i for i, total in enumerate(totals) if total >= WARM_UP * backlog)
    began, ended = answers.lines[start][0], answers.lines[-1][0]
    alerts = totals[-1] - totals[start]
    if ended - began < SHORTEST_S:
        raise TooSoonError(f"{backlog} alerts were answered too soon to time it by commits")
    cpu = costs.cpu_between(began, ended)
    per_alert = {
        name: round(seconds / alerts * 1e6) for name, seconds in sorted(cpu.items()) if name != "bench"
    }
    per_alert |= {
        f"worker/{stage}": round(seconds / running.summary.counts.messages * 1e6)
        for stage, seconds in running.summary.measures.cpu_s.items()
    }
    all_cpu = sum(seconds for name, seconds in cpu.items() if "/" not in name and name != "bench")
    return {
        "alerts": alerts,
        "alerts_per_s": round(alerts / (ended - began), 1),
        "alerts_per_cpu_s": round(alerts / all_cpu, 1),
        "cores_busy": round(all_cpu / (ended - began), 2),
        "cpu_us_per_alert": {name: cost for name, cost in per_alert.items() if cost >= 1},
    }


def paced(
    args: argparse.Namespace,
    night: Night,
    answers: Answers,
    costs: Costs,
    running: Service,
    packets: list[bytes],
) -> dict[str, Any]:
    """Latency at a fixed rate, and how much of the machine that takes, the publishing included."""
    before, began = answers.count, time.time()
    since = [len(night.sent_at[partition]) for partition in range(night.partitions)]
    night.publish(repeated(packets, int(args.rate * args.seconds)), args.rate)
    wait_until(
        lambda: answers.count >= before + int(args.rate * args.seconds), running, lambda: answers.count
    )
    ended = time.time()
    cpu = costs.cpu_between(began, ended)
    busy = sum(seconds for name, seconds in cpu.items() if "/" not in name) / (ended - began)
    return {
        "paced_per_s": args.rate,
        "latency": percentiles(answers.latencies(night, since)),
        "machine_idle": round(1 - busy / (os.cpu_count() or 1), 2),
    }


def told(result: dict[str, Any]) -> str:
    return "\n".join(f"{name:>17}: {value}" for name, value in result.items())


if __name__ == "__main__":
    raise SystemExit(main())
