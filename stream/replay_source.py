"""An archive as a source: one partition, whose offsets are the packets' numbers in the archive."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Mapping
from typing import Final

import structlog
from confluent_kafka import TopicPartition

from space2vec.stream.pacing import BEHIND_S, Pace
from space2vec.stream.protocols import Message, Partition, PartitionListener
from space2vec.stream.replay_archives import Archive
from space2vec.stream.replay_members import Member, Reader

log = structlog.get_logger()

PROVENANCE: Final = "replay"
"""Header of every output of a replay: archive, its digest, run id, and the member it answers."""


class ArchiveSource:
    """Hands out an archive's packets in their order.

    Parameters
    ----------
    archive : Archive
        What to read.
    run : str
        Names the replay; goes into the header.
    begin : callable
        Number of the first packet wanted; asked when the pipeline begins, with the sink already open.
    pace : Pace
        When each packet is due.
    open_reader : callable
        Gives what reads the archive, from its beginning.
    """

    def __init__(
        self,
        archive: Archive,
        run: str,
        begin: Callable[[], int],
        pace: Pace,
        open_reader: Callable[[], Reader],
    ) -> None:
        self.archive = archive
        self.partition = Partition(archive.shard, 0)
        self.end: int | None = None
        """How many packets the archive has; known once the last one is handed out."""
        self.position = 0
        """Number of the next packet."""
        self.behind = 0.0
        """Most that the pace was behind, in seconds."""
        self.run = run
        self._begin, self._pace = begin, pace
        self._open_reader = open_reader
        self._reader = open_reader()
        self._members: Generator[Member] | None = None
        self._next: Member | None = None
        self._held = False

    @property
    def bytes_read(self) -> int:
        """How far it is, in bytes as stored."""
        return self._reader.bytes_read

    @property
    def faults(self) -> list[str]:
        """What of the archive could not be read."""
        return self._reader.faults

    def subscribe(self, listener: PartitionListener) -> None:
        """The archive is ours: the sink sees to it that nobody else's."""
        listener.assigned([self.partition])
        self._go(self._begin())

    def poll(self, limit: int, timeout: float) -> list[Message]:
        """The next packets that are due."""
        taken: list[Message] = []
        while len(taken) < limit and self._next is not None and not self._held:
            early = self._pace.wait(self._next.packet)
            if early > 0:
                if not taken:
                    time.sleep(min(early, timeout))
                break
            taken.append(self._message(self._next))
            self._pace.passed()
            self._advance()
        if not taken and limit and self._held:
            time.sleep(timeout)
        if self._pace.behind > max(BEHIND_S, 2 * self.behind):
            log.warning(
                "the pace is not kept", archive=self.archive.name, behind_s=round(self._pace.behind, 1)
            )
        self.behind = max(self.behind, self._pace.behind)
        return taken

    def rewind(self, offsets: Mapping[Partition, int]) -> None:
        """Read again from a packet's number: an archive is read from its beginning for that."""
        if self.partition in offsets:
            self._go(offsets[self.partition])

    def hold(self, partitions: frozenset[Partition]) -> None:
        """Hand nothing out while a writer schema is waited for."""
        self._held = self.partition in partitions

    def at_end(self) -> frozenset[Partition]:
        """The archive, once its last packet is handed out and none is waiting for its schema."""
        return frozenset() if self.end is None or self._held else frozenset({self.partition})

    def close(self) -> None:
        """Close what is open."""
        if self._members is not None:
            self._members.close()

    # ---- as a Kafka sink sees it: the ledger alone says how far we are, no group has offsets here ----

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Nothing to commit."""

    def positions(self, offsets: Mapping[Partition, int]) -> list[TopicPartition]:
        """No offsets go into the transaction."""
        return []

    def group_metadata(self) -> object:
        """Never asked for, since there are no positions."""
        raise NotImplementedError

    def _go(self, number: int) -> None:
        self.close()
        self._reader = self._open_reader()
        self._members = self._reader.members(number)
        self.position, self.end = number, None
        self._advance(0)

    def _advance(self, by: int = 1) -> None:
        """Look one packet ahead, so that the last one is known to be the last when it is handed out."""
        assert self._members is not None
        self.position += by
        self._next = next(self._members, None)
        if self._next is None:
            self.end = self.position

    def _message(self, member: Member) -> Message:
        told = {
            "archive": self.archive.name,
            "digest": self.archive.digest,
            "run": self.run,
            "member": member.name,
        }
        return Message(
            self.partition,
            member.number,
            member.packet,
            # Never none: Kafka would choose the partition of an answer at random, each time another.
            member.key or member.name.encode("utf-8", "surrogateescape"),
            timestamp_ms=int(member.mtime * 1000) or None,
            headers=((PROVENANCE, json.dumps(told).encode()),),
        )
