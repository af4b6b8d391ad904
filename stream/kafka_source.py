"""The source in production: a member of a Kafka consumer group."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime

import structlog
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException, TopicPartition
from confluent_kafka import KafkaError as Code
from confluent_kafka import Message as KafkaMessage

from space2vec.schemas.errors import KafkaError, Space2vecError
from space2vec.schemas.settings import SourceSettings
from space2vec.stream.deadline import Deadline
from space2vec.stream.group_offsets import checked, committed_offsets
from space2vec.stream.kafka_config import Properties, consumer_properties
from space2vec.stream.nightly import topics_on
from space2vec.stream.protocols import DeliveryAborted, Message, Partition, PartitionListener
from space2vec.stream.source_topics import now

log = structlog.get_logger()

_CALL_S = 30.0
_LOGICAL = {"earliest": OFFSET_BEGINNING, "latest": OFFSET_END}
_NIGHT_S = 30.0  # between two looks whether a new night has begun
_PATIENCE_S = 5.0  # how long a full pipeline may leave the consumer alone before partitions are paused
_BATCH_BYTES = 16 << 20  # one poll should not hand out much more than this
_FINAL = (Code._AUTHENTICATION, Code.TOPIC_AUTHORIZATION_FAILED, Code.GROUP_AUTHORIZATION_FAILED)  # noqa: SLF001
_COMMIT_LATER = (
    Code.REBALANCE_IN_PROGRESS,
    Code.COORDINATOR_LOAD_IN_PROGRESS,
    Code.NOT_COORDINATOR,
    Code._WAIT_COORD,  # noqa: SLF001
)


class KafkaSource:
    """A consumer that commits only what it is told to.

    Parameters
    ----------
    settings : SourceSettings
        Cluster, topics, group and where to start.
    """

    def __init__(self, settings: SourceSettings) -> None:
        self._settings = settings
        self._listener: PartitionListener | None = None
        self._failure: Space2vecError | None = None
        self._assigned: set[Partition] = set()
        self._ends: set[Partition] = set()
        self._backlog: list[Message] = []
        self._paused = False
        self._held: frozenset[Partition] = frozenset()
        self._joined: tuple[str, ...] = ()
        self._asked = 0.0
        self._last_poll = time.monotonic()
        self._mean_bytes = 100_000.0
        self._consumer = self._open(consumer_properties(settings))
        self._member = self._consumer  # the consumer that is in the group

    # ---- the protocol --------------------------------------------------------------------------

    def subscribe(self, listener: PartitionListener) -> None:
        """Join the group."""
        self._listener = listener
        self._join()

    def _join(self) -> None:
        """Subscribe to what is to be joined now; again when a new night has begun."""
        self._asked = time.monotonic()
        topics = topics_on(self._settings.topics, now())
        if topics != self._joined:
            self._joined = topics
            self._member.subscribe(
                self._subscription(),
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )

    def _subscription(self) -> list[str]:
        return list(self._joined)

    def poll(self, limit: int, timeout: float) -> list[Message]:
        """At most ``limit`` messages, and about 16 MiB of them."""
        if limit == 0:
            return self._only_serve_events()
        if self._paused:
            self._consumer.resume(self._topic_partitions(self._assigned - self._held))
            self._paused = False
        if self._backlog:
            messages, self._backlog = self._backlog, []
            return messages
        limit = min(limit, max(1, int(_BATCH_BYTES / self._mean_bytes)))
        messages = self._consume(limit, timeout)
        if self._failure is not None:
            failure, self._failure = self._failure, None
            self._backlog = messages
            raise failure
        return messages

    def rewind(self, offsets: Mapping[Partition, int]) -> None:
        """Read these partitions again from these offsets."""
        self._backlog = [m for m in self._backlog if m.partition not in offsets]
        for partition, offset in offsets.items():
            if partition in self._assigned:
                self._ends.discard(partition)
                self._consumer.seek(TopicPartition(*partition, offset))

    def hold(self, partitions: frozenset[Partition]) -> None:
        """Take nothing from these partitions until told otherwise; take from all others."""
        self._consumer.pause(self._topic_partitions(self._assigned & partitions - self._held))
        if not self._paused:
            self._consumer.resume(self._topic_partitions(self._assigned & self._held - partitions))
        self._held = partitions

    def at_end(self) -> frozenset[Partition]:
        """Assigned partitions read to the end that they had."""
        return frozenset(self._ends & self._assigned)

    def close(self) -> None:
        """Leave the group; assigned partitions are revoked first."""
        self._consumer.close()

    # ---- what a sink needs ----------------------------------------------------------------------

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Commit offsets to the group, through rebalances.

        Raises
        ------
        DeliveryAborted
            If the group does not take them (we are not its member any more, say).
        """
        deadline = Deadline(10.0)
        while True:
            try:
                self._member.commit(offsets=self.positions(offsets), asynchronous=False)
            except KafkaException as error:
                code = error.args[0]
                if (code.retriable() or code.code() in _COMMIT_LATER) and not deadline.passed:
                    time.sleep(0.1)
                    continue
                raise DeliveryAborted(f"offsets not committed: {code.str()}") from error
            return

    def positions(self, offsets: Mapping[Partition, int]) -> list[TopicPartition]:
        """Offsets as the group keeps them, for a transaction."""
        return [TopicPartition(*partition, offset) for partition, offset in offsets.items()]

    def group_metadata(self) -> object:
        """The group's metadata as of now, for a transaction; to be read fresh each time."""
        return self._member.consumer_group_metadata()

    def _open(self, properties: Properties) -> Consumer:
        try:
            return Consumer({**properties, "error_cb": self._on_error})
        except KafkaException as error:
            raise KafkaError(f"source: {error.args[0].str()}") from error

    # ---- inside ---------------------------------------------------------------------------------

    def _consume(self, limit: int, timeout: float) -> list[Message]:
        self._last_poll = time.monotonic()
        if self._last_poll - self._asked > _NIGHT_S:
            self._join()
        try:
            batch = self._consumer.consume(limit, timeout)
        except KafkaException as error:
            raise KafkaError(f"consume: {error.args[0].str()}") from error
        messages = [message for each in batch if (message := self._message(each)) is not None]
        if messages:
            mean = sum(len(m.value) for m in messages) / len(messages)
            self._mean_bytes += 0.2 * (mean - self._mean_bytes)
        return messages

    def _message(self, kafka: KafkaMessage) -> Message | None:
        error = kafka.error()
        partition = Partition(kafka.topic(), kafka.partition())
        if error is None:
            self._ends.discard(partition)
            kind, timestamp = kafka.timestamp()
            return Message(
                partition,
                kafka.offset(),
                kafka.value() or b"",
                kafka.key(),
                timestamp if kind else None,
                tuple(kafka.headers() or ()),
            )
        if error.code() == Code._PARTITION_EOF:  # noqa: SLF001
            self._ends.add(partition)
        elif error.fatal() or error.code() in _FINAL:
            raise KafkaError(f"{partition}: {error.str()}")
        else:
            log.warning("source", detail=error.str(), partition=str(partition))
        return None

    def _only_serve_events(self) -> list[Message]:
        """Keep membership while the pipeline is full, without taking more than is already on its way."""
        if time.monotonic() - self._last_poll < _PATIENCE_S:
            return []
        if not self._paused and self._assigned:
            self._consumer.pause(self._topic_partitions(self._assigned))
            self._paused = True
        self._backlog += self._consume(1, 0.0)
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return []

    @staticmethod
    def _topic_partitions(partitions: AbstractSet[Partition]) -> list[TopicPartition]:
        return [TopicPartition(*partition) for partition in partitions]

    def _on_error(self, error: Code) -> None:
        if error.code() in _FINAL or error.fatal():
            self._failure = KafkaError(f"source: {error.str()}")
        else:
            log.warning("source", detail=error.str())

    # ---- changes of assignment -------------------------------------------------------------------

    def _on_assign(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        partitions = [Partition(tp.topic, tp.partition) for tp in assigned]
        self._assigned.update(partitions)
        self._tell(lambda listener: listener.assigned(partitions))
        consumer.incremental_assign(self._with_starts(assigned))
        # Said either way: librdkafka remembers that a partition was paused when it was let go.
        (consumer.pause if self._paused else consumer.resume)(assigned)

    def _on_revoke(self, consumer: Consumer, revoked: list[TopicPartition]) -> None:
        partitions = [self._partition(tp) for tp in revoked]
        self._tell(lambda listener: listener.revoked(partitions))
        self._let_go(consumer, revoked, partitions)

    def _on_lost(self, consumer: Consumer, lost: list[TopicPartition]) -> None:
        partitions = [self._partition(tp) for tp in lost]
        log.warning("partitions lost", partitions=[str(p) for p in partitions])
        self._tell(lambda listener: listener.lost(partitions))
        self._let_go(consumer, lost, partitions)

    def _let_go(self, consumer: Consumer, kafka: list[TopicPartition], partitions: list[Partition]) -> None:
        self._assigned.difference_update(partitions)
        self._ends.difference_update(partitions)
        self._held -= frozenset(partitions)
        self._backlog = [m for m in self._backlog if m.partition in self._assigned]
        consumer.incremental_unassign(kafka)

    def _tell(self, tell: Callable[[PartitionListener], None]) -> None:
        """Tell the listener; what it raises must not leave through librdkafka's callback."""
        assert self._listener is not None
        try:
            tell(self._listener)
        except Space2vecError as error:
            self._failure = error

    def _partition(self, tp: TopicPartition) -> Partition:
        """The source partition that an assigned one stands for."""
        return Partition(tp.topic, tp.partition)

    def _with_starts(self, assigned: list[TopicPartition]) -> list[TopicPartition]:
        """Where to begin: the group's offsets, which librdkafka fetches; else the time asked for."""
        if self._settings.start in _LOGICAL:
            return assigned
        committed = committed_offsets(self._consumer, assigned, _CALL_S)
        fresh = [tp for tp in committed if tp.offset < 0]
        return [tp for tp in committed if tp.offset >= 0] + self._beginnings(fresh)

    def _beginnings(self, fresh: list[TopicPartition]) -> list[TopicPartition]:
        """Where ``settings.start`` lies in partitions without a committed offset."""
        if not fresh or self._settings.start in _LOGICAL:
            offset = _LOGICAL.get(self._settings.start, OFFSET_BEGINNING)
            return [TopicPartition(tp.topic, tp.partition, offset) for tp in fresh]
        moment = int(datetime.fromisoformat(self._settings.start).timestamp() * 1000)
        wanted = [TopicPartition(tp.topic, tp.partition, moment) for tp in fresh]
        return [checked(tp) for tp in self._consumer.offsets_for_times(wanted, timeout=_CALL_S)]
