"""Cost against work, Kafka to Kafka: workers, backlog, batch size, packet size; and what a full LSST stream needs.

Every point is a backlog drained through the service, exactly once, classification records out, with a real Apache
Kafka on the same machine; one that is drained too soon to time it is measured again with three times as many. What
is plotted is CPU microseconds per alert by part, which holds on other machines of the kind, and alerts per second
here. The sizing table is computed from the costs at LSST's packet sizes.

Examples::

    python bench/scale.py --out /tmp/scale
    python bench/scale.py --axes packets --alerts 30000 --json
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from costs import Costs, machine
from kafka_to_kafka import TooSoonError, drained
from rig import Answers, Night, service, wait_until
from sent_packets import made_packets, repeated

from space2vec.schemas.settings import RaySettings
from space2vec.workers.ray_runtime import ray_runtime

MOST_WORKERS = 8
AXES = ("workers", "backlog", "batch", "packets")
SIZES = (
    {"psf": 0, "side": 12},
    {"psf": 0},
    {"psf": 41},
    {"psf": 41, "history": 100},
    {"psf": 41, "history": 350},
)
"""Of LSST packets: as small as they get, images alone, as sent, and with earlier sources."""
PARTS = ("worker", "classifier", "broker")
BUSY = 0.6
"""Part of a core that is planned with: the rest is for bursts and for other work of the node."""
STREAMS = (
    ("average of a night", 260),
    ("10,000 a visit, out within 15 s", 10_000 / 15),
    ("40,000 a visit, without end", 40_000 / 39),
    ("40,000 a visit, out within 15 s", 40_000 / 15),
)


def main() -> int:
    """Run it and print the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--axes", default=",".join(AXES), help="which, with commas")
    parser.add_argument(
        "--alerts", type=int, default=20_000, help="backlog of every point, and of backlog's first"
    )
    parser.add_argument("--out", type=Path, help="folder for scale.json, scale.png and sizing.md")
    parser.add_argument("--json", action="store_true", help="one JSON line on stdout")
    args = parser.parse_args()
    result: dict[str, Any] = {"bench": "scale", "machine": machine()}
    with ray_runtime(RaySettings(workers=MOST_WORKERS)):  # one for all: starting it takes longer than a point
        for axis in args.axes.split(","):
            result[axis] = [measured(axis, at, point) for at, point in points(axis, args.alerts)]
    print(json.dumps(result) if args.json else told(result))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "scale.json").write_text(json.dumps(result, indent=1))
        draw(result, args.out / "scale.png")
        if "packets" in result:
            (args.out / "sizing.md").write_text(sizing(result["packets"]))
    return 0


def points(axis: str, alerts: int) -> list[tuple[Any, dict[str, Any]]]:
    """What is measured along an axis: where it stands, and what :func:`drain` is given."""
    if axis == "workers":
        return [
            (n, {"alerts": alerts, "partitions": n, "settings": {"ray": {"workers": n}}})
            for n in (1, 2, 4, MOST_WORKERS)
        ]
    if axis == "backlog":
        small = {"psf": 0, "side": 12}
        return [(n, {"alerts": n, "packets": small}) for n in (alerts, 3 * alerts, 10 * alerts, 30 * alerts)]
    if axis == "batch":
        return [
            (n, {"alerts": alerts, "settings": {"stream": {"batch_alerts": n}, "model": {"max_batch": n}}})
            for n in (16, 64, 256, 1024)
        ]
    if axis == "packets":
        return [
            (sum(map(len, made_packets("lsst", 8, **size))) // 8, {"alerts": alerts, "packets": size})
            for size in SIZES
        ]
    raise SystemExit(f"--axes {axis}: one of {', '.join(AXES)}")


def measured(axis: str, at: Any, point: dict[str, Any]) -> dict[str, Any]:
    """Measure a point; say so, since all of them together take many minutes."""
    while True:
        try:
            row = {"at": at, **drain(**point)}
        except TooSoonError as error:
            print(f"{axis} {at}: {error}; again with three times as many", file=sys.stderr)
            point = point | {"alerts": 3 * point["alerts"]}
            at = 3 * at if axis == "backlog" else at
        else:
            print(f"{axis} {at}: {row['alerts_per_s']} alerts/s", file=sys.stderr)
            return row


def drain(
    alerts: int,
    partitions: int = 4,
    settings: dict[str, dict[str, Any]] | None = None,
    packets: dict[str, int] | None = None,
) -> dict[str, Any]:
    """Drain a backlog of LSST packets; rate, costs and memory."""
    made = made_packets("lsst", 128, **(packets or {}))
    with Night({"sink": {"annotated": ""}, **(settings or {})}, partitions) as night:
        night.publish(repeated(made, alerts))
        with closing(Answers(night)) as answers, Costs() as costs, service(night) as running:
            answers.start()
            wait_until(lambda: answers.count >= alerts, running, lambda: answers.count)
            time.sleep(1.0)
            result = drained(alerts, answers, costs, running)
    return result | {"peak_mb": {role: round(size / 1e6) for role, size in costs.peaks().items()}}


def draw(result: dict[str, Any], path: Path) -> None:
    """A panel per axis: CPU per alert by part as bars, alerts per second as a line."""
    from matplotlib import pyplot as plt

    axes = [axis for axis in AXES if axis in result]
    titles = {
        "workers": "partitions and stream workers",
        "backlog": "backlog, alerts",
        "batch": "batch, alerts",
        "packets": "packet, kB",
    }
    figure, panels = plt.subplots(1, len(axes), figsize=(4 * len(axes), 3.4), squeeze=False)
    for panel, axis in zip(panels[0], axes, strict=True):
        rows = result[axis]
        names = [f"{row['at'] / 1000:.0f}" if axis == "packets" else f"{row['at']:,}" for row in rows]
        bottom = [0.0] * len(rows)
        for part in PARTS:
            cost = [row["cpu_us_per_alert"].get(part, 0) for row in rows]
            panel.bar(names, cost, bottom=bottom, label=part)
            bottom = [low + more for low, more in zip(bottom, cost, strict=True)]
        panel.set_xlabel(titles[axis])
        panel.set_ylabel("CPU µs per alert")
        rate = panel.twinx()
        rate.plot(names, [row["alerts_per_s"] for row in rows], "k.-", label="alerts per second here")
        # Room above for the legend.
        panel.set_ylim(top=1.3 * max(bottom))
        rate.set_ylim(0, 1.3 * max(row["alerts_per_s"] for row in rows))
        if axis == axes[-1]:
            rate.set_ylabel("alerts per second here")
    panels[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def sizing(rows: list[dict[str, Any]]) -> str:
    """Cores, network and memory of the full stream, in Markdown: packets as sent, and with 350 earlier sources."""
    usual, long = rows[2], rows[-1]
    lines = [
        "| stream | alerts/s | workers, cores | classifiers, cores | broker, cores | in, MB/s | memory, GB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, rate in STREAMS:
        cells = [span(str(cores(row, part, rate)) for row in (usual, long)) for part in PARTS]
        gigabytes = [
            (cores(row, "worker", rate) * row["peak_mb"]["worker"]
             + cores(row, "classifier", rate) * row["peak_mb"]["classifier"]) / 1000
            for row in (usual, long)
        ]  # fmt: skip
        network = span(f"{rate * row['at'] / 1e6:.0f}" for row in (usual, long))
        memory = span(f"{size:.1f}" for size in gigabytes)
        lines.append(f"| {name} | {rate:,.0f} | {' | '.join(cells)} | {network} | {memory} |")
    return "\n".join(lines) + "\n"


def span(ends: Iterable[str]) -> str:
    """``1 to 2``, or ``1`` where both are that."""
    return " to ".join(dict.fromkeys(ends))


def cores(row: dict[str, Any], part: str, rate: float) -> int:
    """Cores of a part at a rate, at most :data:`BUSY` of each in use."""
    return max(1, math.ceil(rate * row["cpu_us_per_alert"][part] / 1e6 / BUSY))


def told(result: dict[str, Any]) -> str:
    lines = [str(result["machine"])]
    for axis in AXES:
        for row in result.get(axis, []):
            cost = ", ".join(f"{part} {row['cpu_us_per_alert'].get(part)}" for part in PARTS)
            lines.append(
                f"{axis:>8} {row['at']:>9,}: {row['alerts_per_s']:8} alerts/s; CPU us per alert: {cost}; "
                f"worker {row['peak_mb']['worker']} MB"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
