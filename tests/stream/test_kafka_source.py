"""The source beside a consumer that does as librdkafka's: pauses last through rebalances for what is kept."""

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

    def pause(self, partitions: list[TopicPartition]) -> None:
        self.paused |= _places(partitions) & self.assigned

    def resume(self, partitions: list[TopicPartition]) -> None:
        self.paused -= _places(partitions)


def _places(partitions: list[TopicPartition]) -> set[tuple[str, int]]:
    return {(tp.topic, tp.partition) for tp in partitions}


class Listener:
    def assigned(self, partitions: list[Partition]) -> None:
        pass


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
