"""The offset tracker against a plain model: nothing is committed past an unanswered message."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from space2vec.stream.offsets import Claim, OffsetTracker
from space2vec.stream.protocols import Message, Partition

PARTITIONS = [Partition("alerts", n) for n in range(3)]


def message(partition: Partition, offset: int) -> Message:
    return Message(partition, offset, b"")


class TrackerMachine(RuleBasedStateMachine):
    """Any interleaving of hand-out, finish, commit, revoke, reassign and rewind.

    The model is plain: per assignment the list of (offset, finished) in the order handed out, and
    what stands committed in the group.
    """

    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.tracker = OffsetTracker()
        self.model: dict[Partition, list[list[object]]] = {}
        self.committed: dict[Partition, int] = {}
        self.position: dict[Partition, int] = {}
        self.base: dict[Partition, int | None] = {}

    @rule(partition=st.sampled_from(PARTITIONS))
    def assign(self, partition: Partition) -> None:
        self.tracker.assign([partition])
        self.model[partition] = []
        self.position[partition] = self.committed.get(partition, 0)
        self.base[partition] = None

    @rule(partition=st.sampled_from(PARTITIONS))
    def revoke(self, partition: Partition) -> None:
        self.tracker.revoke([partition])
        self.model.pop(partition, None)

    @rule(target=claims, partition=st.sampled_from(PARTITIONS), gap=st.integers(0, 3))
    def hand_out(self, partition: Partition, gap: int) -> tuple[Partition, Claim, list[object]] | None:
        if partition not in self.model:
            return None
        offset = self.position[partition] + gap  # control records and compaction leave gaps
        claim = self.tracker.track(message(partition, offset))
        entry: list[object] = [offset, False]
        self.model[partition].append(entry)
        if self.base[partition] is None:
            self.base[partition] = offset
        self.position[partition] = offset + 1
        return partition, claim, entry

    @rule(handed_out=consumes(claims))
    def finish(self, handed_out: tuple[Partition, Claim, list[object]] | None) -> None:
        if handed_out is not None:
            partition, claim, entry = handed_out
            mine = any(entry is e for e in self.model.get(partition, []))
            assert claim.live == mine
            self.tracker.finish(claim)
            entry[1] = True

    @rule()
    def commit(self) -> None:
        offsets = self.tracker.committable()
        for partition, offset in offsets.items():
            assert all(e[1] for e in self.model[partition] if e[0] < offset), (
                "committed past an unanswered message"
            )
        self.tracker.committed(offsets)
        self.committed.update(offsets)
        assert self.tracker.committable() == {}

    @rule()
    def rewind(self) -> None:
        offsets = self.tracker.restart()
        for partition, entries in self.model.items():
            finished = [e[0] for e in entries if e[0] < self.committed.get(partition, 0)]
            start = self.base[partition]
            if start is None:
                assert partition not in offsets
                continue
            if finished:
                start = self.committed[partition]
            assert offsets[partition] == start
            self.position[partition] = start
            self.base[partition] = start
        for entries in self.model.values():
            entries.clear()

    @invariant()
    def prefix(self) -> None:
        offsets = self.tracker.committable()
        for partition, entries in self.model.items():
            prefix = []
            for entry in entries:
                if not entry[1]:
                    break
                prefix.append(entry[0])
            expected = prefix[-1] + 1 if prefix else None  # type: ignore[operator]
            if expected is not None and expected != self.committed.get(partition):
                assert offsets[partition] == expected
            else:
                assert partition not in offsets


TestTracker = TrackerMachine.TestCase
TestTracker.settings = settings(max_examples=150, stateful_step_count=40)


def test_out_of_order_finish_commits_only_the_prefix() -> None:
    tracker = OffsetTracker()
    tracker.assign(PARTITIONS[:1])
    claims = [tracker.track(message(PARTITIONS[0], offset)) for offset in (5, 6, 9)]
    tracker.finish(claims[1])
    tracker.finish(claims[2])
    assert tracker.committable() == {}
    tracker.finish(claims[0])
    assert tracker.committable() == {PARTITIONS[0]: 10}


def test_offsets_must_rise() -> None:
    tracker = OffsetTracker()
    tracker.assign(PARTITIONS[:1])
    tracker.track(message(PARTITIONS[0], 5))
    with pytest.raises(ValueError, match="handed out after"):
        tracker.track(message(PARTITIONS[0], 5))


def test_a_claim_of_a_former_assignment_is_void() -> None:
    tracker = OffsetTracker()
    tracker.assign(PARTITIONS[:1])
    former = tracker.track(message(PARTITIONS[0], 5))
    tracker.assign(PARTITIONS[:1])
    current = tracker.track(message(PARTITIONS[0], 5))
    assert not former.live
    assert current.live
    tracker.finish(former)
    assert tracker.committable() == {}
