"""What a classifier says of a batch of stamps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def shares(raw: NDArray[np.float32], kinds: int) -> NDArray[np.float32]:
    """Probabilities from a network's scores of groups: the first ``kinds`` columns sum to 1, and so do the others."""
    out = np.empty_like(raw)
    for part in (slice(0, kinds), slice(kinds, raw.shape[1])):
        if part.start < part.stop:
            power = np.exp(raw[:, part] - raw[:, part].max(axis=1, keepdims=True))
            out[:, part] = power / power.sum(axis=1, keepdims=True)
    return out


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of a batch, calibrated by the bundle.

    Attributes
    ----------
    logit : (N,) float32
        Log-odds that the alert is real, after the bundle's temperature.
    embedding : (N, D) float32
        The vector of each alert; D may be 0 where a network has none.
    groups : (N, G) float32
        Probability of each kind, were the alert real, then of each cause, were it bogus; G is 0 where the bundle
        names none.
    """

    logit: NDArray[np.float32]
    embedding: NDArray[np.float32]
    groups: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.logit)

    @property
    def probability(self) -> NDArray[np.float64]:
        """Probability that the alert is real, ``(N,)`` float64: the logistic function of ``logit``."""
        z = self.logit.astype(np.float64)
        e = np.exp(-np.abs(z))
        return np.where(z >= 0, 1.0, e) / (1.0 + e)

    def slice(self, start: int, stop: int) -> Scores:
        """The scores of rows ``start`` to ``stop`` of the batch."""
        return Scores(self.logit[start:stop], self.embedding[start:stop], self.groups[start:stop])
