"""Producing alerts to a topic: for simulations and the demo, not for the pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, TypeVar

from confluent_kafka import KafkaError as Delivery
from confluent_kafka import KafkaException, Message, Producer

from space2vec.schemas.errors import KafkaError
from space2vec.stream.kafka_config import Properties

FLUSH_S: Final = 60.0
T = TypeVar("T")


class Publisher:
    """Sends messages and holds every one to account.

    Parameters
    ----------
    properties : dict
        librdkafka properties that reach the cluster.
    """

    def __init__(self, properties: Properties) -> None:
        self._producer = Producer(
            {
                "enable.idempotence": True,
                "linger.ms": 5,
                "compression.type": "lz4",
                "message.max.bytes": 4 << 20,
            }
            | properties
        )
        self._refused: str | None = None

    def send(
        self,
        topic: str,
        key: str,
        value: bytes,
        headers: Mapping[str, str],
        acknowledged: Callable[[Message], object] = lambda _: None,
    ) -> None:
        """Queue one message, waiting while the queue is full.

        Parameters
        ----------
        acknowledged : callable
            Told of the message once the broker has it; the message then knows its offset and time.
        """

        def on_delivery(error: Delivery | None, message: Message) -> None:
            if error is None:
                acknowledged(message)
            else:
                self._refused = f"{topic}: {error.str()}"

        while True:
            try:
                self._producer.produce(topic, value, key, headers=dict(headers), on_delivery=on_delivery)
                break
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                raise KafkaError(f"topic {topic}: {error.args[0].str()}") from error
        self._producer.poll(0)

    def close(self) -> None:
        """Wait until every message is acknowledged.

        Raises
        ------
        KafkaError
            If one was refused, or some are still unacknowledged after a minute.
        """
        left = self._producer.flush(FLUSH_S)
        if self._refused is not None:
            raise KafkaError(f"a message was refused: {self._refused}")
        if left:
            raise KafkaError(f"{left} messages unacknowledged after {FLUSH_S:g} s")


def paced(things: Iterable[T], rate: float | None) -> Iterator[T]:
    """Yield things no faster than ``rate`` per second."""
    began = time.monotonic()
    for number, thing in enumerate(things):
        if rate is not None and (early := began + number / rate - time.monotonic()) > 0:
            time.sleep(early)
        yield thing
