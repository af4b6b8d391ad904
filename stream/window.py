"""Dropping alerts that come again: an optional window of alert ids answered lately.

Kafka's exactly once covers what *we* do twice; a survey or an upstream broker may still send an alert
twice. The window belongs to one stream worker and forgets the oldest ids first.
"""

from __future__ import annotations

from space2vec.stream.answers import Answer
from space2vec.stream.counts import Counts


class Window:
    """Remembers alerts, and lets each pass once.

    Parameters
    ----------
    size : int
        How many alerts to remember; 0: none, everything passes.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._committed: dict[tuple[str, int], None] = {}
        self._pending: dict[tuple[str, int], None] = {}

    def admit(self, answer: Answer) -> Answer:
        """The answer, or a silent one if every alert of the message has been answered before."""
        if not self._size or not answer.alerts:
            return answer
        if all(alert in self._committed or alert in self._pending for alert in answer.alerts):
            return Answer([], Counts(messages=1, duplicates=answer.counts.alerts), answer.alerts)
        self._pending.update(dict.fromkeys(answer.alerts))
        return answer

    def commit(self) -> None:
        """What has been admitted is answered."""
        self._committed.update(self._pending)
        self._pending.clear()
        while len(self._committed) > self._size:
            del self._committed[next(iter(self._committed))]

    def void(self) -> None:
        """What has been admitted since the last commit was not answered after all."""
        self._pending.clear()
