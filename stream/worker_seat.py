"""A place for a stream worker, and what those did who held it."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from space2vec.stream.counts import Counts
from space2vec.stream.measures import Load, Measures
from space2vec.stream.protocols import Partition

if TYPE_CHECKING:
    from space2vec.stream.stream_worker import WorkerStatus


@dataclass
class Seat:
    """A place for a stream worker; whoever holds it carries its name. Some are added as the lag asks for them."""

    name: str
    added: bool = False
    leaving: bool = False
    worker: Any = None
    running: Any = None
    asked: Any = None  # how it is, and not answered yet
    asked_at: float = 0.0
    counts: Counts = field(default_factory=Counts)
    former: Counts = field(default_factory=Counts)
    measures: Measures = field(default_factory=Measures)
    former_measures: Measures = field(default_factory=Measures)
    load: Load | None = None
    finished: frozenset[Partition] = frozenset()
    unanswered: int = 0
    failures: int = 0
    restarts: int = 0
    free_at: float = 0.0
    fenced: Future[None] | None = None  # whoever held it last
    still_s: float = 0.0
    models: tuple[tuple[str, bool, int], ...] = ()
    in_use: frozenset[str] | None = None  # until the worker has told

    def note(self, status: WorkerStatus) -> None:
        """Take what the worker says of itself."""
        self.counts, self.finished, self.unanswered = status.counts, status.finished, status.unanswered
        self.measures, self.load = status.measures, status.load
        self.models, self.in_use = status.models, status.in_use
        self.still_s = status.still_s

    def end_worker(self) -> None:
        """End whoever holds it, and keep what was done."""
        import ray

        ray.kill(self.worker)
        self.former.add(self.counts)
        self.former_measures.add(self.measures)
        self.former_measures.drift = {}  # it is of the latest alerts only
        self.measures, self.load = Measures(), None
        self.counts, self.finished, self.unanswered = Counts(), frozenset(), 0
        self.worker = self.running = self.asked = None
