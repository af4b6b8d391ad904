"""Reading the demo's outputs while they come, as any consumer would: committed records only."""

from __future__ import annotations

import time
from threading import Event, Thread
from typing import Final

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from space2vec.schemas.classification import decode_classification
from space2vec.schemas.settings import SinkSettings
from space2vec.stream.kafka_config import Properties
from space2vec.stream.output_topics import OutputTopics
from space2vec.stream.reconcile import ANNOTATED, CLASSIFIED, REJECTED, Accounts, Answer, Place
from space2vec.stream.simulated import SURVEYS

IDLE_S: Final = 2.0
"""How long nothing may come after the application has ended, before all is taken to be read."""


class OutputReader:
    """Reads every output topic in a thread of its own and notes what came.

    Parameters
    ----------
    properties : dict
        librdkafka properties that reach the cluster.
    sink : SinkSettings
        Names the topics.
    topics : OutputTopics
        Makes them, so that they can be read from the first record on.
    accounts : Accounts
        Where answers are noted.
    """

    def __init__(
        self, properties: Properties, sink: SinkSettings, topics: OutputTopics, accounts: Accounts
    ) -> None:
        self.scores: dict[Place, float] = {}
        self.reasons: dict[Place, str] = {}
        self.failure: Exception | None = None
        self._accounts = accounts
        self._kinds: dict[str, str] = {}
        for survey in (*SURVEYS, "unknown"):
            for kind, template in (
                (ANNOTATED, sink.annotated),
                (CLASSIFIED, sink.classifications),
                (REJECTED, sink.rejected),
            ):
                if kind == REJECTED or survey != "unknown":
                    self._kinds[template.format(survey=survey)] = kind
        for topic in self._kinds:
            topics.ensure(topic)
        self._consumer = Consumer(
            properties
            | {
                "group.id": "space2vec-demo-reader",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 50,
            }
        )
        self._consumer.assign(_partitions(properties, list(self._kinds)))
        self._ending = Event()
        self._thread = Thread(target=self._read, name="reader", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def finish(self) -> None:
        """Read what is left, and end."""
        self._ending.set()
        self._thread.join(timeout=60)
        self._consumer.close()

    def _read(self) -> None:
        heard = time.monotonic()
        try:
            while not (self._ending.is_set() and time.monotonic() - heard > IDLE_S):
                for message in self._consumer.consume(200, timeout=0.1):
                    if message.error() is not None:
                        raise KafkaException(message.error())
                    self._note(message)
                    heard = time.monotonic()
        except Exception as error:  # noqa: BLE001  (told by the main thread)
            self.failure = error

    def _note(self, message: Message) -> None:
        headers = {name: (value or b"").decode() for name, value in message.headers() or ()}
        place = Place(
            headers["source_topic"], int(headers["source_partition"]), int(headers["source_offset"])
        )
        kind, detail = self._kinds[str(message.topic())], ""
        if kind == CLASSIFIED:
            record = decode_classification(message.value() or b"")
            detail = str(record["status"])
            self.scores[place] = float(record["score"])
        elif kind == REJECTED:
            detail = self.reasons[place] = headers["reason"]
        key = (message.key() or b"").decode()
        self._accounts.answers[kind].append(Answer(place, key, detail, time.time()))


def _partitions(properties: Properties, topics: list[str]) -> list[TopicPartition]:
    found = AdminClient(properties).list_topics(timeout=30).topics
    return [TopicPartition(topic, number, 0) for topic in topics for number in found[topic].partitions]
