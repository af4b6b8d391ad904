"""What the benches of the whole service share: a real broker here, the service, and when it has answered.

Their packets are in bench/sent_packets.py, what a run costs is in bench/costs.py.
"""

from __future__ import annotations

import json
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from space2vec.schemas.settings import Settings
from space2vec.stream.app import run_application
from space2vec.stream.broker_apache import ApacheCluster
from space2vec.stream.logs import configure_logs
from space2vec.stream.simulated import writer_schema_files

TOPIC = "alerts"
LEDGER = "space2vec-ledger"
_STALL_S = 120.0


class Night:
    """A broker on this machine, a source topic, and settings for a service between them.

    Parameters
    ----------
    settings : dict
        Sections of settings over those that make a run of it.
    partitions : int
        Of source and output topics.
    compression : str
        Of the source topic's messages, as its producer sends them.
    host : str
        Address of the broker.
    """

    def __init__(
        self,
        settings: dict[str, dict[str, Any]],
        partitions: int = 4,
        compression: str = "none",
        host: str = "127.0.0.1",
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="space2vec-bench-")
        folder = Path(self._folder.name)
        stamped = {"log.message.timestamp.type": "LogAppendTime"}
        self.broker = ApacheCluster(1, folder / "kafka", stamped, host=host)
        self.broker.launch()
        self.partitions = partitions
        self.sent_at: dict[int, list[float]] = {number: [] for number in range(partitions)}
        """By partition and offset: the broker's timestamp, in seconds since 1970."""
        self._compression = compression
        for name, text in writer_schema_files().items():
            (folder / name).write_text(text)
        ours = {
            "source": {"brokers": self.broker.bootstrap, "topics": (TOPIC,), "group": "bench"},
            "sink": {"ledger": LEDGER, "partitions": partitions},
            "schemas": {"folder": folder},
        }
        merged = {name: ours.get(name, {}) | settings.get(name, {}) for name in {*ours, *settings}}
        self.settings = Settings.model_validate(merged)
        topics = [
            NewTopic(TOPIC, partitions, 1, config={"max.message.bytes": str(4 << 20)}),
            NewTopic(LEDGER, 1),
        ]
        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap})
        for made in admin.create_topics(topics).values():
            made.result(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.broker.stop()
        self._folder.cleanup()

    def publish(self, packets: Iterator[bytes], rate: float | None = None) -> int:
        """Publish packets, partition by turn, at a rate or as fast as the broker takes them; how many."""
        producer = Producer(
            {
                "bootstrap.servers": self.broker.bootstrap,
                "linger.ms": 5,
                "compression.type": self._compression,
                "message.max.bytes": 4 << 20,
                "queue.buffering.max.kbytes": 64 << 10,
            }
        )

        def acknowledged(error: object, message: Any) -> None:
            assert error is None, error
            of_partition = self.sent_at[message.partition()]
            assert message.offset() == len(of_partition)
            of_partition.append(message.timestamp()[1] / 1000)

        count, began = 0, time.monotonic()
        for count, packet in enumerate(packets, 1):
            if rate is not None and (early := began + count / rate - time.monotonic()) > 0:
                producer.poll(early)
                time.sleep(max(0.0, began + count / rate - time.monotonic()))
            while True:
                try:
                    producer.produce(
                        TOPIC, packet, partition=count % self.partitions, on_delivery=acknowledged
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        assert producer.flush(60) == 0
        return count


class Answers(threading.Thread):
    """Reads the ledger as its lines are committed: which offsets were answered, and when that could be seen."""

    def __init__(self, night: Night) -> None:
        super().__init__(name="answers", daemon=True)
        self._consumer = Consumer(
            {
                "bootstrap.servers": night.broker.bootstrap,
                "group.id": "bench-answers",
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 20,
            }
        )
        self._consumer.subscribe([LEDGER])
        self._over = threading.Event()
        self.lines: list[tuple[float, int, int, int]] = []
        """When, partition, first offset, offset after the last."""
        self.count = 0
        self.scored = 0

    def run(self) -> None:
        while not self._over.is_set():
            message = self._consumer.poll(0.1)
            if message is None or message.error():
                continue
            line = json.loads(message.value())
            self.lines.append((time.time(), line["partition"], line["first"], line["next"]))
            self.scored += line["scored"] + line["degraded"]
            self.count += line["messages"]
        self._consumer.close()

    def close(self) -> None:
        self._over.set()
        self.join()

    def latencies(self, night: Night, since: Sequence[int]) -> np.ndarray[Any, Any]:
        """Seconds from the broker's timestamp to the answer, for every message from an offset of each partition on."""
        late = []
        for when, partition, first, after in self.lines:
            sent = night.sent_at[partition][max(first, since[partition]) : after]
            late += [when - at for at in sent]
        return np.array(late)


@contextmanager
def service(night: Night) -> Iterator[Service]:
    """Run the application for the length of the block."""
    running = Service(night)
    running.start()
    try:
        yield running
    finally:
        running.stop.set()
        running.join()
    if running.failure is not None:
        raise running.failure


class Service(threading.Thread):
    """The application as ``space2vec run`` has it."""

    def __init__(self, night: Night) -> None:
        super().__init__(name="service", daemon=True)
        self._settings = night.settings
        self.stop = threading.Event()
        self.summary: Any = None
        self.failure: BaseException | None = None

    def run(self) -> None:
        configure_logs(logging.WARNING)
        try:
            self.summary = run_application(self._settings, self.stop, self._note)
        except BaseException as error:  # noqa: BLE001 - raised again where the service is used
            self.failure = error

    def _note(self, summary: Any) -> None:
        self.summary = summary


def wait_until(done: Callable[[], bool], running: Service, progress: Callable[[], int]) -> None:
    """Wait for something, as long as the service runs and gets on with it."""
    seen, since = progress(), time.monotonic()
    while not done():
        if running.failure is not None:
            raise running.failure
        if progress() != seen:
            seen, since = progress(), time.monotonic()
        if time.monotonic() - since > _STALL_S:
            raise SystemExit(f"nothing answered for {_STALL_S:.0f} s; {seen} so far")
        time.sleep(0.02)


def percentiles(seconds: np.ndarray[Any, Any]) -> dict[str, float]:
    """Median, 99th percentile and largest."""
    return {
        "p50_s": round(float(np.percentile(seconds, 50)), 3),
        "p99_s": round(float(np.percentile(seconds, 99)), 3),
        "max_s": round(float(seconds.max()), 3),
    }
