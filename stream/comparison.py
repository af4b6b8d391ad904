"""Two model bundles over the same alerts: where they agree, and the alerts on which they do not."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from space2vec.schemas.alert import Alert
from space2vec.stream.pictures import Card, contact_sheet
from space2vec.workers.backends import open_backend
from space2vec.workers.bundle import Bundle
from space2vec.workers.preprocess import Preprocessor

BINS: Final = 20
"""Of the histograms of scores, from 0 to 1."""
SHOWN: Final = 24
"""Alerts kept of those that changed most, with their stamps."""
_BATCH: Final = 256


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """An alert and how its logit differs; ordered by how much.

    ``before`` and ``after`` are the scores of the first and the second bundle.
    """

    by: float
    number: int
    before: float = field(compare=False)
    after: float = field(compare=False)
    alert: Alert = field(compare=False, repr=False)

    def as_json(self) -> dict[str, Any]:
        """Give it as ``space2vec model compare`` writes it."""
        told = {name: getattr(self.alert, name) for name in ("survey", "alert_id", "object_id")}
        return told | {"before": self.before, "after": self.after}


class BundleScorer:
    """A bundle that scores alerts, without a pipeline around it.

    Parameters
    ----------
    bundle : Bundle
        With its own preprocessing.
    device : {'auto', 'cpu', 'cuda'}
        Where the network runs.
    threads : int
        CPU threads.
    """

    def __init__(self, bundle: Bundle, device: str = "auto", threads: int = 1) -> None:
        self.bundle = bundle
        self._preprocessor = Preprocessor(bundle.manifest.input)
        self._backend = open_backend(bundle, device, threads)

    def logits(self, alerts: Sequence[Alert]) -> NDArray[np.float32]:
        """Logit of each alert, ``(N,)`` float32; NaN where this bundle rejects it."""
        prepared = self._preprocessor.prepare(alerts)
        logits = np.full(len(alerts), np.nan, np.float32)
        if prepared.rows:
            rows = [index for index in range(len(alerts)) if index not in prepared.rejects]
            logits[rows] = self._backend.score(prepared.stamps).logit
        return logits


@dataclass(slots=True)
class Comparison:
    """What came of two bundles over some alerts.

    Attributes
    ----------
    threshold : float
        Operating point: an alert counts as real from this score on.
    alerts : int
        How many both bundles were given.
    rejected : (2,) int64
        How many the first, and the second, could not score.
    histograms : (2, BINS) int64
        Scores of the alerts that both scored.
    crossed : (2,) int64
        Of these, how many rose above the operating point, and how many fell below it.
    squares, total : float
        Sums over these of the logits' differences squared, and of the differences.
    largest : list of Change
        Those that changed most, a heap.
    """

    threshold: float = 0.5
    alerts: int = 0
    rejected: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2, np.int64))
    histograms: NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, BINS), np.int64))
    crossed: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2, np.int64))
    squares: float = 0.0
    total: float = 0.0
    largest: list[Change] = field(default_factory=list, repr=False)

    def add(self, alerts: Sequence[Alert], logits: NDArray[np.float32]) -> list[Change]:
        """Count some alerts, by their logits ``(2, N)`` from the two bundles; those that crossed are given back."""
        self.rejected += np.isnan(logits).sum(1)
        both = ~np.isnan(logits).any(0)
        scores = 1 / (1 + np.exp(-logits[:, both].astype(np.float64)))
        for row, histogram in zip(scores, self.histograms, strict=True):
            histogram += np.histogram(row, BINS, (0.0, 1.0))[0]
        above = scores >= self.threshold
        self.crossed += [(~above[0] & above[1]).sum(), (above[0] & ~above[1]).sum()]
        change = (logits[1] - logits[0])[both].astype(np.float64)
        self.squares += float((change**2).sum())
        self.total += float(change.sum())
        numbers = np.flatnonzero(both).tolist()

        def changed(place: int) -> Change:
            number, (before, after) = numbers[place], scores[:, place].tolist()
            return Change(abs(float(change[place])), self.alerts + number, before, after, alerts[number])

        for place in np.argsort(-np.abs(change), kind="stable")[:SHOWN].tolist():
            much = changed(place)
            (heapq.heappush if len(self.largest) < SHOWN else heapq.heappushpop)(self.largest, much)
        crossed = [changed(place) for place in np.flatnonzero(above[0] != above[1]).tolist()]
        self.alerts += len(alerts)
        return crossed

    @property
    def scored(self) -> int:
        """Alerts that both bundles scored."""
        return int(self.histograms[0].sum())

    def as_json(self) -> dict[str, Any]:
        """Give it as ``space2vec model compare --json`` writes it."""
        scored = max(self.scored, 1)
        return {
            "alerts": self.alerts,
            "scored_by_both": self.scored,
            "rejected": self.rejected.tolist(),
            "threshold": self.threshold,
            "rose_above": int(self.crossed[0]),
            "fell_below": int(self.crossed[1]),
            "mean_logit_change": self.total / scored,
            "rms_logit_change": (self.squares / scored) ** 0.5,
            "bin_edges": np.linspace(0, 1, BINS + 1).round(3).tolist(),
            "histograms": self.histograms.tolist(),
            "largest": [change.as_json() for change in sorted(self.largest, reverse=True)],
        }

    def sheet(self, first: str, second: str) -> Image.Image:
        """Draw the alerts that changed most, under the bundles' names."""
        cards = [
            Card(f"{c.before:.3f} -> {c.after:.3f}\n{c.alert.object_id or c.alert.alert_id}", c.alert.stamps)
            for c in sorted(self.largest, reverse=True)
        ]
        return contact_sheet([(f"{first} -> {second}: largest changes of {self.scored} alerts", cards)])


def compare(
    alerts: Iterable[Alert],
    first: BundleScorer,
    second: BundleScorer,
    threshold: float,
    crossed: Callable[[Change], object] = lambda _: None,
) -> Comparison:
    """Score alerts by two bundles and count how they differ.

    Parameters
    ----------
    alerts : iterable of Alert
        Any number: only the few that changed most are kept.
    first, second : BundleScorer
        The bundles.
    threshold : float
        Score from which on an alert counts as real.
    crossed : callable
        Told of every alert that is real for one bundle only.
    """
    comparison = Comparison(threshold)
    stream = iter(alerts)
    while batch := list(islice(stream, _BATCH)):
        for change in comparison.add(batch, np.stack([first.logits(batch), second.logits(batch)])):
            crossed(change)
    return comparison
