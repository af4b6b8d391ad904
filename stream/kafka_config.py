"""From settings to librdkafka properties. The user's own options win, unless they would lose alerts."""

from __future__ import annotations

from typing import Any

from space2vec.schemas.errors import ConfigError
from space2vec.schemas.settings import ClusterSettings, SinkSettings, SourceSettings
from space2vec.stream.logs import LIBRDKAFKA

Properties = dict[str, Any]

# Setting these otherwise would commit offsets of alerts that have not been answered.
_KEPT = {"enable.auto.commit": "false", "enable.auto.offset.store": "false"}
_CONSUMER_ONLY = (
    "auto.offset.",
    "check.crcs",
    "enable.auto.",
    "enable.partition.eof",
    "fetch.",
    "group.",
    "heartbeat.",
    "isolation.level",
    "max.poll.",
    "partition.assignment.",
    "queued.",
    "session.",
)
_CLASSIC_ONLY = ("partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms")


def cluster_properties(cluster: ClusterSettings) -> Properties:
    """Bootstrap servers and credentials of a cluster.

    Raises
    ------
    ConfigError
        If the password file cannot be read.
    """
    properties: Properties = {"bootstrap.servers": cluster.brokers, "client.id": "space2vec"}
    if cluster.username is not None:
        properties |= {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": cluster.username,
            "sasl.password": _password(cluster),
        }
    return properties | cluster.options


def _password(cluster: ClusterSettings) -> str:
    if cluster.password is not None:
        return cluster.password.get_secret_value()
    if cluster.password_file is None:
        raise ConfigError(f"user {cluster.username!r} has no password: set password or password_file")
    try:
        return cluster.password_file.read_text().strip()
    except OSError as error:
        raise ConfigError(f"cannot read password_file {cluster.password_file}: {error.strerror}") from error


def consumer_properties(source: SourceSettings) -> Properties:
    """Properties of the source's consumer, sized for packets of 60 to 300 kB.

    Raises
    ------
    ConfigError
        If an option would commit alerts that have not been answered, or leave partitions unread.
    """
    for name, value in _KEPT.items():
        if source.options.get(name, value) != value:
            raise ConfigError(
                f"{name}={source.options[name]} would lose alerts: offsets are committed with their answers"
            )
    if "group.instance.id" in source.options:
        raise ConfigError(
            "group.instance.id: a static member that dies in the middle of a cooperative rebalance leaves partitions "
            "that nobody reads"
        )
    properties: Properties = {
        "logger": LIBRDKAFKA,
        "group.id": source.group,
        "partition.assignment.strategy": "cooperative-sticky",
        # How long the partitions of a member that was killed wait for another; the default is 45 s.
        "session.timeout.ms": 10_000,
        "auto.offset.reset": source.start if source.start in ("earliest", "latest") else "earliest",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "check.crcs": True,
        # A night's topic and new partitions are taken up this soon after they appear; the default is 5 min.
        "topic.metadata.refresh.interval.ms": 30_000,
        # A partition's fetch must hold many packets: the default of 1 MiB holds eight. But what a fetch brings is
        # held as it unfolds, by a factor of two to ten where the topic is compressed, and beyond the bound below.
        "fetch.message.max.bytes": 2 << 20,
        "fetch.max.bytes": 8 << 20,
        "fetch.wait.max.ms": 100,
        # The bound on what librdkafka holds ahead; its default back-off of 1 s would leave gaps at the bound.
        "queued.max.messages.kbytes": max(1, source.prefetch_bytes >> 10),
        "fetch.queue.backoff.ms": 20,
    } | _KEPT
    properties = cluster_properties(source) | properties | source.options
    if properties.get("group.protocol") == "consumer":  # KIP-848: the broker decides these
        for name in _CLASSIC_ONLY:
            properties.pop(name, None)
    return properties


def producer_properties(
    sink: SinkSettings, source: SourceSettings, transactional_id: str | None
) -> Properties:
    """Properties of the sink's producer; with a transactional id it is exactly-once capable."""
    cluster = sink_cluster(sink, source)
    properties = _without_consumers(cluster_properties(cluster)) | {
        # An idle producer is not polled, so its log would pile up; what goes wrong comes with the call that fails.
        "log_level": 2,
        "enable.idempotence": True,
        "linger.ms": 5,
        "compression.type": "lz4",
        "message.max.bytes": sink.max_message_bytes,
        "queue.buffering.max.kbytes": 64 << 10,
        # Shorter than the transaction's timeout, so that a failure is seen before the broker gives up.
        "message.timeout.ms": 30_000,
        "delivery.report.only.error": True,
    }
    if transactional_id is not None:
        properties |= {"transactional.id": transactional_id, "transaction.timeout.ms": 60_000}
    return properties | _without_consumers(cluster.options)


def sink_cluster(sink: SinkSettings, source: SourceSettings) -> ClusterSettings:
    """The cluster that outputs go to: the source's, unless the sink names another."""
    return sink if sink.brokers else source


def admin_properties(cluster: ClusterSettings) -> Properties:
    """Properties that reach a cluster and nothing else, for looking at topics and making them.

    Without librdkafka's log: what such a client has to say comes with the failure of the call.
    """
    return {
        name: value
        for name, value in cluster_properties(cluster).items()
        if name.startswith(
            ("bootstrap.servers", "client.id", "security.", "sasl.", "ssl.", "socket.", "broker.")
        )
    } | {"log_level": 0}


def _without_consumers(properties: Properties) -> Properties:
    """Properties without those that only a consumer knows: a producer would warn of each."""
    return {name: value for name, value in properties.items() if not name.startswith(_CONSUMER_ONLY)}
