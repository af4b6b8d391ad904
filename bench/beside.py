"""A replay beside the live service: what each way of holding it back leaves of the live rate.

A real Apache Kafka and the service work off a backlog. Beside them, by turns of some seconds: nothing, a replay with the
first flags given, nothing, a replay with the second, and so on round until the backlog is done. Each turn is held
against the two without a replay around it, so what else the machine does falls on both alike. A replay is there from
the start and is stopped and let go on with signals: its own start is in no turn. The live rate of a turn is from the
ledger's commits; the processor that the service's actors and a replay had, from the kernel. On a machine that others
use too a share of it is a larger one of what is left: so the cores that the service lost are told beside the rate. (A
replay that is stopped for longer than Kafka waits for a message says so, and goes back to its last commit.)

Examples::

    python bench/beside.py --json
    python bench/beside.py --with "--cores 0.5" --with "--nice 19" --alerts 100000
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from costs import Costs, machine
from made_night import made_night, write_night
from replay_outputs import reach
from rig import Answers, Night, service, wait_until
from sent_packets import made_packets, repeated

from space2vec.schemas.settings import ClusterSettings
from space2vec.stream.topic_reader import TopicReader

SETTLE_S = 1.0
"""Not counted at the beginning of a turn: commits in it may be of the one before."""
WARM_UP = 2000
NIGHT, SIDE = 40_000, 21
"""Packets of the archive, which must last longer than the backlog, and the side of all stamps: it is the processor that
is shared here, no disk."""


def main() -> int:
    """Run it and print the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--alerts", type=int, default=250_000, help="size of the live backlog")
    parser.add_argument("--turn", type=float, default=3.0, help="seconds of a turn that count")
    parser.add_argument(
        "--with", dest="ways", action="append", metavar="FLAGS", help="of a replay; may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="one JSON line on stdout")
    args = parser.parse_args()
    result = measure(args)
    print(json.dumps(result) if args.json else json.dumps(result, indent=1))
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    where, ways = machine(), args.ways or ["--cores 0.1", "--cores 0.25", "--cores 0.25 --nice 19", ""]
    settings = {"sink": {"annotated": ""}, "stream": {"commit_interval_s": 0.2}}
    with tempfile.TemporaryDirectory(prefix="space2vec-beside-") as folder, Night(settings) as night:
        archive = Path(folder) / "night.tar.gz"
        write_night(archive, made_night(NIGHT, 0.0, SIDE))
        night.publish(repeated(made_packets("ztf", 256, side=SIDE), args.alerts))
        replays: list[Beside] = []
        answers = Answers(night)
        answers.start()
        try:
            for place, way in enumerate(ways):
                replays.append(Beside(archive, night.broker.bootstrap, f"rescored-{place}", way))
            with Costs() as costs, service(night) as running:
                wait_until(lambda: answers.count >= WARM_UP, running, lambda: answers.count)
                turns = list(taken(replays, args, answers, costs))
        finally:
            for replay in replays:
                replay.end()
        answers.close()
    if len(turns) < 2 * len(ways) + 1:
        raise SystemExit(f"{args.alerts} alerts were answered before each had its turn: take more (--alerts)")
    return {
        "bench": "beside",
        "machine": where,
        "load_at_end": round(os.getloadavg()[0], 1),
        "turn_s": args.turn,
        "alone_per_s": round(float(np.median([turn.rate for turn in turns[::2]])), 1),
        "alone_cores": round(float(np.median([turn.cores for turn in turns[::2]])), 2),
        "beside": {way or "no flag": told(turns, place, len(ways)) for place, way in enumerate(ways)},
    }


class Beside:
    """A replay that runs when it is let; made once it answers, and stopped then."""

    def __init__(self, archive: Path, bootstrap: str, topic: str, flags: str) -> None:
        verb = ["replay", str(archive), "--to", f"kafka:{topic}", "-b", bootstrap, "--local"]
        program = [sys.executable, "-m", "space2vec.stream", "--quiet", *verb, *shlex.split(flags)]
        self._process = psutil.Popen(program, env=os.environ | {"OMP_NUM_THREADS": "1"})
        reader = TopicReader(ClusterSettings(brokers=bootstrap))
        while self.runs and not reach(reader, topic):
            time.sleep(0.1)
        reader.close()
        self.let(False)

    @property
    def runs(self) -> bool:
        """Whether it is not through."""
        return self._process.poll() is None

    @property
    def cpu_s(self) -> float:
        """CPU seconds that it has had."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def let(self, on: bool) -> None:
        """Let it go on, or stop it."""
        if self.runs:
            self._process.send_signal(signal.SIGCONT if on else signal.SIGSTOP)

    def end(self) -> None:
        """End it for good."""
        self._process.kill()
        self._process.wait()


class Turn(NamedTuple):
    """What came of a turn: live answers per second, and the cores that the service's actors and the replay had."""

    rate: float
    cores: float
    replay_cores: float


def taken(replays: list[Beside], args: argparse.Namespace, answers: Answers, costs: Costs) -> Iterator[Turn]:
    """Take turns, every second one without a replay."""
    for replay in itertools.chain.from_iterable((None, replay) for replay in itertools.cycle(replays)):
        if replay is not None:
            replay.let(True)
        time.sleep(SETTLE_S)
        began, used = time.time(), replay.cpu_s if replay is not None else 0.0
        time.sleep(args.turn)
        ended = time.time()
        if answers.count >= args.alerts or (replay is not None and not replay.runs):
            return
        replayed = 0.0 if replay is None else replay.cpu_s - used
        if replay is not None:
            replay.let(False)
        time.sleep(SETTLE_S)  # until what was answered and used is known
        cpu, took = costs.cpu_between(began, ended), ended - began
        cores = (cpu.get("worker", 0.0) + cpu.get("classifier", 0.0)) / took
        yield Turn(rate_between(answers, began, ended), cores, replayed / took)


def rate_between(answers: Answers, began: float, ended: float) -> float:
    """Answers per second between two moments (seconds since 1970)."""
    when, _, first, after = np.array(answers.lines).T
    totals = np.cumsum(after - first)
    return float(np.diff(np.interp([began, ended], when, totals))[0] / (ended - began))


def told(turns: list[Turn], place: int, of: int) -> dict[str, Any]:
    """What a replay leaves of the live rate and cores, by those before and after; and the cores that it had itself."""
    here = range(2 * place + 1, len(turns) - 1, 2 * of)
    around = [np.mean([turns[i - 1], turns[i + 1]], axis=0) for i in here]
    rates = [turns[i].rate / alone[0] for i, alone in zip(here, around, strict=True)]
    lost = [alone[1] - turns[i].cores for i, alone in zip(here, around, strict=True)]
    low, middle, high = np.percentile(rates, [25, 50, 75]).round(3).tolist()
    return {
        "turns": len(rates),
        "of_alone": middle,
        "quartiles": [low, high],
        "cores_lost": round(float(np.mean(lost)), 3),
        "replay_cores": round(float(np.mean([turns[i].replay_cores for i in here])), 3),
    }


if __name__ == "__main__":
    raise SystemExit(main())
