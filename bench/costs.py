"""What a run costs, and on which machine: CPU time and memory of its processes, by role and by thread.

Each role has processes of its own, so both are read from ``/proc``: on a machine that others use too, CPU seconds per
alert are steadier than alerts per second.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import psutil

_TICKS = os.sysconf("SC_CLK_TCK")
_roles: dict[int, str] = {}


def machine() -> str:
    """Name the machine, and who else is using it."""
    load = os.getloadavg()[0]
    return (
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, load {load:.1f} at the start"
    )


@dataclass
class Sample:
    """Totals of one moment: CPU seconds by role (of workers by kind of thread too), resident bytes by role."""

    at: float
    cpu: dict[str, float] = field(default_factory=dict)
    rss: dict[str, int] = field(default_factory=dict)


class Costs(threading.Thread):
    """Samples the processes of a run, from the start of the block to its end, every so many seconds."""

    def __init__(self, every_s: float = 0.2) -> None:
        super().__init__(name="costs", daemon=True)
        self._every_s = every_s
        self._over = threading.Event()
        self.samples: list[Sample] = []

    def run(self) -> None:
        while not self._over.is_set():
            self.samples.append(_sample())
            self._over.wait(self._every_s)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def cpu_between(self, start: float, stop: float) -> dict[str, float]:
        """CPU seconds by role and thread between two moments (seconds since 1970)."""
        samples = list(self.samples)
        at = [sample.at for sample in samples]
        names = {name for sample in samples for name in sample.cpu}
        spent = {}
        for name in names:
            totals = np.maximum.accumulate([sample.cpu.get(name, 0.0) for sample in samples])
            spent[name] = float(np.interp(stop, at, totals) - np.interp(start, at, totals))
        return spent

    def peaks(self) -> dict[str, int]:
        """Most bytes resident at once, by role; with several processes of a role, of the largest."""
        peaks: dict[str, int] = {}
        for sample in self.samples:
            for role, size in sample.rss.items():
                peaks[role] = max(peaks.get(role, 0), size)
        return peaks


def _role(process: psutil.Process) -> str:
    command = process.cmdline()
    if not command:
        return "other"
    if "StreamWorker" in command[0] or "bench-worker" in command:
        return "worker"
    if "Classifier" in command[0]:
        return "classifier"
    return "broker" if "kafka.Kafka" in command else "ray"


def _sample() -> Sample:
    sample = Sample(time.time())
    cpu: dict[str, float] = defaultdict(float)
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        try:
            role = "bench" if process.pid == me.pid else _role_of(process)
            times = process.cpu_times()
            cpu[role] += times.user + times.system
            sample.rss[role] = max(sample.rss.get(role, 0), process.memory_info().rss)
            if role == "worker":
                for thread, seconds in _threads(process.pid):
                    cpu[f"{role}/{thread}"] += seconds
        except (psutil.Error, OSError):  # it has just ended
            continue
    sample.cpu = dict(cpu)
    return sample


def _role_of(process: psutil.Process) -> str:
    """Role of a process; a Ray worker shows its own only once an actor runs in it."""
    known = _roles.get(process.pid, "ray")
    if known == "ray":
        known = _roles[process.pid] = _role(process)
    return known


def _threads(pid: int) -> Iterator[tuple[str, float]]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        stat = (task / "stat").read_text()
        name = stat[stat.index("(") + 1 : stat.rindex(")")]
        fields = stat[stat.rindex(")") + 2 :].split()
        yield (
            "librdkafka" if name.startswith("rdk:") else "python",
            (int(fields[11]) + int(fields[12])) / _TICKS,
        )
