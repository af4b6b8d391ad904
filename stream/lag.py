"""How far the group is behind: per source partition, the messages after its committed offset."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Event, Thread
from typing import Final

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from space2vec.schemas.errors import Space2vecError
from space2vec.schemas.settings import Settings
from space2vec.stream.group_offsets import committed_offsets
from space2vec.stream.kafka_config import admin_properties, sink_cluster
from space2vec.stream.protocols import Partition
from space2vec.stream.seated_source import seat_topic
from space2vec.stream.source_topics import source_partitions

log = structlog.get_logger()

PERIOD_S: Final = 15.0
_SOON_S: Final = 1.0
"""After a reading that failed where the one before did not."""
_CALL_S: Final = 10.0

Lag = dict[Partition, int]


class LagReader:
    """Reads the group's offsets and the ends of the source's partitions, whoever has them assigned.

    Parameters
    ----------
    settings : Settings
        Those of the run: source, group and sink.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._source = AdminClient(admin_properties(settings.source))
        home = sink_cluster(settings.sink, settings.source)
        group = {"group.id": settings.source.group, "enable.auto.commit": False}
        self._group = Consumer(admin_properties(home) | group)

    def read(self) -> Lag:
        """Messages behind, per partition; a partition without an offset counts from where the group would begin.

        Raises
        ------
        KafkaError
            If a topic is not there, or the cluster cannot be reached.
        KafkaException
            If it does not answer.
        """
        partitions = sorted(source_partitions(self._settings.source, _CALL_S))
        committed = self._committed(partitions)
        ends = self._offsets(partitions, OffsetSpec.latest())
        fresh = [p for p in partitions if p not in committed]
        if fresh and self._settings.source.start == "earliest":
            committed |= self._offsets(fresh, OffsetSpec.earliest())
        return {p: max(0, ends[p] - committed.get(p, ends[p])) for p in partitions}

    def close(self) -> None:
        """Release connections."""
        self._group.close()

    def _committed(self, partitions: list[Partition]) -> Lag:
        group = self._settings.source.group
        asked = [
            TopicPartition(p.topic if self._settings.one_cluster else seat_topic(group, p.topic), p.number)
            for p in partitions
        ]
        found = committed_offsets(self._group, asked, _CALL_S)
        return {p: tp.offset for p, tp in zip(partitions, found, strict=True) if tp.offset >= 0}

    def _offsets(self, partitions: Iterable[Partition], where: OffsetSpec) -> Lag:
        asked = {TopicPartition(*partition): where for partition in partitions}
        if not asked:
            return {}
        futures = self._source.list_offsets(asked, request_timeout=_CALL_S)
        return {Partition(tp.topic, tp.partition): future.result().offset for tp, future in futures.items()}


class LagWatch:
    """Reads the lag again and again, in a thread of its own.

    Parameters
    ----------
    open_reader : callable
        Gives the :class:`LagReader`.
    period_s : float
        Seconds between two readings.
    """

    def __init__(self, open_reader: Callable[[], LagReader], period_s: float = PERIOD_S) -> None:
        self._open_reader = open_reader
        self._period_s = period_s
        self._stop = Event()
        self._thread = Thread(target=self._run, name="lag", daemon=True)
        self.latest: Lag | None = None
        """The last reading; ``None`` if it failed."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; a reading under way is waited for as long as its calls may take."""
        self._stop.set()
        self._thread.join(4 * _CALL_S)

    def _run(self) -> None:
        reader = self._open_reader()
        failures = 0
        while True:
            try:
                self.latest, failures = reader.read(), 0
            except (KafkaException, Space2vecError) as error:
                self.latest, failures = None, failures + 1
                # Once is no news: a new cluster's first group has its coordinator a moment late.
                if failures > 1:
                    log.warning("lag cannot be read", detail=str(error))
                # An admin client goes on with the leader epochs it once saw, so after a broker's restart it would
                # be fenced for ever (librdkafka 2.16).
                reader.close()
                reader = self._open_reader()
            if self._stop.wait(min(_SOON_S, self._period_s) if failures == 1 else self._period_s):
                break
        reader.close()
