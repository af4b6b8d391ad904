"""Counting answers per source offset: what an audit holds against the source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Finding:
    """A run of offsets that were not answered exactly once.

    ``answers`` says how often each record was answered, ``expected`` how often it should have been.
    """

    first: int
    last: int
    answers: int
    expected: int

    def __str__(self) -> str:
        where = f"offset {self.first}" if self.first == self.last else f"offsets {self.first}-{self.last}"
        what = "missing" if self.answers < self.expected else "doubled"
        return f"{where} {what}: {self.answers} of {self.expected} answered"


class Tally:
    """Answers of one source partition, by offset, in a few bytes each.

    Parameters
    ----------
    first : int
        Offset that counting begins at.
    """

    def __init__(self, first: int) -> None:
        self.first = first
        self._there = np.zeros(1024, bool)
        self._expected = np.ones(1024, np.uint16)
        self._answers = np.zeros(1024, np.uint16)

    def source(self, offset: int) -> None:
        """Note that the source has a message at this offset."""
        index = self._index(offset)
        if index >= 0:
            self._there[index] = True

    def answer(self, offset: int, records: int, of: int) -> None:
        """Note that ``records`` of the ``of`` records in a message were answered."""
        index = self._index(offset)
        if index >= 0:
            self._answers[index] += records
            self._expected[index] = of

    def silent(self, offset: int) -> None:
        """Note that a message rightly has no output."""
        self.answer(offset, 0, 0)

    def messages(self, end: int) -> int:
        """How many messages the source has before ``end``."""
        return int(self._there[: max(0, end - self.first)].sum())

    def findings(self, end: int) -> Iterator[Finding]:
        """Every run of offsets before ``end`` that is not balanced."""
        there, answers, expected = self._until(end)
        expected = np.where(there, expected, 0)
        wrong = np.flatnonzero(answers != expected)
        if not len(wrong):
            return
        same = (
            (np.diff(wrong) == 1)
            & (np.diff(answers[wrong].astype(int)) == 0)
            & (np.diff(expected[wrong].astype(int)) == 0)
        )
        for run in np.split(wrong, np.flatnonzero(~same) + 1):
            yield Finding(
                self.first + int(run[0]),
                self.first + int(run[-1]),
                int(answers[run[0]]),
                int(expected[run[0]]),
            )

    def totals(self, end: int) -> tuple[int, int]:
        """Records missing and doubled before ``end``."""
        there, answers, expected = self._until(end)
        excess = answers.astype(np.int64) - np.where(there, expected, 0)
        return int(-excess[excess < 0].sum()), int(excess[excess > 0].sum())

    def _until(self, end: int) -> tuple[NDArray[np.bool_], NDArray[np.uint16], NDArray[np.uint16]]:
        stop = max(0, end - self.first)
        self._grow(stop)
        return self._there[:stop], self._answers[:stop], self._expected[:stop]

    def _index(self, offset: int) -> int:
        index = offset - self.first
        if index >= 0:
            self._grow(index + 1)
        return index

    def _grow(self, size: int) -> None:
        if size <= len(self._there):
            return
        more = max(size, 2 * len(self._there)) - len(self._there)
        self._there = np.concatenate([self._there, np.zeros(more, bool)])
        self._expected = np.concatenate([self._expected, np.ones(more, np.uint16)])
        self._answers = np.concatenate([self._answers, np.zeros(more, np.uint16)])
