"""The stream worker: a Ray actor on a CPU that runs one pipeline over its share of the partitions."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event

import structlog

from space2vec.schemas.settings import Settings
from space2vec.stream.assembly import kafka_pipeline
from space2vec.stream.counts import Counts
from space2vec.stream.lineup import Served
from space2vec.stream.logs import configure_logs
from space2vec.stream.measures import Load, Measures
from space2vec.stream.models import Model
from space2vec.stream.pipeline import Pipeline
from space2vec.stream.protocols import Partition
from space2vec.stream.ray_scorer import RayScorer

log = structlog.get_logger()

# Without being asked how it is. The application asks twice a second: if it cannot, it puts another in this one's place,
# which the group has no partitions for as long as this one holds them.
_UNASKED_S = 60.0


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What a stream worker says of itself.

    ``finished`` are assigned partitions at their end with everything committed; ``unanswered`` are
    messages consumed and not yet committed; ``load`` is ``None`` until the pipeline runs. ``models`` look at
    what comes next, and the bundles ``in_use`` also at what is under way. ``still_s`` is how long ago its loop last
    came round, in seconds.
    """

    pid: int
    counts: Counts = field(default_factory=Counts)
    finished: frozenset[Partition] = frozenset()
    unanswered: int = 0
    measures: Measures = field(default_factory=Measures)
    load: Load | None = None
    models: tuple[tuple[str, bool, int], ...] = ()
    in_use: frozenset[str] = frozenset()
    still_s: float = 0.0


class _Tether(Event):
    """Set by the application, or because nothing has been heard of it for too long."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = time.monotonic()

    @property
    def torn(self) -> bool:
        """Whether nothing has been heard for too long; once told to stop, a worker is asked no more."""
        return not super().is_set() and time.monotonic() > self.heard + _UNASKED_S

    def is_set(self) -> bool:
        return super().is_set() or self.torn


class StreamWorker:
    """Runs a pipeline until told to stop, or cut off from the application that started it.

    Parameters
    ----------
    settings : Settings
        Everything.
    name : str
        Unique in the group, and the same for whoever replaces this worker after a crash.
    lineup : sequence of Served
        The models.
    level : int
        Of the lines that it logs, as in :mod:`logging`.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        lineup: Sequence[Served],
        level: int = logging.INFO,
    ) -> None:
        configure_logs(level)
        self._settings = settings
        self._name = name
        self._lineup = lineup
        self._stop = _Tether()
        self._pipeline: Pipeline | None = None
        self._began = time.monotonic()

    def run(self) -> WorkerStatus:
        """Work until :meth:`stop`, or until nobody has asked for the status for too long; the final status."""
        self._pipeline = kafka_pipeline(self._settings, _models(self._lineup), self._name)
        self.serve(self._lineup)  # another one may have come meanwhile
        self._pipeline.run(self._stop)
        if self._stop.torn:
            log.warning("cut off from the application; left the group", worker=self._name)
        return self.status()

    def serve(self, lineup: Sequence[Served]) -> None:
        """Let these models look from the next batch on; what is under way is finished by those that began it."""
        self._lineup = lineup
        if self._pipeline is not None:
            self._pipeline.models = _models(lineup)

    def stop(self) -> None:
        """Finish what is in flight within the drain budget, then return from :meth:`run`."""
        self._stop.set()

    def status(self) -> WorkerStatus:
        """How far it is."""
        self._stop.heard = time.monotonic()
        roles = tuple(served.role for served in self._lineup)
        if self._pipeline is None:
            return WorkerStatus(os.getpid(), models=roles, still_s=time.monotonic() - self._began)
        return WorkerStatus(
            os.getpid(),
            self._pipeline.counts,
            self._pipeline.finished,
            self._pipeline.unanswered,
            self._pipeline.meter.measures,
            self._pipeline.load,
            roles,
            self._pipeline.in_use,
            self._pipeline.still_s,
        )


def _models(lineup: Sequence[Served]) -> tuple[Model, ...]:
    return tuple(Model(served.bundle, RayScorer(served.classifiers), served.shadow) for served in lineup)
