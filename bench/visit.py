"""LSST visits: 10,000 alerts arrive within 5 s, and again every 39 s; how long until the last one of each is answered.

A real Apache Kafka on the same machine, exactly once, classification records out. The packets are of real size and
framing (`--psf 0` leaves out the variance and PSF planes, which nobody here reads), made once and sent again under new
ids. Time is from the broker's timestamp of an alert to the moment that a read_committed reader sees it answered.

Examples::

    python bench/visit.py --json
    python bench/visit.py --alerts 40000 --psf 0 --visits 1
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from costs import Costs, machine
from rig import Answers, Night, percentiles, service, wait_until
from sent_packets import made_packets, with_new_id

WARM_UP = 500
LEAD_S = 5.0
FIRST_ID = 400_000_000_000_000_000


def main() -> int:
    """Run it and print the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--alerts", type=int, default=10_000, help="per visit")
    parser.add_argument("--visits", type=int, default=3)
    parser.add_argument("--arrival", type=float, default=5.0, help="seconds in which a visit's alerts arrive")
    parser.add_argument("--cadence", type=float, default=39.0, help="seconds from visit to visit")
    parser.add_argument("--psf", type=int, default=41, help="side of the PSF plane; 0: images alone")
    parser.add_argument("--history", type=int, default=0, help="previous sources in each packet")
    parser.add_argument("--workers", type=int, default=1, help="stream workers")
    parser.add_argument("--json", action="store_true", help="one JSON line on stdout")
    args = parser.parse_args()
    result = measure(args)
    print(json.dumps(result) if args.json else "\n".join(f"{k:>13}: {v}" for k, v in result.items()))
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    where = machine()
    packets = made_packets("lsst", 256, args.history, args.psf)
    settings = {"sink": {"annotated": ""}, "ray": {"workers": args.workers}}
    with Night(settings) as night, Costs() as costs:
        answers = Answers(night)
        answers.start()
        night.publish(renamed(packets, 0, WARM_UP))
        with service(night) as running:
            wait_until(lambda: answers.count >= WARM_UP, running, lambda: answers.count)
            due = time.time() + LEAD_S
            sent: list[tuple[float, float]] = []
            for visit in range(args.visits):
                time.sleep(max(0.0, due + visit * args.cadence - time.time()))
                began = time.time()
                first = WARM_UP + visit * args.alerts
                night.publish(renamed(packets, first, args.alerts), args.alerts / args.arrival)
                sent.append((began, time.time()))
            total = WARM_UP + args.visits * args.alerts
            wait_until(lambda: answers.count >= total, running, lambda: answers.count)
            ended = time.time()
        answers.close()
    cpu = costs.cpu_between(due, ended)
    return {
        "bench": "visit",
        "machine": where,
        "alerts": args.alerts,
        "packet_bytes": sum(map(len, packets)) // len(packets),
        "visits": [told(night, answers, args, visit, *span) for visit, span in enumerate(sent)],
        "cpu_us_per_alert": {
            name: round(seconds / (args.visits * args.alerts) * 1e6)
            for name, seconds in sorted(cpu.items())
            if "/" not in name
        },
        "peak_mb": {role: round(size / 1e6) for role, size in costs.peaks().items()},
    }


def renamed(packets: list[bytes], first: int, count: int) -> Iterator[bytes]:
    """``count`` packets, the given ones over and over, each under an id of its own."""
    for number in range(first, first + count):
        yield with_new_id(packets[number % len(packets)], FIRST_ID + number)


def told(
    night: Night, answers: Answers, args: argparse.Namespace, visit: int, began: float, ended: float
) -> dict[str, Any]:
    """How long its alerts took to arrive, and then to be answered."""
    late, answered = [], 0.0
    for when, partition, first, after in answers.lines:
        for at in night.sent_at[partition][first:after]:
            if began - 0.1 <= at <= ended + 0.1:
                late.append(when - at)
                answered = max(answered, when)
    assert len(late) == args.alerts, f"visit {visit}: {len(late)} answers"
    return {
        "arrival_s": round(ended - began, 1),
        "all_out_s": round(answered - ended, 2),
        **percentiles(np.array(late)),
    }


if __name__ == "__main__":
    raise SystemExit(main())
