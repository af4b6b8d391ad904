"""Which offsets may be committed: per partition, the end of the finished prefix.

Batches finish in any order; an offset may stand in the group only when every message before it
has been answered. Offsets need not be consecutive (control records and compaction leave gaps), so
the prefix is one of the messages *handed out*, in their order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from space2vec.stream.protocols import Message, Partition


@dataclass(slots=True)
class _Assignment:
    """One partition, from its assignment to its revocation or rewind."""

    start: int | None = None  # where to read again from, once that is known
    committed: int | None = None
    next: int | None = None  # offset after the finished prefix
    live: bool = True
    outstanding: deque[int] = field(default_factory=deque)
    finished: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to answer one message; void once its partition is revoked or rewound."""

    assignment: _Assignment = field(repr=False)
    offset: int

    @property
    def live(self) -> bool:
        """Whether the message is still ours to answer."""
        return self.assignment.live


class OffsetTracker:
    """Progress of every assigned partition.

    A partition that is revoked and assigned again starts afresh: a claim of the former assignment
    is void, since committing by it would move the next owner's offset.
    """

    def __init__(self) -> None:
        self._assignments: dict[Partition, _Assignment] = {}

    def assign(self, partitions: Iterable[Partition]) -> None:
        """Begin an assignment of these partitions."""
        partitions = list(partitions)
        self.revoke(partitions)
        self._assignments.update((partition, _Assignment()) for partition in partitions)

    def revoke(self, partitions: Iterable[Partition]) -> None:
        """End it; nothing of these partitions is committed any more."""
        for partition in partitions:
            assignment = self._assignments.pop(partition, None)
            if assignment is not None:
                assignment.live = False

    @property
    def partitions(self) -> frozenset[Partition]:
        """Partitions assigned now."""
        return frozenset(self._assignments)

    def track(self, message: Message) -> Claim:
        """Note that a message was handed out.

        Raises
        ------
        ValueError
            If its offset does not come after all those handed out before it.
        """
        assignment = self._assignments[message.partition]
        last = assignment.outstanding[-1] if assignment.outstanding else (assignment.next or 0) - 1
        if message.offset <= last:
            raise ValueError(f"{message} handed out after offset {last}")
        if assignment.start is None:
            assignment.start = message.offset
        assignment.outstanding.append(message.offset)
        return Claim(assignment, message.offset)

    def finish(self, claim: Claim) -> None:
        """Note that a message's answer has been written; a void claim changes nothing."""
        assignment = claim.assignment
        assignment.finished.add(claim.offset)
        while assignment.outstanding and assignment.outstanding[0] in assignment.finished:
            done = assignment.outstanding.popleft()
            assignment.finished.discard(done)
            assignment.next = done + 1

    def committable(self) -> dict[Partition, int]:
        """Offsets to commit, per partition whose finished prefix has grown since the last commit."""
        return {
            partition: a.next
            for partition, a in self._assignments.items()
            if a.next is not None and a.next != a.committed
        }

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        """Note that these offsets stand."""
        for partition, offset in offsets.items():
            if partition in self._assignments:
                self._assignments[partition].committed = offset

    def idle(self, partition: Partition) -> bool:
        """Whether everything handed out of an assigned partition is finished and committed."""
        a = self._assignments.get(partition)
        return a is not None and not a.outstanding and a.next == a.committed

    def restart(self) -> dict[Partition, int]:
        """Void every claim; where to read each partition again from (absent: nothing was handed out)."""
        offsets: dict[Partition, int] = {}
        for partition, former in self._assignments.items():
            former.live = False
            start = former.start if former.committed is None else former.committed
            self._assignments[partition] = _Assignment(start, former.committed, former.committed)
            if start is not None:
                offsets[partition] = start
        return offsets
