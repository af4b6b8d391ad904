"""The source when it stands on a cluster that grants us nothing but reading (Rubin, public brokers).

A transaction lives in one cluster, so offsets must stand where the outputs go. Each source partition
has a *seat*: the partition of the same number of an empty topic on the sink's cluster, named
``<group>.seats.<topic>``. Stream workers join a group there over the seats; who holds a seat reads
its source partition, by plain assignment. The seat's committed offset *is* the source offset: it is
committed in the transaction that holds the outputs, with the group's generation, so a former holder
is fenced by the group coordinator (KIP-447), and nothing is asked of the source but to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from space2vec.schemas.errors import ConfigError, KafkaError
from space2vec.schemas.settings import ClusterSettings, SourceSettings
from space2vec.stream.group_offsets import committed_offsets
from space2vec.stream.kafka_config import admin_properties, consumer_properties
from space2vec.stream.kafka_source import KafkaSource
from space2vec.stream.protocols import Message, Partition


def seat_topic(group: str, topic: str) -> str:
    """Name of the topic whose partitions are the seats of a source topic."""
    return f"{group}.seats.{topic}"


def make_seats(cluster: ClusterSettings, group: str, partitions: Iterable[Partition]) -> None:
    """Have a seat for every source partition; called again, it adds those that are new.

    Raises
    ------
    KafkaError
        If seats are missing and cannot be made.
    """
    wanted: dict[str, int] = {}
    for topic, number in partitions:
        name = seat_topic(group, topic)
        wanted[name] = max(wanted.get(name, 0), number + 1)
    admin = AdminClient(admin_properties(cluster))
    try:
        topics = admin.list_topics(timeout=30).topics
        there = {name: len(topics[name].partitions) for name in wanted if name in topics}
        fresh = [NewTopic(n, num_partitions=count) for n, count in wanted.items() if n not in there]
        grown = [NewPartitions(n, count) for n, count in wanted.items() if there.get(n, count) < count]
        futures = {
            **(admin.create_topics(fresh, operation_timeout=30) if fresh else {}),
            **(admin.create_partitions(grown, operation_timeout=30) if grown else {}),
        }
        for future in futures.values():
            future.result(timeout=60)
    except KafkaException as error:
        raise KafkaError(f"seats of group {group} cannot be made: {error.args[0].str()}") from error


class SeatedSource(KafkaSource):
    """Reads one cluster as a member of a group on another.

    Parameters
    ----------
    settings : SourceSettings
        The cluster to read, its topics, the group's name, and where to start.
    home : ClusterSettings
        The sink's cluster, where group and seats are.
    """

    def __init__(self, settings: SourceSettings, home: ClusterSettings) -> None:
        if any(topic.startswith("^") for topic in settings.topics):
            raise ConfigError("a pattern of topics needs source and sink on one cluster: name the topics")
        super().__init__(settings)
        here = SourceSettings(
            **home.model_dump(include=set(ClusterSettings.model_fields)), group=settings.group
        )
        self._member = self._open(consumer_properties(here))
        self._topic_of: dict[str, str] = {}

    def _subscription(self) -> list[str]:
        self._topic_of |= {seat_topic(self._settings.group, topic): topic for topic in self._joined}
        return [seat_topic(self._settings.group, topic) for topic in self._joined]

    def close(self) -> None:
        """Leave the group, then the source."""
        self._member.close()
        self._consumer.close()

    def positions(self, offsets: Mapping[Partition, int]) -> list[TopicPartition]:
        """Offsets of source partitions, as their seats keep them."""
        return [
            TopicPartition(seat_topic(self._settings.group, partition.topic), partition.number, offset)
            for partition, offset in offsets.items()
        ]

    def _consume(self, limit: int, timeout: float) -> list[Message]:
        self._member.poll(0)  # no message ever comes from a seat: this serves changes of assignment
        if not self._assigned:
            self._member.poll(timeout)
            return []
        return super()._consume(limit, timeout)

    def _on_assign(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        seats = committed_offsets(consumer, assigned, 30.0)
        consumer.incremental_assign(assigned)
        consumer.pause(assigned)
        super()._on_assign(self._consumer, [self._of_seat(seat) for seat in seats])

    def _let_go(self, consumer: Consumer, kafka: list[TopicPartition], partitions: list[Partition]) -> None:
        theirs = [self._of_seat(seat) for seat in kafka]
        super()._let_go(self._consumer, theirs, partitions)
        consumer.incremental_unassign(kafka)

    def _partition(self, seat: TopicPartition) -> Partition:
        return Partition(self._topic_of[seat.topic], seat.partition)

    def _of_seat(self, seat: TopicPartition) -> TopicPartition:
        return TopicPartition(*self._partition(seat), seat.offset)

    def _with_starts(self, assigned: list[TopicPartition]) -> list[TopicPartition]:
        return [tp for tp in assigned if tp.offset >= 0] + self._beginnings(
            [tp for tp in assigned if tp.offset < 0]
        )
