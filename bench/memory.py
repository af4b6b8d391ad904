"""Memory while a large backlog is worked off: the peak of stream worker and classifier, and whether they grow.

The backlog lies in a real Apache Kafka before the service starts, so the service is behind from its first message to
its last. The slope is of a straight line through the resident memory after the first tenth of the alerts.

Examples::

    python bench/memory.py --json                                     # a million small packets, 2.5 GB on disk
    python bench/memory.py --alerts 20000 --history 350 --side 30     # 300 kB each, as LSST's after a year
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from costs import Costs, machine
from numpy.typing import NDArray
from rig import Answers, Night, service, wait_until
from sent_packets import made_packets, repeated

ROLES = ("worker", "classifier")
UNSETTLED = 0.1
"""Part of the alerts in which caches and allocators fill."""


def main() -> int:
    """Run it and print the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--alerts", type=int, default=1_000_000)
    parser.add_argument("--history", type=int, default=0, help="previous sources in each packet")
    parser.add_argument("--side", type=int, default=12, help="of a stamp, in pixels; LSST's have 30")
    parser.add_argument("--outputs", choices=("both", "classifications"), default="classifications")
    parser.add_argument("--json", action="store_true", help="one JSON line on stdout")
    args = parser.parse_args()
    result = measure(args)
    print(json.dumps(result) if args.json else "\n".join(f"{k:>12}: {v}" for k, v in result.items()))
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    where = machine()
    small = args.side < 30
    packets = made_packets("lsst", 256, args.history, 0 if small else 41, args.side)
    settings: dict[str, Any] = {"sink": {} if args.outputs == "both" else {"annotated": ""}}
    with Night(settings, compression="lz4") as night:
        night.publish(repeated(packets, args.alerts))
        stored = sum(path.stat().st_size for path in night.broker.folder(1).rglob("*.log"))
        answers = Answers(night)
        answers.start()
        began = time.monotonic()
        with Costs(every_s=1.0) as costs, service(night) as running:
            wait_until(lambda: answers.count >= args.alerts, running, lambda: answers.count)
        seconds = time.monotonic() - began
        answers.close()
    return {
        "bench": "memory",
        "machine": where,
        "alerts": args.alerts,
        "packet_bytes": sum(map(len, packets)) // len(packets),
        "backlog_gb": round(args.alerts * sum(map(len, packets)) / len(packets) / 1e9, 1),
        "stored_gb": round(stored / 1e9, 1),
        "alerts_per_s": round(args.alerts / seconds, 1),
        **{role: told(role, answers, costs, args.alerts) for role in ROLES},
    }


def told(role: str, answers: Answers, costs: Costs, alerts: int) -> dict[str, Any]:
    """Peak, and growth from the first tenth on."""
    when = [line[0] for line in answers.lines]
    done = np.cumsum([after - first for _, _, first, after in answers.lines])
    samples = [sample for sample in costs.samples if role in sample.rss]
    at: NDArray[Any] = np.interp([sample.at for sample in samples], when, done)
    size = np.array([sample.rss[role] for sample in samples]) / 1e6
    settled = (at >= UNSETTLED * alerts) & (at < alerts)
    slope = np.polyfit(at[settled] / 1e6, size[settled], 1)[0] if settled.sum() > 2 else float("nan")
    tenths = [
        round(float(size[(at >= alerts * k / 10) & (at <= alerts * (k + 1) / 10)].max(initial=0)))
        for k in range(10)
    ]
    return {
        "peak_mb": round(float(size.max())),
        "slope_mb_per_million": round(float(slope), 1),
        "peak_mb_by_tenth": tenths,
    }


if __name__ == "__main__":
    raise SystemExit(main())
