"""The loop with everything in memory and alerts that are numbers, so that a lost, doubled or mixed-up one is seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from threading import Event
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from space2vec.schemas.errors import PacketError, Reason
from space2vec.schemas.settings import StreamSettings
from space2vec.stream.answers import Answer
from space2vec.stream.batch import Batch, Outcome
from space2vec.stream.counts import Counts
from space2vec.stream.ledger import Ledger
from space2vec.stream.memory import MemoryScorer, MemorySink, MemorySource
from space2vec.stream.models import Look, Model
from space2vec.stream.pipeline import Pipeline
from space2vec.stream.protocols import DeliveryAborted, Message, OutputRecord, Partition

SETTINGS = StreamSettings(batch_alerts=4, inflight_batches=3, commit_interval_s=1e-9, drain_s=5.0)


class NumberOpener:
    """Takes the message's number for its stamp; ``bad`` messages are rejected."""

    def __init__(self, unavailable: dict[Partition, int] | None = None) -> None:
        self.unavailable = unavailable or {}

    def open(self, messages: Sequence[Message], models: Sequence[Model]) -> tuple[Batch, list[Message]]:
        away = {partition for partition, left in self.unavailable.items() if left > 0}
        for partition in away & {message.partition for message in messages}:
            self.unavailable[partition] -= 1
        held = [message for message in messages if message.partition in away]
        messages = [message for message in messages if message.partition not in away]
        outcomes, stamps = [], []
        for message in messages:
            if message.value.startswith(b"bad"):
                outcomes.append([Outcome(None, PacketError(Reason.BAD_RECORD, "bad"))])
                continue
            outcomes.append([Outcome(None, None, number=len(stamps))])
            stamps.append(np.full((3, 1, 1), float(message.value), np.float32))
        array = np.stack(stamps) if stamps else np.empty((0, 3, 1, 1), np.float32)
        rows = {number: number for number in range(len(stamps))}
        looks = [Look(model, array, {**rows}, [()] * len(rows), {}) for model in models]
        return Batch(list(messages), outcomes, looks), held


class NumberAnswerer:
    """Answers with the number again, so that a mixed-up row is seen."""

    def answer(self, batch: Batch) -> list[Answer]:
        answers = []
        for message, (outcome,) in zip(batch.messages, batch.outcomes, strict=True):
            scored = [look for look in batch.looks if outcome.number in look.rows]
            records = []
            for look in scored:
                assert look.scores is not None
                value = str(int(look.scores.logit[look.rows[outcome.number]])).encode()
                headers = (("sha256", look.model.bundle.sha256.encode()),)
                records.append(OutputRecord("out", None, value, headers, message))
            if records:
                answers.append(Answer(records, Counts(messages=1, scored=1)))
            else:
                answers.append(self.refuse(message, "bad"))
        return answers

    def refuse(self, message: Message, detail: str) -> Answer:
        return Answer(
            [OutputRecord("rejected", None, message.value, (), message)], Counts(messages=1, rejected=1)
        )


def identity(stamps: NDArray[np.float32]) -> NDArray[np.float32]:
    return stamps[:, 0, 0, 0]


def logs_of(lengths: Sequence[int], bad_every: int = 0, stride: int = 1) -> dict[Partition, list[Message]]:
    logs, number = {}, 0
    for p, length in enumerate(lengths):
        partition = Partition("alerts", p)
        logs[partition] = []
        for n in range(length):
            number += 1
            value = b"bad%d" % number if bad_every and number % bad_every == 0 else b"%d" % number
            logs[partition].append(Message(partition, n * stride, value))
    return logs


def model_of(
    score: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    delay: Callable[[int], int] = lambda n: 0,
    sha256: str = "one",
) -> Model:
    manifest = SimpleNamespace(name="numbers", version=sha256, classes=("real", "bogus"))
    bundle = SimpleNamespace(sha256=sha256, manifest=manifest)
    return Model(bundle, MemoryScorer(score, delay))  # type: ignore[arg-type]


def pipeline_of(
    source: MemorySource,
    sink: MemorySink,
    score: Callable[[NDArray[np.float32]], NDArray[np.float32]] = identity,
    delay: Callable[[int], int] = lambda n: 0,
    opener: NumberOpener | None = None,
    pacing: StreamSettings = SETTINGS,
) -> Pipeline:
    return Pipeline(
        source,
        opener or NumberOpener(),  # type: ignore[arg-type]
        [model_of(score, delay)],
        NumberAnswerer(),  # type: ignore[arg-type]
        sink,
        Ledger("", "test"),
        pacing,
    )


class Until(Event):
    """Set once the pipeline has answered everything (or after many looks, so that a test ends)."""

    def __init__(self, done: Callable[[], bool], looks: int = 3000) -> None:
        super().__init__()
        self._done, self._left = done, looks

    def is_set(self) -> bool:
        self._left -= 1
        return super().is_set() or self._left < 0 or self._done()


def run(pipeline: Pipeline, source: MemorySource, looks: int = 3000) -> None:
    pipeline.run(Until(lambda: pipeline.finished >= frozenset(source.logs), looks))


def assert_exactly_once(logs: Mapping[Partition, Sequence[Message]], records: Sequence[OutputRecord]) -> None:
    answered = Counter((r.source.partition, r.source.offset) for r in records)
    expected = Counter((m.partition, m.offset) for log in logs.values() for m in log)
    assert answered == expected
    for record in records:
        assert record.value == record.source.value  # the score of this alert, not of its neighbour


class FlakySink(MemorySink):
    """Aborts the commits whose number is in ``aborts``."""

    def __init__(self, source: MemorySource, aborts: set[int]) -> None:
        super().__init__(source)
        self._aborts, self._tries = aborts, 0

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        self._tries += 1
        if self._tries in self._aborts:
            raise DeliveryAborted("as planned")
        super().commit(offsets)
