"""The ledger: per commit, night and partition, what was consumed and how it was answered.

Its records are written with the answers they count, in the same transaction where there is one, so
an audit can hold source, outputs and ledger against each other.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from space2vec.schemas.times import DAY_S
from space2vec.stream.counts import Counts
from space2vec.stream.protocols import Message, OutputRecord, Partition


def night_of(timestamp_ms: int | None) -> str:
    """The observing night that a time belongs to, ``YYYYMMDD``.

    The date of UTC minus twelve hours, as Rubin's ``day_obs`` (SITCOMTN-032): a night in Chile or
    California has one date from dusk to dawn.

    Parameters
    ----------
    timestamp_ms : int or None
        Milliseconds since 1970, UTC; ``None`` means now.
    """
    seconds = time.time() if timestamp_ms is None else timestamp_ms / 1000
    return _date(int((seconds - DAY_S / 2) // DAY_S))


@lru_cache(16)
def _date(day: int) -> str:
    """The date so many days after 1970-01-01; asked for once per alert, and the same for a night."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).strftime("%Y%m%d")


@dataclass(slots=True)
class Entry:
    """One line of the ledger.

    ``first`` is the lowest offset counted, ``next`` the one after the highest; ``silent`` are the
    offsets in between that have no output (no alert in them, or one seen before).
    """

    first: int
    next: int
    counts: Counts = field(default_factory=Counts)
    silent: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)

    def add(self, offset: int, counts: Counts) -> None:
        """Count one message."""
        self.first = min(self.first, offset)
        self.next = max(self.next, offset + 1)
        self.counts.add(counts)
        self.offsets.append(offset)
        if counts.empty or (counts.duplicates and not counts.answered):
            self.silent.append(offset)


class Ledger:
    """Counts what has been answered and not yet committed.

    Parameters
    ----------
    topic : str
        Ledger topic; empty: counts are kept, but no records made.
    worker : str
        Who writes.
    listing : bool
        Whether to list every offset: for dead letters put through again, which are few and picked.
    """

    def __init__(self, topic: str, worker: str, *, listing: bool = False) -> None:
        self._listing = listing
        self._topic = topic
        self._worker = worker
        self._entries: dict[tuple[Partition, str], Entry] = {}
        self._last: Message | None = None

    def note(self, message: Message, counts: Counts) -> None:
        """Count the answer to one message."""
        key = message.partition, night_of(message.timestamp_ms)
        entry = self._entries.setdefault(key, Entry(message.offset, message.offset + 1))
        entry.add(message.offset, counts)
        self._last = message

    @property
    def total(self) -> Counts:
        """Everything noted since the last :meth:`clear`."""
        total = Counts()
        for entry in self._entries.values():
            total.add(entry.counts)
        return total

    @property
    def by_topic(self) -> dict[str, Counts]:
        """Everything noted since the last :meth:`clear`, by source topic."""
        topics: dict[str, Counts] = {}
        for (partition, _), entry in self._entries.items():
            topics.setdefault(partition.topic, Counts()).add(entry.counts)
        return topics

    def records(self) -> list[OutputRecord]:
        """What has been noted, as records for the ledger topic."""
        if not self._topic or self._last is None:
            return []
        return [
            OutputRecord(
                self._topic,
                f"{partition}".encode(),
                json.dumps(self._line(partition, night, entry), separators=(",", ":")).encode(),
                (),
                self._last,
            )
            for (partition, night), entry in self._entries.items()
        ]

    def clear(self) -> None:
        """Forget: it is committed, or void."""
        self._entries.clear()
        self._last = None

    def _line(self, partition: Partition, night: str, entry: Entry) -> dict[str, object]:
        counts = entry.counts
        listed = {"offsets": entry.offsets} if self._listing else {}
        return listed | {
            "night": night,
            "topic": partition.topic,
            "partition": partition.number,
            "first": entry.first,
            "next": entry.next,
            "messages": counts.messages,
            "scored": counts.scored,
            "degraded": counts.degraded,
            "rejected": dict(counts.reasons),
            "empty": counts.empty,
            "duplicates": counts.duplicates,
            "silent": entry.silent,
            "worker": self._worker,
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
