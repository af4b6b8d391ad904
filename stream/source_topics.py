"""Looking at the topics of the source before joining: whether they are there, and their partitions."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, TopicMetadata

from space2vec.schemas.errors import ConfigError, KafkaError
from space2vec.schemas.settings import SourceSettings
from space2vec.stream.deadline import Deadline
from space2vec.stream.kafka_config import admin_properties
from space2vec.stream.nightly import NIGHT, topics_on
from space2vec.stream.protocols import Partition

_REFUSED = (Code._AUTHENTICATION, Code._SSL)  # noqa: SLF001 - waiting does not cure these
_TELLING = (*_REFUSED, Code._RESOLVE)  # noqa: SLF001
_FIRST_S = 1.0
"""The first wait for an answer; each is twice the one before, so that one of a slow cluster arrives too."""


def now() -> datetime:
    """The time that decides which night's topics are joined."""
    return datetime.now(UTC)


def source_partitions(source: SourceSettings, timeout: float = 15.0) -> frozenset[Partition]:
    """Every partition of the topics that the source names.

    Parameters
    ----------
    source : SourceSettings
        Topics may be patterns (``^ztf_.*``), as librdkafka has them, or named by the night.
    timeout : float
        Seconds to wait for the cluster.

    Raises
    ------
    ConfigError
        If no topic is named.
    KafkaError
        If the cluster cannot be reached, or a topic that is named outright does not exist.
    """
    if not source.topics:
        raise ConfigError("no source topic: give --topic, SPACE2VEC_SOURCE__TOPICS or source.topics")
    topics = _topics(source, Deadline(timeout))
    wanted: set[str] = set()
    nightly = {
        name for template in source.topics if NIGHT in template for name in topics_on([template], now())
    }
    for name in topics_on(source.topics, now()):
        if name.startswith("^"):
            wanted |= {topic for topic in topics if re.match(name, topic)}
        elif name in topics and topics[name].error is None:
            wanted.add(name)
        elif name not in nightly:  # a night's topic comes with its first alert, and goes some nights later
            there = ", ".join(sorted(t for t in topics if not t.startswith("__"))[:10]) or "none"
            raise KafkaError(f"no topic {name} at {source.brokers} (there: {there})")
    return frozenset(Partition(topic, n) for topic in wanted for n in topics[topic].partitions)


def _topics(source: SourceSettings, deadline: Deadline) -> dict[str, TopicMetadata]:
    """Ask for the cluster's topics until it answers, or says that it will not."""
    refused: list[Code] = []  # the call itself only says that no broker could be had
    admin = AdminClient(admin_properties(source) | {"error_cb": refused.append})
    wait = _FIRST_S
    while True:
        try:
            topics: dict[str, TopicMetadata] = admin.list_topics(timeout=min(wait, deadline.left)).topics
            return topics
        except KafkaException as error:
            admin.poll(0)
            why = next((code for code in refused if code.code() in _TELLING), error.args[0])
            if why.code() in _REFUSED or deadline.passed:
                raise KafkaError(f"cannot reach {source.brokers}: {why.str()}") from error
            wait *= 2
