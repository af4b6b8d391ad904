"""The source beside a consumer that does as librdkafka's: pauses last, for what is kept and what is given back."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import TopicPartition

from space2vec.schemas.settings import SourceSettings
from space2vec.stream import kafka_source
from space2vec.stream.kafka_source import KafkaSource
from space2vec.stream.protocols import Message, Partition


class FakeConsumer:
    """Reads nothing; knows what is assigned and paused, and rebalances while it is polled."""

    def __init__(self) -> None:
        self.assigned: set[tuple[str, int]] = set()
        self.paused: set[tuple[str, int]] = set()
        self.coming: list[TopicPartition] = []

    def subscribe(self, topics: list[str], on_assign: Any, **_: Any) -> None:
        self.on_assign = on_assign

    def consume(self, limit: int, timeout: float) -> list[Any]:
        if self.coming:
            coming, self.coming = self.coming, []
            self.on_assign(self, coming)
        return []

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned |= _places(partitions)

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        self.assigned -= _places(partitions)

    def pause(self, partitions: list[TopicPartition]) -> None:
        self.paused |= _places(partitions) & self.assigned

    def resume(self, partitions: list[TopicPartition]) -> None:
        self.paused -= _places(partitions)


def _places(partitions: list[TopicPartition]) -> set[tuple[str, int]]:
    return {(tp.topic, tp.partition) for tp in partitions}


class Listener:
    def assigned(self, partitions: list[Partition]) -> None:
        pass

    def revoked(self, partitions: list[Partition]) -> None:
        pass

    lost = revoked


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> FakeConsumer:
    fake = FakeConsumer()
    monkeypatch.setattr(KafkaSource, "_open", lambda *_: fake)
    monkeypatch.setattr(kafka_source, "_PATIENCE_S", -1.0)
    return fake


@pytest.mark.parametrize("more", [[TopicPartition("night", 1)], []], ids=["one more", "nothing new"])
def test_what_a_full_pipeline_paused_is_read_again_after_a_rebalance(
    consumer: FakeConsumer, more: list[TopicPartition]
) -> None:
    source = KafkaSource(SourceSettings(topics=("night",)))
    source.subscribe(Listener())  # type: ignore[arg-type]
    consumer.coming = [TopicPartition("night", 0)]
    nothing: list[Message] = []
    assert source.poll(8, 0.0) == nothing
    assert consumer.paused == set()
    consumer.coming = more
    source.poll(0, 0.0)  # pauses, and is given partitions
    if not more:
        source._on_assign(consumer, [])  # type: ignore[arg-type]
    assert consumer.paused == consumer.assigned
    source.poll(8, 0.0)
    assert consumer.paused == set()
    assert len(consumer.assigned) == 1 + len(more)


@pytest.mark.parametrize("way", ["_on_revoke", "_on_lost"])
@pytest.mark.parametrize("full", [True, False])
def test_what_was_let_go_while_paused_is_read_when_it_comes_back(
    consumer: FakeConsumer, way: str, full: bool
) -> None:
    source = KafkaSource(SourceSettings(topics=("night",)))
    source.subscribe(Listener())  # type: ignore[arg-type]
    stays, goes = TopicPartition("night", 0), TopicPartition("night", 1)
    consumer.coming = [stays, goes]
    source.poll(8, 0.0)
    if full:
        source.poll(0, 0.0)  # the pipeline is full, so all is paused
    else:
        source.hold(frozenset({Partition("night", 1)}))
    assert _places([goes]) <= consumer.paused
    getattr(source, way)(consumer, [goes])
    source.poll(8, 0.0)
    source._on_assign(consumer, [goes])  # type: ignore[arg-type]
    assert consumer.paused == set()
    source.hold(frozenset({Partition("night", 1)}))
    assert consumer.paused == _places([goes])
