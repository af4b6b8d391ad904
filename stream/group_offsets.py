"""Asking for a group's offsets, where an answer that is no offset must never be taken for "none yet"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException

from space2vec.schemas.errors import KafkaError

if TYPE_CHECKING:
    from confluent_kafka import Consumer, TopicPartition


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
        In seconds.

    Raises
    ------
    KafkaError
        If the group cannot be asked, or of any partition it cannot be told now: a transaction with its offset may
        still be open. Whoever began such a partition from the start would double its alerts.
    """
    try:
        found: list[TopicPartition] = consumer.committed(list(partitions), timeout=timeout)
    except KafkaException as error:
        raise KafkaError(f"the group's offsets: {error.args[0].str()}") from error
    return [checked(tp) for tp in found]


def checked(tp: TopicPartition) -> TopicPartition:
    """Give back what was told of a partition.

    Raises
    ------
    KafkaError
        If it is an error.
    """
    if tp.error is not None:
        raise KafkaError(f"offset of {tp.topic}-{tp.partition} is not known: {tp.error.str()}")
    return tp
