"""How many stream workers and classifiers there should be: by lag, and by how full the hands of those that are.

While the stream is behind, what is short is added: classifiers where they are busy with full batches, else stream
workers, whose batches fill the classifiers. Once it keeps up, one is let go at a time, and only where those that
remain would still have room. Both take a while to be believed, and longer to let go than to add, so that a visit's
burst is no reason to come and go.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from space2vec.schemas.settings import RaySettings, Settings
from space2vec.stream.lag import LagReader, LagWatch

if TYPE_CHECKING:
    from space2vec.stream.protocols import Partition
    from space2vec.stream.summary import Summary

LOOK_S: Final = 5.0
"""Seconds over which busyness and rate are taken."""
GROW_S: Final = 15.0
"""Seconds behind before anything is added, and between two additions: a new actor takes some to start."""
SHRINK_S: Final = 300.0
"""Seconds with room to spare before one is let go: several visits, and the slew between fields."""
BEHIND_S: Final = 10.0
"""A backlog that takes longer than this to answer, at the rate of late, is behind: what may be added to a visit."""
BUSY: Final = 0.8
"""Share of its time from which a classifier has no more to give."""
FULL: Final = 0.5
"""Share of ``model.max_batch`` from which its batches are full: emptier ones waste a classifier that is busy."""
ROOM: Final = 0.6
"""Share of their time that those that remain may be busy when one is let go."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What was seen between two looks.

    Attributes
    ----------
    behind_s : float
        Seconds that answering the backlog takes at the rate of late; infinite where nothing was answered.
    workers_busy, classifiers_busy : float
        Mean share of their time in which they worked, 0 to 1.
    fill : float
        Mean batch of the classifiers over ``model.max_batch``, 0 to 1.
    """

    behind_s: float
    workers_busy: float
    classifiers_busy: float
    fill: float


class Scaling:
    """Decides; whoever asks acts on it.

    Parameters
    ----------
    settings : RaySettings
        The bounds: ``workers`` to ``max_workers``, ``classifiers`` to ``max_classifiers``.
    """

    def __init__(self, settings: RaySettings) -> None:
        self._least = (settings.workers, settings.classifiers)
        self._most = (
            max(settings.workers, settings.max_workers),
            max(settings.classifiers, settings.max_classifiers),
        )
        self._behind_since: float | None = None
        self._eased_since: float | None = None

    def decide(self, now: float, workers: int, classifiers: int, demand: Demand) -> tuple[int, int]:
        """Give how many stream workers and classifiers there should be.

        Parameters
        ----------
        now : float
            Monotonic seconds.
        workers, classifiers : int
            How many there are.
        demand : Demand
            Since the last look.
        """
        behind = demand.behind_s > BEHIND_S
        self._behind_since = (self._behind_since or now) if behind else None
        self._eased_since = None if behind else (self._eased_since or now)
        wanted = workers, classifiers
        if self._behind_since is not None and now - self._behind_since >= GROW_S:
            wanted = self._more(workers, classifiers, demand)
            self._behind_since = now
        elif self._eased_since is not None and now - self._eased_since >= SHRINK_S:
            wanted = _fewer(workers, demand.workers_busy), _fewer(classifiers, demand.classifiers_busy)
            self._eased_since = now
        return _within(wanted[0], self._least[0], self._most[0]), _within(
            wanted[1], self._least[1], self._most[1]
        )

    def _more(self, workers: int, classifiers: int, demand: Demand) -> tuple[int, int]:
        saturated = demand.classifiers_busy >= BUSY and (demand.fill >= FULL or workers >= self._most[0])
        if saturated:
            return workers, classifiers + math.ceil(classifiers / 2)
        return workers + math.ceil(workers / 2), classifiers


def _fewer(count: int, busy: float) -> int:
    return count - 1 if count > 1 and busy * count / (count - 1) <= ROOM else count


def _within(count: int, least: int, most: int) -> int:
    return min(max(count, least), most)


def demand_between(before: Summary, after: Summary, lag: Mapping[Partition, int], max_batch: int) -> Demand:
    """Tell what was asked of the service between two summaries.

    Parameters
    ----------
    before, after : Summary
        Of the same run.
    lag : mapping of Partition to int
        Messages behind, per partition.
    max_batch : int
        ``model.max_batch``.
    """
    seconds = after.seconds - before.seconds
    behind = sum(lag.values())
    rate = (after.counts.messages - before.counts.messages) / seconds
    worked = _worked_s(after) - _worked_s(before)
    batches, alerts, scored_s = (
        max(0.0, now - then) for then, now in zip(_scored(before), _scored(after), strict=True)
    )
    return Demand(
        behind_s=0.0 if not behind else behind / rate if rate else math.inf,
        workers_busy=min(1.0, worked / seconds / max(1, len(after.loads))),
        classifiers_busy=min(1.0, scored_s / seconds / max(1, len(after.classifiers))),
        fill=min(1.0, alerts / batches / max_batch) if batches else 0.0,
    )


def _worked_s(summary: Summary) -> float:
    stages = summary.measures.stages
    return sum(stages[name].total for name in ("open", "answer", "commit"))


def _scored(summary: Summary) -> tuple[float, float, float]:
    """Batches, alerts in them, and seconds spent on them, of all classifiers."""
    there = [status for status in summary.classifiers if status is not None]
    return (
        float(sum(status.batches.count for status in there)),
        float(sum(status.batches.total for status in there)),
        sum(status.busy_s for status in there),
    )


class Autoscaler:
    """Watches the lag of a run and decides, every few seconds.

    Parameters
    ----------
    settings : Settings
        Those of the run.
    """

    def __init__(self, settings: Settings) -> None:
        self._max_batch = settings.model.max_batch
        self._scaling = Scaling(settings.ray)
        self._watch = LagWatch(lambda: LagReader(settings), LOOK_S)
        self._watch.start()
        self._before: Summary | None = None

    def look(self, summary: Summary, workers: int, classifiers: int) -> tuple[int, int]:
        """Give how many stream workers and classifiers there should be; as many as there are while that is unclear."""
        if self._before is None or len(self._before.loads) != len(summary.loads):
            self._before = summary
        lag = self._watch.latest
        if lag is None or None in summary.classifiers or summary.seconds - self._before.seconds < LOOK_S:
            return workers, classifiers
        demand = demand_between(self._before, summary, lag, self._max_batch)
        self._before = summary
        return self._scaling.decide(time.monotonic(), workers, classifiers, demand)

    def stop(self) -> None:
        """Watch no more."""
        self._watch.stop()
