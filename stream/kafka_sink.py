"""Sinks in production: at least once by acknowledged delivery, exactly once by transactions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import structlog
from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException, Producer, TopicPartition

from space2vec.schemas.errors import KafkaError
from space2vec.schemas.settings import Settings
from space2vec.stream.deadline import Deadline
from space2vec.stream.kafka_config import producer_properties
from space2vec.stream.output_topics import OutputTopics
from space2vec.stream.protocols import (
    DeliveryAborted,
    Message,
    OutputRecord,
    OutputRefused,
    Partition,
)

log = structlog.get_logger()

_PATIENCE_S = 60.0  # for one call to the cluster, retries included
_FENCE_S = 10.0
_TOO_LARGE = (Code.MSG_SIZE_TOO_LARGE, Code.RECORD_LIST_TOO_LARGE)
_NO_TRANSACTIONS = (
    Code._UNSUPPORTED_FEATURE,  # noqa: SLF001
    Code.UNSUPPORTED_VERSION,
    Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    Code.CLUSTER_AUTHORIZATION_FAILED,
)


class NoTransactions(KafkaError):
    """The cluster has no transactions, or grants us none: it says so itself, and will not say otherwise later."""


class GroupMember(Protocol):
    """The source as a sink sees it: where offsets are committed."""

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Commit offsets to the group."""

    def positions(self, offsets: Mapping[Partition, int]) -> list[TopicPartition]:
        """Offsets as the group keeps them."""

    def group_metadata(self) -> object:
        """The group's metadata as of now."""


class _Writer:
    """Producing with the queue bounded and every failure remembered until the next commit."""

    def __init__(self, producer: Producer, topics: OutputTopics) -> None:
        self.producer = producer
        self._topics = topics
        self._failures: list[tuple[Message, Code]] = []

    def write(self, records: Sequence[OutputRecord]) -> None:
        for record in records:
            self._topics.ensure(record.topic)
            self._produce(record)
        self.producer.poll(0)

    def _produce(self, record: OutputRecord) -> None:
        def on_delivery(error: Code | None, _: object) -> None:
            if error is not None:
                self._failures.append((record.source, error))

        deadline = Deadline(_PATIENCE_S)
        while True:
            try:
                self.producer.produce(
                    record.topic,
                    record.value,
                    record.key,
                    headers=list(record.headers),
                    on_delivery=on_delivery,
                )
            except BufferError as error:  # the queue is full: let it empty
                if deadline.passed:
                    raise DeliveryAborted(f"no room to produce for {_PATIENCE_S:.0f} s") from error
                self.producer.poll(0.1)
                continue
            except KafkaException as error:
                code = error.args[0]
                if code.code() in _TOO_LARGE:
                    raise OutputRefused([record.source], code.str()) from error
                if code.code() == Code._STATE:  # noqa: SLF001 - an earlier record failed the transaction: which?
                    self.producer.flush(_PATIENCE_S)
                    self.raise_failures()
                    raise DeliveryAborted(f"produce: {code.str()}") from error
                raise _translated(error, "produce") from error
            return

    def flush(self) -> None:
        left = self.producer.flush(_PATIENCE_S)
        self.raise_failures()
        if left:
            raise DeliveryAborted(f"{left} outputs not acknowledged within {_PATIENCE_S:.0f} s")

    def raise_failures(self) -> None:
        failures, self._failures = self._failures, []
        refused = {
            (source.partition, source.offset): (source, error)
            for source, error in failures
            if error.code() in _TOO_LARGE
        }
        if refused:
            sources, errors = zip(*refused.values(), strict=True)
            raise OutputRefused(sources, errors[0].str())
        if failures:
            raise DeliveryAborted(f"output of {failures[0][0]} not delivered: {failures[0][1].str()}")

    def forget(self) -> None:
        self._failures.clear()


def _translated(error: KafkaException, doing: str) -> DeliveryAborted | KafkaError:
    """What a failed call means: abort and go back, or (fenced, fatal, unmarked) restart."""
    code = error.args[0]
    if code.txn_requires_abort():
        return DeliveryAborted(f"{doing}: {code.str()}")
    if code.code() in _NO_TRANSACTIONS:
        return NoTransactions(f"{doing}: {code.str()}")
    return KafkaError(f"{doing}: {code.str()}")


class AtLeastOnceSink:
    """Produce, wait for every acknowledgement, then commit the group's offsets.

    A crash between the two leaves outputs that will be made again: consumers drop doubles by
    (alert id, model sha256).
    """

    def __init__(self, producer: Producer, topics: OutputTopics, group: GroupMember) -> None:
        self._writer = _Writer(producer, topics)
        self._group = group

    def write(self, records: Sequence[OutputRecord]) -> None:
        """Queue records for sending."""
        self._writer.write(records)

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Wait for acknowledgements, then commit offsets."""
        self._writer.flush()
        self._group.commit(offsets)

    def abort(self) -> None:
        """What has been sent stays sent; only the memory of failures goes."""
        self._writer.producer.flush(_PATIENCE_S)
        self._writer.forget()

    def close(self) -> None:
        """Send what is queued."""
        self._writer.producer.flush(5.0)


class ExactlyOnceSink:
    """Outputs and offsets in one Kafka transaction (KIP-447): read_committed readers see each once.

    Parameters
    ----------
    producer : Producer
        With a ``transactional.id`` of its own; an older holder of the id is fenced.

    Raises
    ------
    NoTransactions
        If the cluster has none for us.
    KafkaError
        If it cannot be reached, or does not answer in time.
    """

    def __init__(self, producer: Producer, topics: OutputTopics, group: GroupMember) -> None:
        self._producer = producer
        self._writer = _Writer(producer, topics)
        self._group = group
        self._open = False
        self._call(lambda: producer.init_transactions(_PATIENCE_S), "init_transactions")

    def write(self, records: Sequence[OutputRecord]) -> None:
        """Add records to the transaction, which is begun if need be."""
        self._begin()
        self._writer.write(records)

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Commit outputs and offsets together."""
        self._begin()
        self._writer.flush()
        positions = self._group.positions(offsets)
        if positions:
            self._call(
                lambda: self._producer.send_offsets_to_transaction(
                    positions, self._group.group_metadata(), _PATIENCE_S
                ),
                "send_offsets_to_transaction",
            )
        self._call(lambda: self._producer.commit_transaction(_PATIENCE_S), "commit_transaction")
        self._open = False

    def abort(self) -> None:
        """Abort the transaction: its outputs are never seen by read_committed readers."""
        if self._open:
            self._call(lambda: self._producer.abort_transaction(_PATIENCE_S), "abort_transaction")
            self._open = False
        self._writer.forget()

    def close(self) -> None:
        """Abort what is open; its offsets are not committed, so nothing is lost."""
        self._producer.close(5.0)

    def _begin(self) -> None:
        if not self._open:
            self._call(self._producer.begin_transaction, "begin_transaction")
            self._open = True

    @staticmethod
    def _call(call: Callable[[], Any], doing: str) -> None:
        deadline = Deadline(2 * _PATIENCE_S)
        while True:
            try:
                call()
            except KafkaException as error:
                if error.args[0].retriable() and not deadline.passed:
                    time.sleep(0.1)
                    continue
                raise _translated(error, doing) from error
            return


def fence(settings: Settings, name: str) -> None:
    """End the transaction of a stream worker that is lost, and with it the worker's right to write.

    Its replacement would do so too, once it runs. Until then, or until the broker gives up on the transaction after a
    minute, readers of what is committed see nothing that was written after it began, and whoever has taken over its
    partitions may have to wait for their offsets. Where it cannot be done, that is logged.

    Parameters
    ----------
    settings : Settings
        Those of the run.
    name : str
        The worker's.
    """
    if settings.stream.dry_run or settings.stream.delivery == "at-least-once":
        return
    try:
        producer = Producer(producer_properties(settings.sink, settings.source, name))
        producer.init_transactions(_FENCE_S)
    except KafkaException as error:
        if error.args[0].code() not in _NO_TRANSACTIONS:
            log.warning("transaction of a lost worker not ended", worker=name, detail=error.args[0].str())
