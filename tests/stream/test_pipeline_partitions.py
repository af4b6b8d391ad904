"""Partitions that move to another owner, or wait for a schema: what is in flight is answered once, by one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numbered import SETTINGS, FlakySink, NumberOpener, Until, assert_exactly_once, logs_of, pipeline_of, run

from space2vec.stream.memory import MemorySink, MemorySource
from space2vec.stream.protocols import DeliveryAborted, Message, OutputRecord, Partition


class LosingSource(MemorySource):
    """Has a partition taken away at one of its polls."""

    def __init__(
        self,
        logs: Mapping[Partition, Sequence[Message]],
        committed: dict[Partition, int],
        goes: Partition,
        at: int,
        lost: bool,
    ) -> None:
        super().__init__(logs, committed)
        self._goes, self._at, self._lost = goes, at, lost
        self.polls = 0

    def poll(self, limit: int, timeout: float) -> list[Message]:
        self.polls += 1
        if self.polls == self._at:
            self.revoke([self._goes], lost=self._lost)
        return super().poll(limit, timeout)


def heirs_records(
    logs: Mapping[Partition, Sequence[Message]], committed: dict[Partition, int]
) -> list[OutputRecord]:
    """What the next owner answers, from where the last commit stands."""
    source = MemorySource(logs, committed)
    sink = MemorySink(source)
    run(pipeline_of(source, sink), source)
    return sink.records


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
    _, moving = logs
    committed: dict[Partition, int] = {}
    source = LosingSource(logs, committed, moving, at=cut, lost=lost)
    sink = MemorySink(source)
    pacing = SETTINGS.model_copy(update={"commit_interval_s": commit_interval_s, "drain_s": drain_s})
    pipeline = pipeline_of(source, sink, delay=lambda n: delays[n % len(delays)], pacing=pacing)
    pipeline.run(Until(lambda: source.polls > cut + 3))
    assert_exactly_once(logs, sink.records + heirs_records(logs, committed))


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
    _, waits, goes = logs
    committed: dict[Partition, int] = {}
    source = LosingSource(logs, committed, goes, at=lost_at, lost=True)
    sink = FlakySink(source, aborts)
    opener = NumberOpener(unavailable={waits: outage})
    pipeline = pipeline_of(source, sink, opener=opener)
    rest = set(logs) - {goes} if lost_at else set(logs)
    pipeline.run(Until(lambda: source.polls > lost_at and pipeline.finished >= rest))
    assert_exactly_once(logs, sink.records + heirs_records(logs, committed))


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


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("lost", [False, True])
def test_what_waits_for_its_schema_is_not_answered_for_a_former_assignment(lost: bool) -> None:
    """The partition comes back, and with it the message: it would be there twice."""
    logs = logs_of([4, 4])
    _, waits = logs
    source = MemorySource(logs)
    sink = MemorySink(source)
    pipeline = pipeline_of(source, sink, opener=NumberOpener(unavailable={waits: 4}))
    source.subscribe(pipeline)
    pipeline._step()
    assert pipeline._held
    try:
        source.revoke([waits], lost=lost)
    except DeliveryAborted:
        pipeline._rewind()
    source.assign([waits])
    for _ in range(20):
        pipeline._step()
    assert source.committed == dict.fromkeys(logs, 4)
    assert_exactly_once(logs, sink.records)
