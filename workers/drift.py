"""Drift: how far the latest alerts are from a bundle's reference, and scores that have got stuck.

The measure is the population stability index: the sum over bins of ``(q - p) ln(q / p)``, p being the reference's shares
and q the latest alerts', each count raised by a half so that an empty bin counts for something finite. It is the
symmetrised Kullback-Leibler divergence (Jeffreys 1946, doi:10.1098/rspa.1946.0056); by custom, below 0.1 is no shift
and above 0.25 is one to look into. Of a sample of n in k bins, chance alone makes about (k - 1) / n.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from space2vec.workers.manifest import Counted
from space2vec.workers.reference import count

BLOCK: Final = 5000
"""Alerts after which a block of counts is complete; the latest complete one and the one under way are looked at."""


def stability_index(reference: Sequence[int], latest: Sequence[int]) -> float:
    """Population stability index of counts in the same bins; 0 where both have the same shares."""
    p, q = (np.asarray(counts, np.float64) + 0.5 for counts in (reference, latest))
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum())


@dataclass(slots=True)
class Watch:
    """The latest alerts of one survey, as one bundle scored them; cheap to fill, to send and to add.

    Attributes
    ----------
    counts : dict of str to list of int
        Per statistic of the reference, in its bins, of the block under way.
    before : dict of str to list of int
        The same of the block before.
    alerts, alerts_before : int
        How many alerts these are of.
    identical : int
        Length of the run of equal scores that the latest one ends.
    """

    counts: dict[str, list[int]] = field(default_factory=dict)
    before: dict[str, list[int]] = field(default_factory=dict)
    alerts: int = 0
    alerts_before: int = 0
    identical: int = 0
    _last: int | None = None

    def note(
        self,
        logit: NDArray[np.float32],
        values: Mapping[str, NDArray[np.float64]],
        reference: Mapping[str, Counted],
    ) -> None:
        """Count alerts, in the order in which they were scored.

        Parameters
        ----------
        logit : (N,) float32
            Their scores; compared by their bits.
        values : mapping of str to (N,) float64
            Their :func:`~space2vec.workers.reference.statistics`.
        reference : mapping of str to Counted
            Of the survey; statistics that it does not have are not counted.
        """
        if not len(logit):
            return
        bits = logit.view(np.int32)
        changes = np.flatnonzero(np.diff(bits))
        if len(changes) or self._last != bits[0]:
            self.identical = 0
        self.identical += len(bits) - (int(changes[-1]) + 1 if len(changes) else 0)
        self._last = int(bits[-1])
        if self.alerts >= BLOCK:
            self.before, self.alerts_before = self.counts, self.alerts
            self.counts, self.alerts = {}, 0
        self.counts = _sums(
            self.counts,
            {
                name: count(values[name], counted.bounds).tolist()
                for name, counted in reference.items()
                if name in values
            },
        )
        self.alerts += len(bits)

    def add(self, other: Watch) -> None:
        """Add what another worker saw; of runs of equal scores the longer one stays."""
        self.counts, self.before = _sums(self.counts, other.counts), _sums(self.before, other.before)
        self.alerts += other.alerts
        self.alerts_before += other.alerts_before
        self.identical = max(self.identical, other.identical)

    @property
    def window(self) -> int:
        """How many of the latest alerts are looked at."""
        return self.alerts + self.alerts_before

    def drift(self, reference: Mapping[str, Counted]) -> dict[str, float]:
        """Stability index of every statistic that was counted."""
        latest = _sums(self.counts, self.before)
        return {
            name: stability_index(counted.counts, latest[name])
            for name, counted in reference.items()
            if name in latest
        }


def _sums(some: Mapping[str, list[int]], more: Mapping[str, list[int]]) -> dict[str, list[int]]:
    both = {**some, **more}
    for name in some.keys() & more.keys():
        both[name] = [a + b for a, b in zip(some[name], more[name], strict=True)]
    return both
