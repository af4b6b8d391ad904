"""The pipeline: poll, open, score, answer, commit. It knows neither Kafka nor Ray.

Batches are scored side by side and may finish in any order; they are answered in the order they
were consumed. So the outputs between two commits are exactly those of the offsets committed with
them, which is what makes exactly-once possible where the sink has transactions.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import Event

import structlog

from space2vec.schemas.settings import StreamSettings
from space2vec.stream.answers import Answer, Answerer
from space2vec.stream.batch import Batch, Opener
from space2vec.stream.counts import Counts
from space2vec.stream.deadline import Deadline
from space2vec.stream.ledger import Ledger
from space2vec.stream.measures import Load, Meter
from space2vec.stream.models import Model
from space2vec.stream.offsets import OffsetTracker
from space2vec.stream.protocols import (
    DeliveryAborted,
    Message,
    OutputRefused,
    Partition,
    Sink,
    Source,
)
from space2vec.stream.window import Window

log = structlog.get_logger()

_MOST_ABORTS = 10  # in a row, without one commit between: then a restart is the better cure
_LULL_S = 0.2  # how long to wait for messages when nothing is in flight
_SCHEMA_WAIT_S = 1.0  # between two tries to have a writer schema
_HEAD_WAIT_S = 0.05  # how long to wait for the oldest batch before looking at the source again


class Pipeline:
    """One stream worker's loop.

    Parameters
    ----------
    source, sink
        Where messages come from, and where the answers go.
    models : sequence of Model
        What looks at every alert.
    opener, answerer
        Packets to batches, and scores to records.
    ledger : Ledger
        What is answered and not yet committed.
    settings : StreamSettings
        Batch size, bounds on what is in flight, commit interval, drain budget.
    """

    def __init__(
        self,
        source: Source,
        opener: Opener,
        models: Sequence[Model],
        answerer: Answerer,
        sink: Sink,
        ledger: Ledger,
        settings: StreamSettings,
    ) -> None:
        self._source, self._opener = source, opener
        self._answerer, self._sink, self._settings = answerer, sink, settings
        self._tracker = OffsetTracker()
        self._in_flight: deque[Batch] = deque()
        self._held: list[Message] = []  # consumed, but their writer schema cannot be had now
        self._try_held_at = 0.0
        self._refused: dict[tuple[Partition, int], str] = {}
        self._ledger = ledger
        self._window = Window(settings.dedup_window)
        self._last_commit = self._turned = time.monotonic()
        self._aborts = 0
        self._failed = False
        self.counts = Counts()
        """Alerts whose answers are committed."""
        self.meter = Meter()
        self.models = self._looking = tuple(models)
        """Who looks at the next batch; may be replaced from another thread."""

    def run(self, stop: Event) -> None:
        """Work until ``stop`` is set, then finish what is in flight within the drain budget."""
        self._source.subscribe(self)
        try:
            while not stop.is_set():
                self._guarded(self._step)
            self._guarded(lambda: self._drain(Deadline(self._settings.drain_s)))
        except BaseException:
            self._failed = True  # so that leaving the group commits nothing
            raise
        finally:
            self._source.close()
            self._sink.close()

    @property
    def finished(self) -> frozenset[Partition]:
        """Assigned partitions that are at their end, with everything answered and committed."""
        return frozenset(p for p in self._source.at_end() if self._tracker.idle(p))

    @property
    def unanswered(self) -> int:
        """Messages consumed and not yet committed."""
        return self._ledger.total.messages + sum(len(b.messages) for b in self._in_flight) + len(self._held)

    @property
    def still_s(self) -> float:
        """How long ago the loop last came round, in seconds; may be asked from another thread."""
        return time.monotonic() - self._turned

    @property
    def in_use(self) -> frozenset[str]:
        """Digests of the bundles that look at what is in hand, and at what comes next; from any thread."""
        opening = self._looking  # first: a batch goes from there to what is in flight
        in_flight = [look.model for batch in list(self._in_flight) for look in batch.looks]
        return frozenset(model.bundle.sha256 for model in (*opening, *in_flight, *self.models))

    @property
    def load(self) -> Load:
        """What is in hand now; may be asked from another thread."""
        batches = list(self._in_flight)
        return Load(
            self.meter.measures.rebalances["assigned"] > 0,
            len(self._tracker.partitions),
            len(batches),
            sum(batch.size_bytes for batch in batches),
            len(self._held),
        )

    # ---- the loop -----------------------------------------------------------------------------

    def _step(self) -> None:
        self._turned = time.monotonic()
        self._take()
        self._deliver(_HEAD_WAIT_S if self._full() else 0.0)
        self._commit_when_due()

    def _take(self) -> None:
        limit = 0 if self._full() else self._settings.batch_alerts
        messages = self._source.poll(limit, 0.01 if self._in_flight else _LULL_S)
        if self._held and limit and time.monotonic() >= self._try_held_at:
            messages, self._held = self._held + messages, []
        messages = [message for message in messages if message.partition in self._tracker.partitions]
        if not messages:
            return
        self._looking = self.models
        with self.meter.stage("open"):
            batch, held = self._opener.open(messages, self._looking)
        if held:
            self._held += held
            self._try_held_at = time.monotonic() + _SCHEMA_WAIT_S
        self._source.hold(frozenset(message.partition for message in self._held))
        batch.claims = [self._tracker.track(message) for message in batch.messages]
        batch.submit()
        if batch.messages:
            self._in_flight.append(batch)

    def _deliver(self, timeout: float) -> None:
        """Write the answers of every batch that is done, oldest first."""
        while self._in_flight:
            batch = self._in_flight[0]
            if not batch.done(timeout):
                return
            self.meter.scored(batch)
            self._in_flight.popleft()
            with self.meter.stage("answer"):
                self._write(batch)

    def _write(self, batch: Batch) -> None:
        answers = self._answers(batch)
        for i, (message, claim) in enumerate(zip(batch.messages, batch.claims, strict=True)):
            if claim.live:
                admitted = self._window.admit(answers[i])
                self._sink.write(admitted.records)
                self._tracker.finish(claim)
                self._ledger.note(message, admitted.counts)
                self.meter.answered(message, batch.outcomes[i], batch.looks)

    def _answers(self, batch: Batch) -> list[Answer]:
        answers = self._answerer.answer(batch)
        for i, message in enumerate(batch.messages):
            detail = self._refused.get((message.partition, message.offset))
            if detail is not None:
                answers[i] = self._answerer.refuse(message, detail)
        return answers

    def _commit_when_due(self) -> None:
        if time.monotonic() - self._last_commit >= self._settings.commit_interval_s:
            self._commit()

    def _commit(self) -> None:
        offsets = self._tracker.committable()
        if offsets:
            self._sink.write(self._ledger.records())
            with self.meter.stage("commit"):
                self._sink.commit(offsets)
            self._tracker.committed(offsets)
            self.counts.add(self._ledger.total)
            self.meter.committed(self._ledger.by_topic)
            self._ledger.clear()
            self._window.commit()
            self._aborts = 0
            self._refused.clear()
        self._last_commit = time.monotonic()

    def _drain(self, deadline: Deadline) -> None:
        """Answer and commit what is in flight, as far as the budget reaches."""
        while self._in_flight and not deadline.passed:
            self._deliver(min(_HEAD_WAIT_S, deadline.left))
        self._commit()

    def _full(self) -> bool:
        settings = self._settings
        return (
            len(self._in_flight) >= settings.inflight_batches
            or sum(batch.size_bytes for batch in self._in_flight) >= settings.inflight_bytes
        )

    # ---- what can go wrong ---------------------------------------------------------------------

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except DeliveryAborted as error:
            self._aborts += 1
            if self._aborts > _MOST_ABORTS:
                raise
            log.warning("delivery aborted; going back to the last commit", detail=str(error))
            if isinstance(error, OutputRefused):
                for source in error.sources:
                    self._refused[source.partition, source.offset] = error.detail
            self._rewind()

    def _rewind(self) -> None:
        self._sink.abort()
        self.meter.aborted()
        self._in_flight.clear()
        self._ledger.clear()
        self._window.void()
        offsets = self._tracker.restart()
        self._held = [message for message in self._held if message.partition not in offsets]
        self._source.rewind(offsets)

    # ---- changes of assignment (called by the source, within poll) -----------------------------

    def assigned(self, partitions: Sequence[Partition]) -> None:
        """Begin with these partitions."""
        self.meter.rebalanced("assigned")
        self._tracker.assign(partitions)

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """Finish what is in flight, commit, and let go."""
        self.meter.rebalanced("revoked")
        try:
            if not self._failed:
                self._drain(Deadline(self._settings.drain_s))
        finally:
            self._let_go(partitions)

    def lost(self, partitions: Sequence[Partition]) -> None:
        """Another worker has them already: void what is under way and begin again with the rest."""
        self.meter.rebalanced("lost")
        self._let_go(partitions)
        if self._ledger.total.messages or self._in_flight:
            raise DeliveryAborted(f"lost {', '.join(map(str, partitions))}")

    def _let_go(self, partitions: Sequence[Partition]) -> None:
        self._tracker.revoke(partitions)
        self._held = [message for message in self._held if message.partition not in partitions]
