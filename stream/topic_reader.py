"""Reading whole topics, outside any group, as read_committed readers see them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka import KafkaError as Code
from confluent_kafka import Message as KafkaMessage
from confluent_kafka.admin import AdminClient, OffsetSpec

from space2vec.schemas.errors import KafkaError
from space2vec.schemas.settings import ClusterSettings
from space2vec.stream.deadline import Deadline
from space2vec.stream.kafka_config import admin_properties
from space2vec.stream.protocols import Message, Partition

_CALL_S = 30.0
_OPEN_S = 120.0  # our transactions are ended by the broker after 60 s, which it looks for every 10 s

Spans = Mapping[Partition, tuple[int, int]]
"""Per partition, the offsets to read from and up to."""


def message_of(kafka: KafkaMessage) -> Message:
    """What Kafka's client hands out, as the message that we pass on."""
    kind, timestamp = kafka.timestamp()
    return Message(
        Partition(kafka.topic(), kafka.partition()),
        kafka.offset(),
        kafka.value() or b"",
        kafka.key(),
        timestamp if kind else None,
        tuple(kafka.headers() or ()),
    )


class TopicReader:
    """Reads spans of partitions; joins no group and commits nothing.

    Parameters
    ----------
    cluster : ClusterSettings
        Where the topics are.
    group : str
        A group id that the cluster lets us name: librdkafka asks after it, though it is never joined.
    strict : bool
        Whether offsets that retention has taken are an error; else they are passed over.
    """

    def __init__(self, cluster: ClusterSettings, group: str = "space2vec", *, strict: bool = False) -> None:
        properties = admin_properties(cluster)
        self._admin = AdminClient(properties)
        self._consumer = Consumer(
            properties
            | {
                "group.id": group,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error" if strict else "earliest",
            }
        )

    def topics(self) -> list[str]:
        """Names of all topics."""
        return sorted(self._consumer.list_topics(timeout=_CALL_S).topics)

    def spans(self, topic: str) -> dict[Partition, tuple[int, int]]:
        """Where each partition of a topic begins and ends now; empty if there is no such topic.

        Raises
        ------
        KafkaError
            If the cluster cannot be reached.
        """
        try:
            metadata = self._consumer.list_topics(topic, timeout=_CALL_S).topics[topic]
            if metadata.error is not None:
                return {}
            return {
                Partition(topic, n): self._consumer.get_watermark_offsets(
                    TopicPartition(topic, n), timeout=_CALL_S
                )
                for n in metadata.partitions
            }
        except KafkaException as error:
            raise KafkaError(f"{topic}: {error.args[0].str()}") from error

    def await_open(self, topics: Iterable[str]) -> None:
        """Wait until every transaction that is open on these topics now has ended.

        A commit is acknowledged before its marker stands in every partition (KIP-98), and until then read_committed
        readers see a partition's end before the last messages that were committed.

        Raises
        ------
        KafkaError
            If one stays open for longer than the broker lets it, or the cluster cannot be reached.
        """
        for topic in topics:
            written = self._written(list(self.spans(topic)))
            deadline = Deadline(_OPEN_S)
            while behind := [p for p, (_, end) in self.spans(topic).items() if end < written.get(p, 0)]:
                if deadline.passed:
                    raise KafkaError(f"{behind[0]}: a transaction has been open for {_OPEN_S:.0f} s")
                time.sleep(0.1)

    def _written(self, partitions: list[Partition]) -> dict[Partition, int]:
        """Where partitions end for readers that see open transactions too."""
        asked = {TopicPartition(*partition): OffsetSpec.latest() for partition in partitions}
        if not asked:
            return {}
        try:
            found = self._admin.list_offsets(asked, request_timeout=_CALL_S)
            return {
                Partition(tp.topic, tp.partition): future.result(2 * _CALL_S).offset
                for tp, future in found.items()
            }
        except KafkaException as error:
            raise KafkaError(f"ends of partitions: {error.args[0].str()}") from error

    def spans_between(self, topic: str, since_ms: int, until_ms: int) -> dict[Partition, tuple[int, int]]:
        """Give what of each partition was written at or after one time and before another, milliseconds since 1970.

        Raises
        ------
        KafkaError
            If the cluster cannot be reached.
        """
        ends = self.spans(topic)
        moments = [self._offsets_at(list(ends), moment) for moment in (since_ms, until_ms)]
        return {
            partition: tuple(min(at.get(partition, end), end) for at in moments)  # type: ignore[misc]
            for partition, (_, end) in ends.items()
        }

    def _offsets_at(self, partitions: list[Partition], moment_ms: int) -> dict[Partition, int]:
        """First offset at or after a time, for the partitions that have one."""
        wanted = [TopicPartition(*partition, moment_ms) for partition in partitions]
        try:
            found = self._consumer.offsets_for_times(wanted, timeout=_CALL_S) if wanted else []
        except KafkaException as error:
            raise KafkaError(f"offsets by time: {error.args[0].str()}") from error
        return {Partition(at.topic, at.partition): at.offset for at in found if at.offset >= 0}

    def cluster_id(self) -> str:
        """Give the name that the cluster has for itself."""
        return str(self._consumer.list_topics(timeout=_CALL_S).cluster_id)

    def messages(self, spans: Spans) -> Iterator[Message]:
        """Every message in the spans; control records and what was compacted away are not among them.

        Raises
        ------
        KafkaError
            If a partition cannot be read.
        """
        left = {partition: end for partition, (begin, end) in spans.items() if begin < end}
        self._consumer.assign([TopicPartition(*p, spans[p][0]) for p in left])
        while left:
            for kafka in self._consumer.consume(1000, 0.1):  # it waits this long, or for all 1000
                partition, offset, error = (
                    Partition(kafka.topic(), kafka.partition()),
                    kafka.offset(),
                    kafka.error(),
                )
                if error is not None and error.code() != Code._PARTITION_EOF:  # noqa: SLF001
                    raise KafkaError(f"{partition}: {error.str()}")
                end = left.get(partition, 0)
                if error is None and offset < end:
                    yield message_of(kafka)
                if error is not None or offset >= end - 1:
                    left.pop(partition, None)
        self._consumer.unassign()

    def close(self) -> None:
        """Release the connections."""
        self._consumer.close()
