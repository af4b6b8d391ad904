"""The transaction of a stream worker that is lost is ended without waiting for the worker, or for the broker."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from space2vec.stream.kafka_config import producer_properties
from space2vec.stream.kafka_sink import fence


@pytest.mark.kafka
@pytest.mark.timeout(120)
def test_readers_and_heirs_need_not_wait_for_a_lost_worker(kafka, broker, settings_for) -> None:
    if broker.kind == "embedded":
        pytest.skip(f"not provable on the embedded broker: {broker.cannot_prove}")
    topic = kafka.create_topic()
    settings = settings_for(topic, stream={"delivery": "exactly-once"})
    name = f"{settings.source.group}.host.0"
    lost = Producer(producer_properties(settings.sink, settings.source, name))
    lost.init_transactions(30)
    lost.begin_transaction()
    lost.produce(topic, b"of the lost one", partition=0)
    group = {"bootstrap.servers": kafka.bootstrap, "group.id": settings.source.group}
    heir = Consumer(group)
    lost.send_offsets_to_transaction(
        [TopicPartition(topic, 0, 7)], Consumer(group).consumer_group_metadata(), 30
    )
    plain = Producer({"bootstrap.servers": kafka.bootstrap})
    plain.produce(topic, b"after it", partition=0)
    assert plain.flush(30) == 0
    with pytest.raises(TimeoutError):
        kafka.read(topic, 1, deadline_s=3)
    with pytest.raises(KafkaException):
        heir.committed([TopicPartition(topic, 0)], timeout=2)

    fence(settings, name)

    assert [message.value() for message in kafka.read(topic, 1, deadline_s=10)] == [b"after it"]
    assert heir.committed([TopicPartition(topic, 0)], timeout=10)[0].offset < 0
    with pytest.raises(KafkaException, match=r"(?i)fence|epoch"):
        lost.commit_transaction(10)
