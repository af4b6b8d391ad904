"""The stream worker: a Ray actor on a CPU that runs one pipeline over its share of the partitions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from space2vec.schemas.settings import Settings
from space2vec.stream.assembly import kafka_pipeline
from space2vec.stream.counts import Counts
from space2vec.stream.logs import configure_logs
from space2vec.stream.measures import Load, Measures
from space2vec.stream.pipeline import Pipeline
from space2vec.stream.protocols import Partition
from space2vec.stream.ray_scorer import RayScorer
from space2vec.workers.bundle import load_bundle


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What a stream worker says of itself.

    ``finished`` are assigned partitions at their end with everything committed; ``unanswered`` are
    messages consumed and not yet committed; ``load`` is ``None`` until the pipeline runs.
    """

    pid: int
    counts: Counts = field(default_factory=Counts)
    finished: frozenset[Partition] = frozenset()
    unanswered: int = 0
    measures: Measures = field(default_factory=Measures)
    load: Load | None = None


class StreamWorker:
    """Runs a pipeline until told to stop.

    Parameters
    ----------
    settings : Settings
        Everything.
    name : str
        Unique in the group, and the same for whoever replaces this worker after a crash.
    classifiers : sequence of actor handles
        Of :class:`space2vec.workers.classifier.Classifier`.
    """

    def __init__(self, settings: Settings, name: str, classifiers: Sequence[Any]) -> None:
        configure_logs()
        self._settings = settings
        self._name = name
        self._classifiers = classifiers
        self._stop = Event()
        self._pipeline: Pipeline | None = None

    def run(self) -> WorkerStatus:
        """Work until :meth:`stop`; the final status."""
        bundle = load_bundle(self._settings.model.bundle)
        self._pipeline = kafka_pipeline(self._settings, bundle, RayScorer(self._classifiers), self._name)
        self._pipeline.run(self._stop)
        return self.status()

    def stop(self) -> None:
        """Finish what is in flight within the drain budget, then return from :meth:`run`."""
        self._stop.set()

    def status(self) -> WorkerStatus:
        """How far it is."""
        if self._pipeline is None:
            return WorkerStatus(os.getpid())
        return WorkerStatus(
            os.getpid(),
            self._pipeline.counts,
            self._pipeline.finished,
            self._pipeline.unanswered,
            self._pipeline.meter.measures,
            self._pipeline.load,
        )
