"""What a classifier says of a batch of stamps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from space2vec.workers.manifest import Manifest


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
    spread : (N,) float32 or None
        Standard deviation of the logit over the members of an ensemble, after the same temperature; ``None`` of a
        single network.
    """

    logit: NDArray[np.float32]
    embedding: NDArray[np.float32]
    groups: NDArray[np.float32]
    spread: NDArray[np.float32] | None = None

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
        spread = None if self.spread is None else self.spread[start:stop]
        return Scores(self.logit[start:stop], self.embedding[start:stop], self.groups[start:stop], spread)


def joined(parts: Sequence[Scores]) -> Scores:
    """The scores of one or more batches of one network, as of one batch."""
    if len(parts) == 1:
        return parts[0]
    spreads = [part.spread for part in parts if part.spread is not None]
    return Scores(
        np.concatenate([part.logit for part in parts]),
        np.concatenate([part.embedding for part in parts]),
        np.concatenate([part.groups for part in parts]),
        np.concatenate(spreads) if spreads else None,
    )


def calibrated(returned: Sequence[NDArray[np.float32]], manifest: Manifest) -> Scores:
    """Scores from what a bundle's network returned, in the order of its outputs."""
    told = dict(zip(manifest.outputs.names, returned, strict=True))
    temperature = np.float32(manifest.calibration.temperature)
    raw = told.get("groups", np.empty((len(told["logit"]), 0), np.float32))
    return Scores(
        told["logit"] / temperature,
        told["embedding"],
        shares(raw, len(manifest.outputs.kinds)),
        told["spread"] / temperature if "spread" in told else None,
    )


def uncalibrated(scores: Scores, manifest: Manifest) -> dict[str, NDArray[np.float32]]:
    """Scores as golden vectors hold them, by name of output: as the network gave them, but groups as probabilities."""
    temperature = np.float32(manifest.calibration.temperature)
    told = {"logit": scores.logit * temperature, "embedding": scores.embedding}
    if manifest.outputs.groups:
        told["groups"] = scores.groups
    if scores.spread is not None:
        told["spread"] = scores.spread * temperature
    return told
