"""Topics as archives: what a partition was given between two times is a shard like any other.

No group is joined and nothing is committed at the source; how far a replay is, its destination knows. Packets are
numbered by counting, so gaps in the offsets (control records, compaction) are none in the numbers; to go on after a
stop the partition is read from the beginning of the time again, as a tar archive is.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator, Sequence
from typing import Final

from space2vec.schemas.errors import ConfigError
from space2vec.schemas.settings import Settings
from space2vec.stream.protocols import Partition
from space2vec.stream.replay_archives import Archive, StoredFile, find_archives
from space2vec.stream.replay_members import ArchiveReader, Member, Reader
from space2vec.stream.topic_reader import TopicReader

KAFKA: Final = "kafka"
"""Protocol of archives that are partitions; their one file is ``topic/partition/first offset``."""
_SCHEME: Final = f"{KAFKA}:"


def find_sources(
    arguments: Sequence[str], settings: Settings, since_ms: int | None, until_ms: int | None
) -> list[Archive]:
    """Resolve what the user named into shards: archives as :func:`find_archives` does, topics by partition.

    Parameters
    ----------
    arguments : sequence of str
        Files, folders, globs, URLs; ``kafka:TOPIC`` for a topic of the source's cluster.
    since_ms, until_ms : int or None
        Which messages of topics, by their time in milliseconds since 1970.

    Raises
    ------
    ConfigError
        Where a name leads to nothing, or a topic is named without the times.
    KafkaError
        If the cluster cannot be reached.
    """
    topics = [argument.removeprefix(_SCHEME) for argument in arguments if argument.startswith(_SCHEME)]
    if not topics and (since_ms, until_ms) != (None, None):
        raise ConfigError("--since and --until are for kafka:TOPIC")
    archives = find_archives([argument for argument in arguments if not argument.startswith(_SCHEME)])
    if not topics:
        return archives
    if since_ms is None or until_ms is None:
        raise ConfigError(
            "kafka:TOPIC needs --since and --until: to go on after a stop, the end must be known"
        )
    if until_ms > time.time() * 1000:
        raise ConfigError("--until is yet to come: what is still being written has no end")
    reader = TopicReader(settings.source, settings.source.group)
    try:
        for topic in topics:
            archives += _shards(reader, topic, since_ms, until_ms)
    finally:
        reader.close()
    return archives


def _shards(reader: TopicReader, topic: str, since_ms: int, until_ms: int) -> list[Archive]:
    spans = reader.spans_between(topic, since_ms, until_ms)
    if not spans:
        raise ConfigError(f"{_SCHEME}{topic}: no such topic")
    cluster = reader.cluster_id()
    shards = []
    for partition, (begin, end) in sorted(spans.items()):
        asked = f"{cluster} {partition} {since_ms} {until_ms}"
        file = StoredFile(f"{partition.topic}/{partition.number}/{begin}", end - begin)
        digest = hashlib.sha256(asked.encode()).hexdigest()
        if begin < end:
            shards.append(Archive(str(partition), KAFKA, (file,), digest))
    if not shards:
        raise ConfigError(f"{_SCHEME}{topic}: nothing was written between these times")
    return shards


def open_archive(archive: Archive, settings: Settings) -> Reader:
    """Have what reads an archive."""
    return PartitionReader(archive, settings) if archive.protocol == KAFKA else ArchiveReader(archive)


class PartitionReader:
    """Reads what a partition was given between two times.

    Parameters
    ----------
    archive : Archive
        From :func:`find_sources`.
    settings : Settings
        They say which cluster.
    """

    def __init__(self, archive: Archive, settings: Settings) -> None:
        self.faults: list[str] = []
        self.bytes_read = 0
        """Offsets read: that is what the archive's size counts."""
        self._settings = settings
        (file,) = archive.files
        topic, number, begin = file.path.rsplit("/", 2)
        self._partition, self._begin = Partition(topic, int(number)), int(begin)
        self._end = self._begin + file.size

    def members(self, start: int = 0) -> Generator[Member]:
        """Yield the packets from number ``start`` on; those before are passed over.

        Raises
        ------
        KafkaError
            If the partition cannot be read, or retention took what is wanted.
        """
        reader = TopicReader(self._settings.source, self._settings.source.group, strict=True)
        try:
            messages = reader.messages({self._partition: (self._begin, self._end)})
            for number, message in enumerate(messages):
                self.bytes_read = message.offset + 1 - self._begin
                if number >= start:
                    name, written = f"{self._partition}@{message.offset}", (message.timestamp_ms or 0) / 1000
                    yield Member(number, name, message.value, written, message.key)
        finally:
            reader.close()
