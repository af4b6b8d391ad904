"""Feed very many damaged and hostile packets to the reader; count what becomes of them.

Every packet goes through reading, its stamps, preprocessing and, where it would be scored, the encoding of what
would be published. That happens in child processes, each of which reads thousands of packets as a stream worker
does, so that what one leaves behind in a cache counts for the next. Measured there: CPU seconds of each packet,
and the most memory that was ever resident (VmHWM) above what was after the imports and a few good packets. A packet
that takes more CPU seconds than the limit kills the child (SIGPROF) and is a hang; any other death, and any exception,
is a crash. An address-space limit of 2 GiB on top keeps the machine out of trouble.

Examples::

    python bench/fuzz.py --json
    python bench/fuzz.py --packets ../shared/packets --seed 2
    python bench/fuzz.py --only 4711          # one packet again, with its traceback

Exits with 0 if there was no crash, no hang and no more than 256 MiB.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from random import Random
from typing import Any

from fuzz_mutations import Mutator
from fuzz_target import Target
from good_packets import good_packets
from rich.progress import Progress

from space2vec.schemas.alert import Alert
from space2vec.schemas.reader import PacketReader
from space2vec.workers.quality import Status

MOST_MIB = 256
_SAFETY = 2 << 30
_LIFE = 10_000
"""Packets that a child reads before the next takes over."""
_REPORT = 200
_REAL = 300
"""Real packets to begin with, at most."""
_ANSWERED = frozenset((Status.SCORED, Status.DEGRADED))


@dataclass
class Findings:
    """What became of some packets."""

    packets: int = 0
    fates: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, str] = (0.0, "")
    peak: tuple[float, str] = (0.0, "")
    crashes: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        self.packets += other.packets
        self.fates += other.fates
        self.slowest, self.peak = max(self.slowest, other.slowest), max(self.peak, other.peak)
        self.crashes += other.crashes
        self.hangs += other.hangs

    def told(self) -> dict[str, Any]:
        rejected = {reason: n for reason, n in self.fates.most_common() if reason not in _ANSWERED}
        return {
            "packets": self.packets,
            "records": self.fates.total(),
            "scored": self.fates[Status.SCORED],
            "degraded": self.fates[Status.DEGRADED],
            "rejected": rejected,
            "crashes": len(self.crashes),
            "hangs": len(self.hangs),
            "slowest_s": round(self.slowest[0], 3),
            "slowest": self.slowest[1],
            "peak_mib": round(self.peak[0], 1),
            "peak": self.peak[1],
        }


def main() -> int:
    """Run it; 0 when nothing was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100_000, help="packets")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--packets", type=Path, help="folder of real packets to damage as well")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--limit", type=float, default=10.0, help="CPU seconds after which a packet is a hang"
    )
    parser.add_argument("--only", type=int, help="number of the one packet to feed, in this process")
    parser.add_argument("--json", action="store_true", help="one JSON line on stdout")
    args = parser.parse_args()
    if args.only is not None:
        return only(args)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    start = time.monotonic()
    findings = Fuzz(args).run()
    told = {"bench": "fuzz", "seed": args.seed} | findings.told()
    told["seconds"] = round(time.monotonic() - start, 1)
    told["machine"] = f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs"
    for fault in (*findings.crashes, *findings.hangs):
        print(fault, file=sys.stderr)
    print(json.dumps(told) if args.json else "\n".join(f"{name:10} {value}" for name, value in told.items()))
    return 0 if not findings.crashes and not findings.hangs and findings.peak[0] <= MOST_MIB else 1


class Fuzz:
    """Shares the packets out among children, and replaces those that die."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._findings = Findings()
        self._todo = [range(i, min(i + _LIFE, args.count)) for i in range(0, args.count, _LIFE)][::-1]
        self._spawn = multiprocessing.get_context("spawn")

    def run(self) -> Findings:
        """Give what was found, after an interrupt what was found until then."""
        running: dict[Connection, Child] = {}
        try:
            self._run(running)
        except KeyboardInterrupt:
            print("interrupted: the rest is left out", file=sys.stderr)
        for child in running.values():
            child.process.kill()
        return self._findings

    def _run(self, running: dict[Connection, Child]) -> None:
        with Progress(disable=not sys.stderr.isatty(), transient=True) as progress:
            bar = progress.add_task("packets", total=self._args.count)
            while self._todo or running:
                while self._todo and len(running) < self._args.processes:
                    child = Child(self._spawn, self._args, self._todo.pop())
                    running[child.results] = child
                for results in wait(list(running)):
                    child = running[results]  # type: ignore[index]
                    try:
                        self._findings.add(child.receive())
                    except EOFError:
                        del running[child.results]
                        self._bury(child)
                progress.update(bar, completed=self._findings.packets)

    def _bury(self, child: Child) -> None:
        child.process.join()
        code = child.process.exitcode
        if code == 0:
            return
        number = child.at.value
        hung = code == -signal.SIGPROF
        said = f"packet {number}: {'took too long' if hung else f'the process died of {code}'}"
        (self._findings.hangs if hung else self._findings.crashes).append(said)
        self._findings.packets += 1
        # What it had done since its last report is done again, without the one that killed it.
        rest = range(number + 1, child.numbers.stop)
        self._todo += [todo for todo in (rest, range(child.done, number)) if todo]


class Child:
    """A process that reads packets."""

    def __init__(self, spawn: Any, args: argparse.Namespace, numbers: range) -> None:
        self.numbers = numbers
        self.done = numbers.start
        self.at = spawn.Value("q", numbers.start, lock=False)
        self.results, theirs = spawn.Pipe(duplex=False)
        self.process = spawn.Process(target=feed, args=(args, numbers, self.at, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def receive(self) -> Findings:
        findings: Findings = self.results.recv()
        self.done += findings.packets
        return findings


def feed(args: argparse.Namespace, numbers: range, at: Any, results: Connection) -> None:
    """Read packets of some numbers; report now and then."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    mutator, target = Mutator(corpus(args.packets)), Target()
    for raw in good_packets(84):
        target.feed(raw)
    reset_peak()
    baseline = memory("VmRSS")
    resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + _SAFETY,) * 2)
    findings = Findings()
    for number in numbers:
        at.value = number
        kind, raw = mutator.draw(Random(f"{args.seed}:{number}"))
        signal.setitimer(signal.ITIMER_PROF, args.limit)
        start = time.process_time()
        try:
            findings.fates += target.feed(raw)
        except Exception:  # noqa: BLE001 - that is what is looked for
            findings.crashes.append(f"packet {number} ({kind}):\n{traceback.format_exc()}")
        seconds = time.process_time() - start
        signal.setitimer(signal.ITIMER_PROF, 0)
        name = f"{number}: {kind}"
        findings.slowest = max(findings.slowest, (seconds, name))
        findings.peak = max(findings.peak, ((memory("VmHWM") - baseline) / (1 << 20), name))
        findings.packets += 1
        if findings.packets == _REPORT:
            results.send(findings)
            findings = Findings(peak=findings.peak)
    results.send(findings)


def corpus(folder: Path | None) -> list[bytes]:
    """Made packets, and real ones where there is a folder of them."""
    if folder is None:
        return good_packets(84)
    reader, real = PacketReader(), []
    for path in Random(1).sample(files := sorted(folder.rglob("*.avro")), len(files)):
        if path.stat().st_size < 1 << 20 and isinstance(next(reader.read(path.read_bytes()), None), Alert):
            real.append(path.read_bytes())
        if len(real) == _REAL:
            break
    if not real:
        raise SystemExit(f"{folder}: no packet that can be read in it")
    return good_packets(84) + real


def reset_peak() -> None:
    """Have the kernel forget the most memory that was resident so far (``man 5 proc``, clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def memory(name: str) -> int:
    """Read one of this process's sizes, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) << 10
    raise KeyError(name)


def only(args: argparse.Namespace) -> int:
    """Feed one packet, and say how it went."""
    kind, raw = Mutator(corpus(args.packets)).draw(Random(f"{args.seed}:{args.only}"))
    target = Target()
    reset_peak()
    before, start = memory("VmRSS"), time.process_time()
    fate = target.feed(raw)
    seconds, grown = time.process_time() - start, (memory("VmHWM") - before) / (1 << 20)
    print(f"{kind}, {len(raw)} bytes: {dict(fate)}; {seconds:.3f} CPU s, {grown:.1f} MiB more")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
