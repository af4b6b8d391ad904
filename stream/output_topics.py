"""Output topics: made when first needed, if they are not there and we may."""

from __future__ import annotations

import structlog
from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from space2vec.schemas.errors import KafkaError
from space2vec.schemas.settings import SinkSettings
from space2vec.stream.kafka_config import Properties

log = structlog.get_logger()


class OutputTopics:
    """Remembers which topics are known to exist.

    Parameters
    ----------
    properties : dict
        librdkafka properties that reach the sink's cluster.
    settings : SinkSettings
        Partitions, replication and message size of topics that we make.
    """

    def __init__(self, properties: Properties, settings: SinkSettings) -> None:
        self._admin = AdminClient(properties)
        self._settings = settings
        self._known: set[str] = set()

    def ensure(self, topic: str) -> None:
        """Make the topic unless it exists.

        Raises
        ------
        KafkaError
            If it neither exists nor can be made.
        """
        if topic in self._known:
            return
        try:
            found = self._admin.list_topics(topic, timeout=30).topics[topic]
        except KafkaException as error:
            raise KafkaError(f"sink: {error.args[0].str()}") from error
        if found.error is not None:
            self._make(topic)
        self._known.add(topic)

    def _make(self, topic: str) -> None:
        settings = self._settings
        wanted = NewTopic(
            topic,
            num_partitions=settings.partitions,
            replication_factor=settings.replication,
            config={"max.message.bytes": str(settings.max_message_bytes)},
        )
        try:
            self._admin.create_topics([wanted], operation_timeout=30)[topic].result(timeout=60)
            log.info("made output topic", topic=topic, partitions=settings.partitions)
        except KafkaException as error:
            if error.args[0].code() != Code.TOPIC_ALREADY_EXISTS:  # another worker was faster
                raise KafkaError(f"output topic {topic} cannot be made: {error.args[0].str()}") from error
