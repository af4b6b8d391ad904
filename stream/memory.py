"""Source, scorer and sink in memory: for tests of the pipeline, and to read how they behave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from space2vec.stream.protocols import (
    Message,
    OutputRecord,
    Partition,
    PartitionListener,
    ScoringFailed,
)
from space2vec.workers.scores import Scores


class MemorySource:
    """Partitions as lists of messages.

    Parameters
    ----------
    logs : mapping of Partition to sequence of Message
        What stands in each partition.
    committed : dict of Partition to int, optional
        The group's offsets, shared between the members of a test's group.
    """

    def __init__(
        self, logs: Mapping[Partition, Sequence[Message]], committed: dict[Partition, int] | None = None
    ) -> None:
        self.logs = logs
        self.committed = {} if committed is None else committed
        self._positions: dict[Partition, int] = {}
        self._listener: PartitionListener | None = None
        self._held: frozenset[Partition] = frozenset()

    def subscribe(self, listener: PartitionListener) -> None:
        """Assign every partition."""
        self._listener = listener
        self.assign(list(self.logs))

    def assign(self, partitions: Sequence[Partition]) -> None:
        """Hand partitions to this member."""
        assert self._listener is not None
        for partition in partitions:
            self._positions[partition] = self.committed.get(partition, 0)
        self._listener.assigned(partitions)

    def revoke(self, partitions: Sequence[Partition], *, lost: bool = False) -> None:
        """Take partitions from this member, asking first or (``lost``) not."""
        assert self._listener is not None
        try:
            (self._listener.lost if lost else self._listener.revoked)(partitions)
        finally:
            for partition in partitions:
                self._positions.pop(partition, None)

    def poll(self, limit: int, timeout: float) -> list[Message]:
        """The next messages, as many of each partition."""
        out: list[Message] = []
        share = -(-limit // max(1, len(self._positions)))
        for partition, position in self._positions.items():
            if partition in self._held:
                continue
            ahead = [m for m in self.logs[partition] if m.offset >= position][: min(share, limit - len(out))]
            if ahead:
                self._positions[partition] = ahead[-1].offset + 1
                out += ahead
        return out

    def rewind(self, offsets: Mapping[Partition, int]) -> None:
        """Go back."""
        self._positions.update({p: o for p, o in offsets.items() if p in self._positions})

    def hold(self, partitions: frozenset[Partition]) -> None:
        """Leave these partitions alone."""
        self._held = partitions

    def at_end(self) -> frozenset[Partition]:
        """Partitions read to their end."""
        return frozenset(
            partition
            for partition, position in self._positions.items()
            if not any(m.offset >= position for m in self.logs[partition])
        )

    def close(self) -> None:
        """Give every partition back."""
        self.revoke(list(self._positions))


class MemoryScorer:
    """Scores by a plain function; ``order`` may hold results back to try out-of-order finishing.

    Parameters
    ----------
    score : callable
        ``(N, 3, S, S)`` float32 to ``(N,)`` logits; what it raises becomes :class:`ScoringFailed`.
    delay : callable, optional
        How many times :meth:`wait` answers "not yet" for the n-th batch submitted.
    """

    def __init__(
        self,
        score: Callable[[NDArray[np.float32]], NDArray[np.float32]],
        delay: Callable[[int], int] = lambda n: 0,
    ) -> None:
        self._score = score
        self._delay = delay
        self._left: list[int] = []
        self._stamps: list[NDArray[np.float32]] = []

    def submit(self, stamps: NDArray[np.float32]) -> int:
        """Keep the batch; its number is the ticket."""
        self._left.append(self._delay(len(self._left)))
        self._stamps.append(stamps)
        return len(self._stamps) - 1

    def wait(self, ticket: object, timeout: float) -> Scores | None:
        """The scores once the delay is used up."""
        assert isinstance(ticket, int)
        if self._left[ticket] > 0:
            self._left[ticket] -= 1
            return None
        try:
            logit = self._score(self._stamps[ticket]).astype(np.float32)
        except Exception as error:
            raise ScoringFailed(str(error)) from error
        nothing = np.zeros((len(logit), 0), np.float32)
        return Scores(logit, nothing, nothing)


class MemorySink:
    """Keeps what is committed, with the offsets, as one transaction.

    Parameters
    ----------
    source : MemorySource
        Whose group offsets are moved by a commit.
    """

    def __init__(self, source: MemorySource) -> None:
        self._source = source
        self._open: list[OutputRecord] = []
        self.records: list[OutputRecord] = []
        self.commits = 0

    def write(self, records: Sequence[OutputRecord]) -> None:
        """Add to the open transaction."""
        self._open += records

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Both or neither."""
        self.records += self._open
        self._open = []
        self._source.committed.update(offsets)
        self.commits += 1

    def abort(self) -> None:
        """Drop the open transaction."""
        self._open = []

    def close(self) -> None:
        """Nothing to release."""
