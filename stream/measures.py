"""What a stream worker measures of its own work, besides :mod:`counts`: times, ages, scores.

Everything here is plain numbers. It is filled in the pipeline's loop, read by the worker's status calls from
another thread (so containers never change their size in place), and turned into Prometheus' format once per
service, by :mod:`metrics`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from space2vec.schemas.times import DAY_S, mjd_tai
from space2vec.stream.batch import Batch, Outcome
from space2vec.stream.counts import Counts
from space2vec.stream.models import Look
from space2vec.stream.protocols import Message
from space2vec.workers.drift import Watch
from space2vec.workers.histogram import Histogram
from space2vec.workers.reference import statistics

STAGES: Final = ("open", "score", "answer", "commit")
"""Of a batch: packets to stamps; stamps to scores, waiting for its turn included; scores to records; of a commit."""
WORK: Final = ("open", "answer", "commit")
"""Stages that the loop's own thread works on."""
REBALANCES: Final = ("assigned", "revoked", "lost")

_STAGE_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_DELAY_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
_AGE_S: Final = (
    5.0,
    10.0,
    20.0,
    30.0,
    45.0,
    60.0,
    90.0,
    120.0,
    300.0,
    600.0,
    1800.0,
    3600.0,
    21600.0,
    86400.0,
)
_SCORE: Final = tuple(step / 20 for step in range(1, 21))
_MJD_1970: Final = 40587.0


@dataclass(slots=True)
class Measures:
    """Totals since a stream worker began; each alert counts once its answer is committed.

    Attributes
    ----------
    topics : dict of str to Counts
        By source topic.
    stages : dict of str to Histogram
        Seconds, per stage of :data:`STAGES`.
    cpu_s : dict of str to float
        CPU seconds of the loop's thread, per stage of :data:`WORK`.
    alert_age : Histogram
        Seconds from mid-exposure to the commit of the answer.
    end_to_end : Histogram
        Seconds from the source message's Kafka timestamp to the commit of the answer.
    scores : dict of (str, str) to Histogram
        Probabilities, by classifier (name and version) and the first class of its bundle.
    drift : dict of (str, str) to Watch
        The latest alerts, by survey and the digest of the bundle that scored them; counted once they are scored.
    rebalances : dict of str to int
        Changes of assignment, per kind of :data:`REBALANCES`.
    commits, aborts : int
        Commits that stand, and deliveries taken back.
    last_commit : float
        Of the latest commit, seconds since 1970; 0: none yet.
    """

    topics: dict[str, Counts] = field(default_factory=dict)
    stages: dict[str, Histogram] = field(
        default_factory=lambda: {stage: Histogram(_STAGE_S) for stage in STAGES}
    )
    cpu_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(WORK, 0.0))
    alert_age: Histogram = field(default_factory=lambda: Histogram(_AGE_S))
    end_to_end: Histogram = field(default_factory=lambda: Histogram(_DELAY_S))
    scores: dict[tuple[str, str], Histogram] = field(default_factory=dict)
    drift: dict[tuple[str, str], Watch] = field(default_factory=dict)
    rebalances: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REBALANCES, 0))
    commits: int = 0
    aborts: int = 0
    last_commit: float = 0.0

    def count(self, topics: Mapping[str, Counts]) -> None:
        """Count alerts by source topic."""
        counted = dict(self.topics)
        for topic, counts in topics.items():
            total = Counts()
            total.add(counted.get(topic, Counts()))
            total.add(counts)
            counted[topic] = total
        self.topics = counted

    def of_classifier(self, name: tuple[str, str]) -> Histogram:
        """Scores of a classifier, of the class it tells."""
        if name not in self.scores:
            self.scores = {**self.scores, name: Histogram(_SCORE)}
        return self.scores[name]

    def watch(self, of: tuple[str, str]) -> Watch:
        """Give the watch over a survey's alerts as a bundle scores them."""
        if of not in self.drift:
            self.drift = {**self.drift, of: Watch()}
        return self.drift[of]

    def add(self, other: Measures) -> None:
        """Add another worker's totals to these."""
        self.count(other.topics)
        for stage in STAGES:
            self.stages[stage].add(other.stages[stage])
        for stage in WORK:
            self.cpu_s[stage] += other.cpu_s[stage]
        self.alert_age.add(other.alert_age)
        self.end_to_end.add(other.end_to_end)
        for name, scores in other.scores.items():
            self.of_classifier(name).add(scores)
        for of, watch in other.drift.items():
            self.watch(of).add(watch)
        for kind in REBALANCES:
            self.rebalances[kind] += other.rebalances[kind]
        self.commits += other.commits
        self.aborts += other.aborts
        self.last_commit = max(self.last_commit, other.last_commit)


@dataclass(slots=True)
class Load:
    """What a stream worker has in its hands now.

    Attributes
    ----------
    joined : bool
        Whether the group has given it an assignment, if only an empty one.
    partitions : int
        Assigned to it.
    batches, size_bytes : int
        Batches under way and the bytes of their packets.
    held : int
        Messages that wait for their writer schema.
    """

    joined: bool = False
    partitions: int = 0
    batches: int = 0
    size_bytes: int = 0
    held: int = 0

    def add(self, other: Load) -> None:
        """Add another worker's load to this."""
        self.joined |= other.joined
        self.partitions += other.partitions
        self.batches += other.batches
        self.size_bytes += other.size_bytes
        self.held += other.held


class Meter:
    """Takes the measures within the loop; what is answered and not committed is kept apart until it is."""

    def __init__(self) -> None:
        self.measures = Measures()
        self._sent_ms: list[int] = []
        self._exposed: list[float] = []
        self._scores: list[tuple[tuple[str, str], float]] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block."""
        began, cpu_began = time.perf_counter(), time.thread_time()
        yield
        self.measures.stages[name].observe(time.perf_counter() - began)
        self.measures.cpu_s[name] += time.thread_time() - cpu_began

    def scored(self, batch: Batch) -> None:
        """Note that a batch's scores are there."""
        if any(look.scores is not None for look in batch.looks):
            self.measures.stages["score"].observe(time.perf_counter() - batch.submitted)
        surveys: dict[str, list[int]] = {}
        for outcome in (outcome for of_message in batch.outcomes for outcome in of_message):
            if outcome.alert is not None:
                surveys.setdefault(outcome.alert.survey, []).append(outcome.number)
        for look in batch.looks:
            for survey, numbers in surveys.items():
                self._watch(look, survey, [look.rows[number] for number in numbers if number in look.rows])

    def _watch(self, look: Look, survey: str, rows: list[int]) -> None:
        if look.scores is None or not rows:
            return
        manifest, flags = look.model.bundle.manifest, [look.flags[row] for row in rows]
        reference = manifest.reference.get(survey, {})
        values = {}
        if reference:
            values = statistics(look.stamps[rows], manifest.input, look.probability[rows], flags)
        watch = self.measures.watch((survey, look.model.bundle.sha256))
        watch.note(look.scores.logit[rows], values, reference)

    def answered(self, message: Message, outcomes: Sequence[Outcome], looks: Sequence[Look]) -> None:
        """Note the answer to one message; ``looks`` are those at its batch."""
        if message.timestamp_ms is not None:
            self._sent_ms.append(message.timestamp_ms)
        for outcome in outcomes:
            published = False
            for look in looks:
                row = look.rows.get(outcome.number)
                if row is not None:
                    self._scores.append((look.model.label, float(look.probability[row])))
                    published |= not look.model.shadow
            if published and outcome.alert is not None and outcome.alert.mjd_tai is not None:
                self._exposed.append(outcome.alert.mjd_tai)

    def committed(self, topics: Mapping[str, Counts]) -> None:
        """Note that all that was answered stands now; ``topics`` counts it by source topic."""
        measures, now = self.measures, time.time()
        now_mjd_tai = mjd_tai(now / DAY_S + _MJD_1970, "mjd_utc")
        for sent_ms in self._sent_ms:
            measures.end_to_end.observe(max(0.0, now - sent_ms / 1000))
        for exposed in self._exposed:
            measures.alert_age.observe(max(0.0, (now_mjd_tai - exposed) * DAY_S))
        for name, score in self._scores:
            measures.of_classifier(name).observe(score)
        measures.count(topics)
        measures.commits += 1
        measures.last_commit = now
        self.voided()

    def aborted(self) -> None:
        """Note that what was answered since the last commit did not happen."""
        self.measures.aborts += 1
        self.voided()

    def voided(self) -> None:
        """Forget what was answered since the last commit."""
        self._sent_ms.clear()
        self._exposed.clear()
        self._scores.clear()

    def rebalanced(self, kind: str) -> None:
        """Note a change of assignment."""
        self.measures.rebalances[kind] += 1
