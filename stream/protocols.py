"""What the pipeline loop needs of the world: a source, a scorer and a sink.

Kafka and Ray stand behind these in production (:mod:`kafka_source`, :mod:`kafka_sink`,
:mod:`ray_scorer`), plain Python objects in the tests (:mod:`memory`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from space2vec.schemas.errors import Space2vecError
from space2vec.workers.scores import Scores

Headers = tuple[tuple[str, bytes | None], ...]


class Partition(NamedTuple):
    """A topic-partition."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.number}"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the source: where it stood, and its bytes.

    ``timestamp_ms`` is the broker's or producer's time in milliseconds since 1970 (UTC), if any.
    """

    partition: Partition
    offset: int
    value: bytes = field(repr=False)
    key: bytes | None = None
    timestamp_ms: int | None = None
    headers: Headers = field(default=(), repr=False)

    def __str__(self) -> str:
        return f"{self.partition}@{self.offset}"


@dataclass(frozen=True, slots=True)
class OutputRecord:
    """One message to produce, and the source message that it answers."""

    topic: str
    key: bytes | None
    value: bytes | None = field(repr=False)
    headers: Headers
    source: Message = field(repr=False)


class DeliveryAborted(Space2vecError):
    """What was written since the last commit did not happen; go back there and do it again."""


class OutputRefused(DeliveryAborted):
    """As :class:`DeliveryAborted`, because the broker refuses the answers to some messages for good."""

    def __init__(self, sources: Sequence[Message], detail: str) -> None:
        super().__init__(f"outputs of {len(sources)} messages refused ({sources[0]} first): {detail}")
        self.sources = sources
        self.detail = detail


class ScoringFailed(Space2vecError):
    """A healthy classifier failed on these very stamps, repeatedly."""


class PartitionListener(Protocol):
    """Told of every change of assignment, within :meth:`Source.poll`, before it takes effect.

    What these raise comes out of ``poll`` once the change is made; no message is lost by that.
    """

    def assigned(self, partitions: Sequence[Partition]) -> None:
        """These partitions are ours from now on."""

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """These go to another worker when this call returns: last chance to commit."""

    def lost(self, partitions: Sequence[Partition]) -> None:
        """These are another worker's already: nothing of them may be committed."""


class Source(Protocol):
    """Where messages come from."""

    def subscribe(self, listener: PartitionListener) -> None:
        """Begin; changes of assignment are told to ``listener``."""

    def poll(self, limit: int, timeout: float) -> list[Message]:
        """At most ``limit`` messages, waiting at most ``timeout`` seconds; ``limit`` 0 only serves events."""

    def rewind(self, offsets: Mapping[Partition, int]) -> None:
        """Read these partitions again from these offsets."""

    def hold(self, partitions: frozenset[Partition]) -> None:
        """Take nothing from these partitions until told otherwise; take from all others."""

    def at_end(self) -> frozenset[Partition]:
        """Assigned partitions of which every message there was has been handed out."""

    def close(self) -> None:
        """Leave."""


class Ticket(Protocol):
    """Stamps under way through a scorer."""


class Scorer(Protocol):
    """What turns stamps into scores."""

    def submit(self, stamps: NDArray[np.float32]) -> Ticket:
        """Begin to score a batch, ``(N, 3, S, S)`` float32."""

    def wait(self, ticket: Ticket, timeout: float) -> Scores | None:
        """The scores, or ``None`` if they are not there within ``timeout`` seconds.

        Raises
        ------
        ScoringFailed
            If a healthy classifier fails on this batch again and again.
        """


class Sink(Protocol):
    """Where answers go."""

    def write(self, records: Sequence[OutputRecord]) -> None:
        """Send records; they count only once :meth:`commit` has returned."""

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Return when everything written is acknowledged and the source offsets stand with it.

        Parameters
        ----------
        offsets : mapping
            Per partition the offset of the next message to consume.

        Raises
        ------
        DeliveryAborted
            If it did not happen; the caller rewinds to the last commit.
        """

    def abort(self) -> None:
        """Forget what was written since the last commit, as far as the sink can."""

    def close(self) -> None:
        """Release connections."""
