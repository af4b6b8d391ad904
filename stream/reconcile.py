"""Accounts of a run: every message published must come back out, annotated or rejected, once.

Outputs name their source message in headers, so what came back is held against what was published, not against
what the pipeline says of itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

ANNOTATED: Final = "annotated"
CLASSIFIED: Final = "classifications"
REJECTED: Final = "rejected"


class Place(NamedTuple):
    """Where a message stood in the source."""

    topic: str
    partition: int
    offset: int


class Answer(NamedTuple):
    """One output: which source message it answers, and what it says.

    ``key`` is the output's Kafka key, the object id of the alert inside; ``detail`` the status of a classification
    or the reason of a rejection.
    """

    place: Place
    key: str
    detail: str
    seen_at: float


@dataclass(frozen=True, slots=True)
class Totals:
    """The result; ``latency`` in seconds, from the message's time of production to its answer being read."""

    published: int
    consumed: int
    scored: int
    degraded: int
    rejected: int
    annotated: int
    lost: int
    duplicated: int
    alerts_per_s: float
    latency_p50_s: float
    latency_p99_s: float


@dataclass(slots=True)
class Accounts:
    """What was published, by place, and what came back.

    Attributes
    ----------
    keys : dict of Place to str
        Object id of every published message.
    published_at : dict of Place to float
        When, in seconds since 1970.
    answers : dict of kind to list of Answer
        What came back, in the order read.
    """

    keys: dict[Place, str] = field(default_factory=dict)
    published_at: dict[Place, float] = field(default_factory=dict)
    answers: dict[str, list[Answer]] = field(
        default_factory=lambda: {ANNOTATED: [], CLASSIFIED: [], REJECTED: []}
    )

    def publish(self, place: Place, key: str, at: float) -> None:
        """Note a message that the broker has acknowledged."""
        self.keys[place] = key
        self.published_at[place] = at

    @property
    def answered(self) -> int:
        """Messages with an answer so far: annotated and classified, or rejected."""
        return min(len(self.answers[ANNOTATED]), len(self.answers[CLASSIFIED])) + len(self.answers[REJECTED])

    def lost(self) -> list[Place]:
        """Published messages that lack an answer, or a part of it."""
        seen = self._places()
        complete = (seen[ANNOTATED] & seen[CLASSIFIED]) | seen[REJECTED]
        return sorted(self.keys.keys() - complete)

    def duplicated(self) -> list[Place]:
        """Give the places answered more than once, once per surplus answer; and answers to nothing published."""
        surplus: list[Place] = []
        for answers in self.answers.values():
            counts = Counter(answer.place for answer in answers)
            for place, count in counts.items():
                surplus += [place] * (count - 1 if place in self.keys else count)
        seen = self._places()
        both = seen[REJECTED] & (seen[ANNOTATED] | seen[CLASSIFIED])
        mistaken = [a.place for a in self.answers[ANNOTATED] if self.keys.get(a.place, a.key) != a.key]
        return sorted([*surplus, *both, *mistaken])

    def totals(self, consumed: int, since: float) -> Totals:
        """Add up.

        Parameters
        ----------
        consumed : int
            Messages that the application says it has answered.
        since : float
            Rate and latency are taken over messages published from then on (seconds since 1970): start-up is not
            what they are about.
        """
        status = Counter(answer.detail for answer in self.answers[CLASSIFIED])
        final = {a.place: a.seen_at for kind in (ANNOTATED, REJECTED) for a in self.answers[kind]}
        timed = {p: at for p, at in self.published_at.items() if at >= since and p in final}
        delays = sorted(final[place] - at for place, at in timed.items())
        took = max((final[place] for place in timed), default=since) - since
        return Totals(
            published=len(self.keys),
            consumed=consumed,
            scored=status["scored"],
            degraded=status["degraded"],
            rejected=len(self.answers[REJECTED]),
            annotated=len(self.answers[ANNOTATED]),
            lost=len(self.lost()),
            duplicated=len(self.duplicated()),
            alerts_per_s=round(len(timed) / took, 1) if took > 0 else 0.0,
            latency_p50_s=_quantile(delays, 0.50),
            latency_p99_s=_quantile(delays, 0.99),
        )

    def _places(self) -> Mapping[str, set[Place]]:
        return {kind: {answer.place for answer in answers} for kind, answers in self.answers.items()}


def _quantile(ascending: list[float], q: float) -> float:
    """Give the nearest-rank quantile, in seconds to the millisecond; 0 of nothing."""
    return round(ascending[min(len(ascending) - 1, int(q * len(ascending)))], 3) if ascending else 0.0
