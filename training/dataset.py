"""From candidates to what a network is trained on: the stamps' accidents, then the very preprocessing of serving."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from space2vec.training.causes import CAUSES, Cause
from space2vec.training.events import KINDS
from space2vec.training.simulate import Candidates
from space2vec.workers.manifest import InputSpec
from space2vec.workers.preprocess import normalise_triplets

STAMP_SIZES = {"ztf": (63, 63), "des": (51, 51), "lsst": (30, 51)}
"""Smallest and largest stamp that a survey sends, pixels. LSST's grow with the source's footprint."""

Stamps = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Examples:
    """Candidates ready for training or testing, one row each.

    Attributes
    ----------
    inputs : (N, 3, S, S) float16
        Network inputs; half precision holds clipped arcsinh values to 0.004.
    target : (N,) float32
        Probability of being real: 0 or 1 by injected truth, between them where another model's score is the label.
    weight : (N,) float32
        How much that counts; 0 for glints, which real/bogus training and the headline figures leave out.
    group : (N,) int64
        Index into `GROUPS`: the kind of a real candidate, the cause of a bogus one; -1 where it is not known.
    snr : (N,) float32
        Signal to noise.
    """

    inputs: NDArray[np.float16]
    target: NDArray[np.float32]
    weight: NDArray[np.float32]
    group: NDArray[np.int64]
    snr: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.target)

    @property
    def real(self) -> NDArray[np.bool_]:
        """Whether each is real, ``(N,)`` bool."""
        return self.target > 0.5

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Whether each counts for real/bogus, ``(N,)`` bool."""
        return self.weight > 0

    def take(self, rows: NDArray[np.integer]) -> Examples:
        """Return some of the rows."""
        return Examples(*(getattr(self, column.name)[rows] for column in fields(self)))

    def digest(self) -> str:
        """SHA-256 over every array, in hex: two sets with one digest are the same set."""
        sha = hashlib.sha256()
        for column in fields(self):
            sha.update(np.ascontiguousarray(getattr(self, column.name)).tobytes())
        return sha.hexdigest()


GROUPS = KINDS[1:] + CAUSES[1:]
"""What a candidate can be: kinds of real event, then causes of bogus ones."""


def join(parts: list[Examples]) -> Examples:
    """Join sets of examples."""
    return Examples(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Examples)))


def prepare(
    candidates: Candidates, spec: InputSpec, rng: np.random.Generator, *, accidents: bool
) -> Examples:
    """Turn candidates into examples.

    Parameters
    ----------
    candidates : Candidates
        Simulated with stamps of the survey's largest size in `STAMP_SIZES`.
    spec : InputSpec
        The bundle's input.
    rng
        Source of chance.
    accidents : bool
        Whether some stamps lose pixels, rows or edges and some detections are off by a pixel, as
        happens to real ones.
    """
    stamps = candidates.stamps.copy()
    unturned = candidates.negative & ~candidates.flipped
    stamps[unturned, 2] *= -1
    if accidents:
        befall(stamps, rng)
    inputs = np.empty((len(stamps), len(spec.planes), spec.size, spec.size), np.float16)
    sizes = _sizes(candidates.survey, len(stamps), rng)
    for size in np.unique(sizes):
        chosen = np.flatnonzero(sizes == size)
        inputs[chosen] = normalise_triplets(crop(stamps[chosen], int(size)), spec)
    real = candidates.real
    group = np.where(
        real, candidates.kind.astype(np.int64) - 1, candidates.cause.astype(np.int64) + len(KINDS) - 2
    )
    return Examples(
        inputs,
        real.astype(np.float32),
        (candidates.cause != Cause.GLINT).astype(np.float32),
        group,
        candidates.snr,
    )


def _sizes(survey: str, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Stamp sizes: the survey's smallest for most."""
    smallest, largest = STAMP_SIZES[survey]
    other = rng.integers(smallest, largest + 1, count)
    return np.where(rng.random(count) < 0.6, smallest, other)


def crop(stamps: Stamps, size: int) -> Stamps:
    """Cut smaller stamps out of large ones, the source again at ``size // 2``."""
    start = stamps.shape[-1] // 2 - size // 2
    return stamps[..., start : start + size, start : start + size]


def befall(stamps: Stamps, rng: np.random.Generator) -> None:
    """Let accidents befall stamps, in place: each kind hits a few in a hundred.

    Lost lines are what DMTN-337 (2026) found to confuse Rubin's classifier; cut edges are what ZTF
    sends from the border of a detector; a detection may be a pixel off its peak.
    """
    side = stamps.shape[-1]
    for triplet in stamps:
        chance = rng.random(3)
        if chance[0] < 0.08:
            planes = slice(None) if rng.random() < 0.5 else rng.integers(3)
            lines = rng.integers(0, side, rng.integers(1, 6))
            turned = triplet if rng.random() < 0.5 else triplet.swapaxes(1, 2)
            turned[planes, lines] = np.nan
        if chance[1] < 0.08:
            edge = np.rot90(triplet, int(rng.integers(4)), (1, 2))
            edge[:, : int(rng.integers(1, side // 2 - 3))] = np.nan
        if chance[2] < 0.2:
            shift = rng.integers(-1, 2, 2)
            triplet[:] = np.roll(triplet, tuple(shift), (1, 2))
