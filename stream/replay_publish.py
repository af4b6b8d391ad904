"""An archive as a source stream: its packets to a topic, as they are, with the gaps they had."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Final

import structlog

from space2vec.schemas.settings import SinkSettings
from space2vec.stream.archives import PACKET_SUFFIXES
from space2vec.stream.kafka_config import Properties
from space2vec.stream.output_topics import OutputTopics
from space2vec.stream.pacing import BEHIND_S, Pace
from space2vec.stream.publish import Publisher
from space2vec.stream.replay_archives import Archive
from space2vec.stream.replay_fleet import Tell
from space2vec.stream.replay_members import ArchiveReader
from space2vec.stream.replay_report import watched

log = structlog.get_logger()

_NAP_S: Final = 0.2


@dataclass(slots=True)
class Published:
    """What went out: packets, their bytes, what could not be read, and how far behind the pace it was."""

    packets: int = 0
    size: int = 0
    faults: list[str] = field(default_factory=list)
    behind_s: float = 0.0


def publish_archives(
    properties: Properties,
    sink: SinkSettings,
    topic: str,
    archives: Sequence[Archive],
    pace: Pace,
    stop: Event,
    tell: Tell,
) -> Published:
    """Publish archives one after the other; a packet's key is its file's name, which ZTF makes the candid.

    Parameters
    ----------
    properties : dict
        librdkafka properties that reach the cluster.
    sink : SinkSettings
        Partitions and limits of the topic, if it is to be made.
    topic : str
        Where to.
    pace : Pace
        When each packet is due.
    stop : Event
        Set to end; what is sent stays sent.
    tell : callable
        Told about twice a second how far it is.

    Raises
    ------
    KafkaError
        If the cluster cannot be reached or refuses a packet.
    """
    OutputTopics(properties, sink).ensure(topic)
    publisher, done = Publisher(properties), Published()
    for archive in archives:
        reader = ArchiveReader(archive)
        for member in watched(archive, reader, tell):
            while (early := pace.wait(member.packet)) > 0 and not stop.is_set():
                time.sleep(min(early, _NAP_S))
            if stop.is_set():
                break
            key = member.name.rsplit("/", 1)[-1].removesuffix(".gz").removesuffix(PACKET_SUFFIXES[0])
            publisher.send(topic, key, member.packet, {"archive": archive.name})
            pace.passed()
            if pace.behind > max(BEHIND_S, 2 * done.behind_s):
                log.warning("the pace is not kept", behind_s=round(pace.behind, 1))
            done.packets, done.size = done.packets + 1, done.size + len(member.packet)
            done.behind_s = max(done.behind_s, pace.behind)
        done.faults += reader.faults
    publisher.close()
    return done
