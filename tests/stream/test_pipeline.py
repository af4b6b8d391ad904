"""The loop: whatever order batches finish in, what fails, or which models take over, each alert is answered once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from threading import Event

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numbered import FlakySink, Until, assert_exactly_once, identity, logs_of, model_of, pipeline_of, run
from numpy.typing import NDArray

from space2vec.stream.memory import MemorySink, MemorySource
from space2vec.stream.models import Model
from space2vec.stream.pipeline import Pipeline
from space2vec.stream.protocols import DeliveryAborted, OutputRecord, OutputRefused, Partition


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


def test_endless_aborts_end_the_worker() -> None:
    source = MemorySource(logs_of([3]))
    with pytest.raises(DeliveryAborted):
        run(pipeline_of(source, FlakySink(source, set(range(100)))), source)
    assert source.committed == {}


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


@settings(max_examples=60)
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
