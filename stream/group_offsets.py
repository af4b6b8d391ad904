"""Asking for a group's offsets, where an answer that is no offset must never be taken for "none yet"."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException

from space2vec.schemas.errors import KafkaError
from space2vec.stream.deadline import Deadline

if TYPE_CHECKING:
    from confluent_kafka import Consumer, TopicPartition

_AGAIN_S = 0.2
_PASSING = (
    Code.UNSTABLE_OFFSET_COMMIT,
    Code.NOT_COORDINATOR,
    Code.COORDINATOR_NOT_AVAILABLE,
    Code.COORDINATOR_LOAD_IN_PROGRESS,
    Code._WAIT_COORD,  # noqa: SLF001
)


def committed_offsets(
    consumer: Consumer, partitions: Sequence[TopicPartition], timeout: float
) -> list[TopicPartition]:
    """Offsets that the consumer's group has committed, negative where it has committed none yet.

    Parameters
    ----------
    consumer : Consumer
        Of the group.
    partitions : sequence of TopicPartition
        Asked about.
    timeout : float
        In seconds; what is only not to be told yet is asked for again until then.

    Raises
    ------
    KafkaError
        If the group cannot be asked, or of any partition it cannot be told now: a transaction with its offset may
        still be open. Whoever began such a partition from the start would double its alerts.
    """
    deadline = Deadline(timeout)
    while True:
        try:
            found = consumer.committed(list(partitions), timeout=max(1.0, deadline.left))
            unknown = next((tp for tp in found if tp.error is not None), None)
            if unknown is None:
                return list(found)
            error, told = unknown.error, _unknown(unknown)
        except KafkaException as raised:
            error, told = raised.args[0], f"the group's offsets: {raised.args[0].str()}"
        if not (error.retriable() or error.code() in _PASSING) or deadline.left < _AGAIN_S:
            raise KafkaError(told)
        time.sleep(_AGAIN_S)


def checked(tp: TopicPartition) -> TopicPartition:
    """Give back what was told of a partition.

    Raises
    ------
    KafkaError
        If it is an error.
    """
    if tp.error is not None:
        raise KafkaError(_unknown(tp))
    return tp


def _unknown(tp: TopicPartition) -> str:
    return f"offset of {tp.topic}-{tp.partition} is not known: {tp.error.str()}"
