"""The demo: broker, simulated night, the stream application, and the accounts of what came back."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Final

from confluent_kafka import Message

from space2vec.schemas.errors import KafkaError
from space2vec.schemas.settings import (
    RaySettings,
    SchemaSettings,
    Settings,
    SinkSettings,
    SourceSettings,
    StreamSettings,
)
from space2vec.stream.app import run_application
from space2vec.stream.demo_outputs import OutputReader
from space2vec.stream.kafka_config import admin_properties
from space2vec.stream.output_topics import OutputTopics
from space2vec.stream.poison import Poison, poison
from space2vec.stream.publish import Publisher
from space2vec.stream.reconcile import Accounts, Place, Totals
from space2vec.stream.simulated import SURVEYS, SimulatedAlert, simulated_alerts, writer_schema_files
from space2vec.stream.summary import Summary

FIRST_WAVE: Final = 20
"""Messages published to see the application up, before the clock starts."""
STALL_S: Final = 60.0
"""How long nothing may come back before the demo gives up and counts what is lost."""
Tell = Callable[[str, int, int], None]
"""Told of progress: what, how many of it, out of how many."""


@dataclass(frozen=True, slots=True)
class Result:
    """What the demo found.

    Attributes
    ----------
    totals : Totals
        The accounts.
    sent : dict of Place to SimulatedAlert or Poison
        What was published.
    scores : dict of Place to float
        What came back.
    reasons : dict of Place to str
        Why the others were rejected.
    summary : Summary
        What the application says of itself.
    """

    totals: Totals
    sent: dict[Place, SimulatedAlert | Poison] = field(repr=False)
    scores: dict[Place, float] = field(repr=False)
    reasons: dict[Place, str]
    summary: Summary


def run_demo(settings: Settings, alerts: int, seed: int, tell: Tell) -> Result:
    """Run the whole path on this machine.

    Parameters
    ----------
    settings : Settings
        From :func:`demo_settings`.
    alerts : int
        Messages to publish, spoilt ones included.
    seed : int
        Of the simulated night.
    tell : callable
        Told of progress.

    Raises
    ------
    KafkaError, ModelError
        If the broker cannot be reached, or the application cannot start.
    """
    return _Night(settings, _messages(alerts, seed, tell), tell).run()


def demo_settings(bootstrap: str, schemas: Path) -> Settings:
    """Give the settings of the demo's application: the defaults, but for a group that forms fast.

    Parameters
    ----------
    bootstrap : str
        Where the broker is.
    schemas : Path
        Folder that the LSST writer schema is put into, for the application to find.
    """
    _write_schemas(schemas)
    return Settings(
        source=SourceSettings(
            brokers=bootstrap,
            topics=tuple(f"{survey}-alerts" for survey in SURVEYS),
            group="space2vec-demo",
            options={"session.timeout.ms": "6000"},
        ),
        sink=SinkSettings(partitions=2),
        schemas=SchemaSettings(folder=schemas),
        ray=RaySettings(workers=2 if (os.cpu_count() or 1) >= 4 else 1),
        stream=StreamSettings(commit_interval_s=0.5),
    )


class _Night:
    """One run: a feeder and a reader beside the application, until everything is answered."""

    def __init__(self, settings: Settings, messages: list[SimulatedAlert | Poison], tell: Tell) -> None:
        self._settings, self._messages, self._tell = settings, messages, tell
        self._accounts = Accounts()
        self._sent: dict[Place, SimulatedAlert | Poison] = {}
        self._stop = Event()
        self._began_at = 0.0
        self._progressed = (0, time.monotonic())
        self._feeding_failed: Exception | None = None
        self._properties = admin_properties(settings.source)
        topics = OutputTopics(self._properties, settings.sink)
        for topic in settings.source.topics:
            topics.ensure(topic)
        self._reader = OutputReader(self._properties, settings.sink, topics, self._accounts)

    def run(self) -> Result:
        feeder = Thread(target=self._feed, name="feeder", daemon=True)
        self._reader.start()
        feeder.start()
        try:
            summary = run_application(self._settings, self._stop, self._watch)
        finally:
            self._stop.set()
            feeder.join(timeout=30)
            self._reader.finish()
        if self._feeding_failed is not None:
            raise self._feeding_failed
        return Result(
            self._accounts.totals(summary.counts.messages, self._began_at),
            self._sent,
            self._reader.scores,
            self._reader.reasons,
            summary,
        )

    def _feed(self) -> None:
        """Publish a few messages, wait until they are answered, then publish the rest at once, as a visit does."""
        try:
            publisher = Publisher(self._properties)
            wave = self._messages[:FIRST_WAVE]
            for message in wave:
                self._publish(publisher, message)
            publisher.close()
            while self._accounts.answered < len(wave):
                if self._stop.wait(0.05):
                    return
            self._began_at = int(1000 * time.time()) / 1000  # Kafka's times are whole milliseconds
            for message in self._messages[len(wave) :]:
                self._publish(publisher, message)
            publisher.close()
        except Exception as error:  # noqa: BLE001  (raised again in the main thread)
            self._feeding_failed = error
            self._stop.set()

    def _publish(self, publisher: Publisher, message: SimulatedAlert | Poison) -> None:
        good = isinstance(message, SimulatedAlert)
        key = message.object_id if isinstance(message, SimulatedAlert) else "poison"
        headers = (
            {"truth": message.truth()} if isinstance(message, SimulatedAlert) else {"poison": message.label}
        )

        def acknowledged(sent: Message) -> None:
            place = Place(str(sent.topic()), int(sent.partition() or 0), int(sent.offset() or 0))
            self._accounts.publish(place, key if good else "", sent.timestamp()[1] / 1000)
            self._sent[place] = message

        publisher.send(f"{message.survey}-alerts", key, message.packet, headers, acknowledged)

    def _watch(self, summary: Summary) -> None:
        """Called twice a second: tell how it goes; end when all is answered, or nothing moves any more."""
        total, answered = len(self._messages), self._accounts.answered
        self._tell("published", len(self._sent), total)
        self._tell("answered", answered, total)
        if self._reader.failure is not None:
            raise KafkaError(f"outputs cannot be read: {self._reader.failure}")
        if answered != self._progressed[0]:
            self._progressed = (answered, time.monotonic())
        stalled = time.monotonic() - self._progressed[1] > STALL_S
        if answered >= total or stalled:
            self._stop.set()


def _messages(count: int, seed: int, tell: Tell) -> list[SimulatedAlert | Poison]:
    """Simulate ``count`` messages, of which a few are spoilt, in an order that mixes surveys and fields."""
    alerts: list[SimulatedAlert] = []
    for alert in simulated_alerts("both", count, seed):
        alerts.append(alert)
        tell("simulated", len(alerts), count)
    first = {survey: next(alert for alert in alerts if alert.survey == survey) for survey in SURVEYS}
    spoilt = poison(first["ztf"], first["lsst"])
    messages: list[SimulatedAlert | Poison] = [*alerts[: max(2, count - len(spoilt))], *spoilt]
    random.Random(seed).shuffle(messages)  # noqa: S311  (an order, not a secret)
    return messages


def _write_schemas(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in writer_schema_files().items():
        (folder / name).write_text(text)
