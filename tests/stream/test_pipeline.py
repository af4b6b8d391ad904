"""The loop with everything in memory: any order of finishing, any interruption, no loss, no double."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
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
from space2vec.stream.protocols import (
    DeliveryAborted,
    Message,
    OutputRecord,
    OutputRefused,
    Partition,
)

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


class Swapping(Event):
    """Stops as another event does; at some of its looks, other models take over."""

    def __init__(self, pipeline: Pipeline, until: Event, lineups: Mapping[int, Sequence[Model]]) -> None:
        super().__init__()
        self._pipeline, self._until, self._lineups, self._look = pipeline, until, lineups, 0

    def is_set(self) -> bool:
        self._look += 1
        if self._look in self._lineups:
            self._pipeline.models = tuple(self._lineups[self._look])
        in_use = self._pipeline.in_use
        assert {model.bundle.sha256 for model in self._pipeline.models} <= in_use
        return self._until.is_set()


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


@settings(max_examples=60)
@given(
    lengths=st.lists(st.integers(0, 25), min_size=1, max_size=3),
    delays=st.lists(st.integers(0, 4), min_size=1, max_size=8),
    bad_every=st.integers(0, 5),
    stride=st.integers(1, 3),
)
def test_every_message_is_answered_once_in_order(
    lengths: list[int], delays: list[int], bad_every: int, stride: int
) -> None:
    logs = logs_of(lengths, bad_every, stride)
    source = MemorySource(logs)
    sink = MemorySink(source)
    pipeline = pipeline_of(source, sink, delay=lambda n: delays[n % len(delays)])
    run(pipeline, source)
    assert_exactly_once(logs, sink.records)
    for partition, log in logs.items():
        offsets = [r.source.offset for r in sink.records if r.source.partition == partition]
        assert offsets == [m.offset for m in log]
        if log:
            assert source.committed[partition] == log[-1].offset + 1
    assert pipeline.counts.messages == sum(map(len, logs.values()))
    assert pipeline.counts.scored + pipeline.counts.rejected == pipeline.counts.messages


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


@settings(max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 25), min_size=1, max_size=3),
    aborts=st.sets(st.integers(1, 12), max_size=6),
    delays=st.lists(st.integers(0, 3), min_size=1, max_size=5),
)
def test_aborted_commits_lose_and_double_nothing(
    lengths: list[int], aborts: set[int], delays: list[int]
) -> None:
    logs = logs_of(lengths)
    source = MemorySource(logs)
    sink = FlakySink(source, aborts)
    run(pipeline_of(source, sink, delay=lambda n: delays[n % len(delays)]), source)
    assert_exactly_once(logs, sink.records)


@settings(max_examples=150)
@given(
    cut=st.integers(1, 8),
    lost=st.booleans(),
    delays=st.lists(st.integers(0, 3), min_size=1, max_size=5),
    commit_interval_s=st.sampled_from([1e-9, 1e9]),
    drain_s=st.sampled_from([1e-9, 5.0]),
)
def test_a_partition_that_moves_is_answered_once_between_its_owners(
    cut: int, lost: bool, delays: list[int], commit_interval_s: float, drain_s: float
) -> None:
    """Whoever comes next begins where the last commit stands: whether the first was asked or not, and
    whether or not its budget let it finish what was in flight."""
    logs = logs_of([20, 20])
    moving = Partition("alerts", 1)
    committed: dict[Partition, int] = {}
    source = MemorySource(logs, committed)
    sink = MemorySink(source)
    pacing = SETTINGS.model_copy(update={"commit_interval_s": commit_interval_s, "drain_s": drain_s})
    pipeline = pipeline_of(source, sink, delay=lambda n: delays[n % len(delays)], pacing=pacing)

    polls = 0
    plain_poll = source.poll

    def poll(limit: int, timeout: float) -> list[Message]:
        nonlocal polls
        polls += 1
        if polls == cut:
            source.revoke([moving], lost=lost)
        return plain_poll(limit, timeout)

    source.poll = poll  # type: ignore[method-assign]
    pipeline.run(Until(lambda: polls > cut + 3))

    heir = MemorySource(logs, committed)
    heir_sink = MemorySink(heir)
    run(pipeline_of(heir, heir_sink), heir)
    assert_exactly_once(logs, sink.records + heir_sink.records)


@pytest.mark.parametrize("lost", [False, True])
def test_what_a_slow_drain_leaves_is_not_answered_later(lost: bool) -> None:
    """A batch still being scored when its partition goes is the next owner's to answer."""
    logs = logs_of([4, 4])
    stays, goes = logs
    source = MemorySource(logs)
    sink = MemorySink(source)
    pacing = SETTINGS.model_copy(update={"drain_s": 1e-9})
    pipeline = pipeline_of(source, sink, delay=lambda n: 5, pacing=pacing)
    source.subscribe(pipeline)
    pipeline._take()
    try:
        source.revoke([goes], lost=lost)
    except DeliveryAborted:
        pipeline._rewind()
    for _ in range(20):
        pipeline._step()
    assert source.committed == {stays: 4}
    assert_exactly_once({stays: logs[stays]}, sink.records)


def test_revocation_answers_and_commits_what_is_in_flight() -> None:
    logs = logs_of([4])
    source = MemorySource(logs)
    sink = MemorySink(source)
    pipeline = pipeline_of(source, sink, delay=lambda n: 2)
    source.subscribe(pipeline)
    pipeline._take()
    source.revoke([Partition("alerts", 0)])
    assert_exactly_once(logs, sink.records)
    assert source.committed == {Partition("alerts", 0): 4}


def test_one_poisonous_alert_takes_no_other_with_it() -> None:
    def score(stamps: NDArray[np.float32]) -> NDArray[np.float32]:
        if (stamps == 7).any():
            raise RuntimeError("poison")
        return identity(stamps)

    logs = logs_of([12])
    source = MemorySource(logs)
    sink = MemorySink(source)
    pipeline = pipeline_of(source, sink, score)
    run(pipeline, source)
    assert_exactly_once(logs, sink.records)
    assert [r.value for r in sink.records if r.topic == "rejected"] == [b"7"]


def test_an_output_that_the_broker_refuses_becomes_a_dead_letter() -> None:
    class PickySink(MemorySink):
        def write(self, records: Sequence[OutputRecord]) -> None:
            for record in records:
                if record.topic == "out" and record.value == b"5":
                    raise OutputRefused([record.source], "too large")
            super().write(records)

    logs = logs_of([12])
    source = MemorySource(logs)
    sink = PickySink(source)
    run(pipeline_of(source, sink), source)
    assert_exactly_once(logs, sink.records)
    assert [r.value for r in sink.records if r.topic == "rejected"] == [b"5"]


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("space2vec.stream.pipeline._SCHEMA_WAIT_S", 0.0)


@pytest.mark.usefixtures("_impatient")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(outage=st.integers(1, 8), aborts=st.sets(st.integers(1, 8), max_size=4), lost_at=st.integers(0, 8))
def test_an_outage_of_the_registry_holds_its_partitions_and_loses_nothing(
    outage: int, aborts: set[int], lost_at: int
) -> None:
    """Also when a commit is aborted, or another partition lost, while messages wait for their schema."""
    logs = logs_of([12, 12, 4])
    waits = Partition("alerts", 1)
    committed: dict[Partition, int] = {}
    source = MemorySource(logs, committed)
    sink = FlakySink(source, aborts)
    opener = NumberOpener(unavailable={waits: outage})
    pipeline = pipeline_of(source, sink, opener=opener)
    polls = 0
    plain_poll = source.poll

    def poll(limit: int, timeout: float) -> list[Message]:
        nonlocal polls
        polls += 1
        if polls == lost_at:
            source.revoke([Partition("alerts", 2)], lost=True)
        return plain_poll(limit, timeout)

    source.poll = poll  # type: ignore[method-assign]
    rest = set(logs) - {Partition("alerts", 2)} if lost_at else set(logs)
    pipeline.run(Until(lambda: polls > lost_at and pipeline.finished >= rest))
    heir = MemorySource(logs, committed)
    heir_sink = MemorySink(heir)
    run(pipeline_of(heir, heir_sink), heir)
    assert_exactly_once(logs, sink.records + heir_sink.records)


@pytest.mark.usefixtures("_impatient")
def test_partitions_with_known_schemas_go_on_meanwhile() -> None:
    logs = logs_of([12, 12])
    goes_on, waits = logs
    source = MemorySource(logs)
    sink = MemorySink(source)
    pipeline = pipeline_of(source, sink, opener=NumberOpener(unavailable={waits: 10**9}))
    pipeline.run(Until(lambda: source.committed.get(goes_on) == 12))
    assert_exactly_once({goes_on: logs[goes_on]}, sink.records)
    assert waits not in source.committed
    assert len(pipeline._held) <= SETTINGS.batch_alerts


def test_endless_aborts_end_the_worker() -> None:
    source = MemorySource(logs_of([3]))
    with pytest.raises(DeliveryAborted):
        run(pipeline_of(source, FlakySink(source, set(range(100)))), source)
    assert source.committed == {}


def test_stopping_finishes_what_is_in_flight() -> None:
    logs = logs_of([40])
    source = MemorySource(logs)
    sink = MemorySink(source)
    pipeline = pipeline_of(source, sink, delay=lambda n: 2)
    pipeline.run(Until(lambda: False, looks=3))
    assert pipeline.unanswered == 0
    answered = [r.source.offset for r in sink.records]
    assert answered == list(range(len(answered)))
    assert source.committed[Partition("alerts", 0)] == len(answered) > 0


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(0, 25), min_size=1, max_size=3),
    delays=st.lists(st.integers(0, 3), min_size=1, max_size=20),
    swaps=st.dictionaries(
        st.integers(1, 40), st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True)
    ),
    aborts=st.sets(st.integers(1, 12), max_size=3),
)
def test_models_change_in_the_middle_and_nothing_is_lost_or_doubled(
    lengths: list[int], delays: list[int], swaps: dict[int, list[str]], aborts: set[int]
) -> None:
    logs = logs_of(lengths)
    source = MemorySource(logs)
    sink = FlakySink(source, aborts)

    def delay(n: int) -> int:
        return delays[n % len(delays)]

    pipeline = pipeline_of(source, sink, delay=delay)
    lineups = {look: [model_of(identity, delay, name) for name in names] for look, names in swaps.items()}
    until = Until(lambda: pipeline.finished >= frozenset(source.logs))
    pipeline.run(Swapping(pipeline, until, lineups))
    answers: dict[tuple[Partition, int], Counter[str]] = {}
    for record in sink.records:
        assert record.value == record.source.value
        sha256 = (dict(record.headers)["sha256"] or b"").decode()
        answers.setdefault((record.source.partition, record.source.offset), Counter())[sha256] += 1
    assert set(answers) == {(m.partition, m.offset) for log in logs.values() for m in log}
    known = [{"one"}, *map(set, swaps.values())]
    for counts in answers.values():
        assert set(counts) in known  # one line-up answers a message, and all of it
        assert set(counts.values()) == {1}
