"""Reading the output topics for the page: beside anything that runs, joining no group and committing nothing."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Event, Thread
from types import TracebackType
from typing import Final, Self

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from space2vec.schemas.reader import PacketReader
from space2vec.schemas.settings import Settings
from space2vec.stream.dashboard.entries import UnreadableError, entry_of, rejection_of
from space2vec.stream.dashboard.store import REJECTIONS, STEP_S, Store
from space2vec.stream.kafka_config import Properties, admin_properties, sink_cluster
from space2vec.stream.lag import Lag, LagReader, LagWatch
from space2vec.stream.protocols import Message, Partition
from space2vec.stream.topic_reader import message_of

log = structlog.get_logger()

_TURN_S: Final = 0.2
_TURN_ALERTS: Final = 50
"""At most so many are opened in a turn: 250 in a second, a fraction of a core."""
_TURN_LINES: Final = 1000
_LOOK_S: Final = 5.0
"""How often new topics and partitions are looked for."""
_CALL_S: Final = 10.0
_LEDGER_LINES: Final = 5000


@dataclass(frozen=True, slots=True)
class Kind:
    """Topics of one kind.

    Attributes
    ----------
    template : str
        Of their names; empty: there are none.
    back : int
        How many of a topic's messages are wanted: the newest.
    turn : int
        How many to take in one turn, at most.
    take : callable
        Takes a message; raises ``UnreadableError``, ``ArithmeticError``, ``LookupError``, ``TypeError`` or
        ``ValueError`` if it cannot be read.
    """

    template: str
    back: int
    turn: int
    take: Callable[[Message], None]

    def names(self, topic: str) -> bool:
        """Whether a topic is of this kind."""
        pattern = re.escape(self.template).replace(r"\{survey\}", "[^.]+")
        return bool(self.template) and re.fullmatch(pattern, topic) is not None


class Tail:
    """Follows the ends of some topics, in a thread of its own.

    Committed records only, by plain assignment. What has fallen further behind than is wanted of a topic is
    passed over: the page shows what is new.

    Parameters
    ----------
    properties : dict
        librdkafka properties that reach the cluster, and a group id that may be named; it is never joined.
    kind_of : callable
        Gives a topic's kind; ``None`` if it is not to be followed.
    store : Store
        Told of complaints, of messages that cannot be read, and of those passed over.
    """

    def __init__(self, properties: Properties, kind_of: Callable[[str], Kind | None], store: Store) -> None:
        self._kind_of = kind_of
        self._store = store
        self._consumer = Consumer(
            properties
            | {
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "latest",
                "queued.max.messages.kbytes": 32 << 10,
                "fetch.message.max.bytes": 4 << 20,
                "fetch.wait.max.ms": 100,
            }
        )
        self._followed: dict[Partition, _Followed] = {}
        self._turn = 1
        self._stop = Event()
        self._thread = Thread(target=self._run, name="dashboard", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join(2 * _CALL_S)

    def _run(self) -> None:
        look = 0.0
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                if began >= look:
                    look = began + _LOOK_S
                    self._look()
                self._read()
            except KafkaException as error:
                self._store.complaint = f"Kafka: {error.args[0].str()}"
                log.warning("the dashboard cannot read", detail=self._store.complaint)
            self._stop.wait(max(0.0, began + _TURN_S - time.monotonic()))
        self._consumer.close()

    def _look(self) -> None:
        """Take up partitions that are new, drop those that are gone, and go on where reading should go on."""
        found = {
            Partition(topic, number): kind.back / len(about.partitions)
            for topic, about in self._consumer.list_topics(timeout=_CALL_S).topics.items()
            if about.error is None and (kind := self._kind_of(topic)) is not None
            for number in about.partitions
        }
        places = {partition: self._place(partition, math.ceil(back)) for partition, back in found.items()}
        if places != {partition: followed.next for partition, followed in self._followed.items()}:
            self._follow(places)
        self._store.complaint = next(iter({f.complaint for f in self._followed.values()} - {""}), "")

    def _place(self, partition: Partition, wanted: int) -> int:
        """Where to go on reading a partition of which so many messages are wanted."""
        followed = self._followed.get(partition)
        low, high = self._consumer.get_watermark_offsets(
            TopicPartition(*partition), timeout=_CALL_S, cached=followed is not None
        )
        if followed is None or 0 <= high < followed.next:  # new, or made anew under its old name
            return int(max(low, high - wanted, 0))
        if high - followed.next > wanted:
            ahead = high - wanted // 2
            self._store.skipped += ahead - followed.next
            return int(ahead)
        return int(followed.next)

    def _follow(self, places: Mapping[Partition, int]) -> None:
        kinds = {p: kind for p in places if (kind := self._kind_of(p.topic)) is not None}
        self._followed = {partition: _Followed(kind, places[partition]) for partition, kind in kinds.items()}
        self._turn = max((kind.turn for kind in kinds.values()), default=1)
        self._consumer.assign([TopicPartition(*partition, offset) for partition, offset in places.items()])

    def _read(self) -> None:
        for kafka in self._consumer.consume(self._turn, _TURN_S):
            followed = self._followed.get(Partition(str(kafka.topic()), int(kafka.partition() or 0)))
            error = kafka.error()
            if error is not None:
                self._store.complaint = f"Kafka: {error.str()}"
                if followed is not None:
                    followed.complaint = self._store.complaint
                continue
            message = message_of(kafka)
            if followed is None or message.offset < followed.next:
                continue  # fetched before it was dropped or passed over
            followed.next, followed.complaint = message.offset + 1, ""
            try:
                followed.kind.take(message)
            except (UnreadableError, ArithmeticError, LookupError, TypeError, ValueError) as unreadable:
                self._store.unreadable += 1
                log.debug("unreadable", message=str(message), detail=str(unreadable)[:300])


@dataclass(slots=True)
class _Followed:
    """A partition: where reading goes on, and what Kafka last said against it."""

    kind: Kind
    next: int
    complaint: str = ""


class Feed:
    """Fills a store from Kafka, from ``with`` to the end of the block.

    Parameters
    ----------
    settings : Settings
        Those of the run: sink, source and group.
    store : Store
        What to fill.
    reader : PacketReader
        Opens annotated alerts.
    """

    def __init__(self, settings: Settings, store: Store, reader: PacketReader) -> None:
        sink, keep = settings.sink, settings.dashboard.keep
        alerts = Kind(sink.annotated, keep, _TURN_ALERTS, lambda m: store.ring.add(entry_of(m, reader)))
        dead = Kind(
            sink.rejected, REJECTIONS, _TURN_LINES, lambda m: store.rejections.append(rejection_of(m))
        )
        ledger = Kind(sink.ledger, _LEDGER_LINES, _TURN_LINES, lambda m: store.rates.add(json.loads(m.value)))

        def kind_of(topic: str) -> Kind | None:
            return next((kind for kind in (ledger, dead, alerts) if kind.names(topic)), None)

        def accounts_of(topic: str) -> Kind | None:
            return None if kind_of(topic) is alerts else kind_of(topic)

        def alerts_of(topic: str) -> Kind | None:
            return alerts if kind_of(topic) is alerts else None

        home = admin_properties(sink_cluster(sink, settings.source)) | {"group.id": settings.source.group}
        # Two, so that the ledger's few bytes do not wait for the alerts' many.
        self._tails = [Tail(home, accounts_of, store), Tail(home, alerts_of, store)]
        self._lag = (
            LagWatch(lambda: _NotingReader(settings, store), STEP_S) if settings.source.topics else None
        )

    def __enter__(self) -> Self:
        for tail in self._tails:
            tail.start()
        if self._lag is not None:
            self._lag.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for tail in self._tails:
            tail.stop()
        if self._lag is not None:
            self._lag.stop()


class _NotingReader(LagReader):
    """Notes each reading, for the chart."""

    def __init__(self, settings: Settings, store: Store) -> None:
        super().__init__(settings)
        self._store = store

    def read(self) -> Lag:
        lag = super().read()
        self._store.lags.append((time.time(), lag))
        return lag
