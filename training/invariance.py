"""How far a score moves when nothing that matters has changed: views, cut edges, lost rows, units."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue
from scipy.special import expit

from space2vec.workers.manifest import InputSpec
from space2vec.workers.preprocess import normalise_triplets

CLOSE = 0.05
"""A move in probability that does not count as one."""

Inputs = NDArray[np.float32]
Score = Callable[[Inputs], NDArray[np.float32]]


def invariances(score: Score, spec: InputSpec, stamps: Inputs, seed: int = 0) -> dict[str, JsonValue]:
    """Measure by how much probabilities move.

    Parameters
    ----------
    score : callable
        Logits ``(N,)`` of network inputs ``(N, P, S, S)``.
    spec : InputSpec
        The bundle's input.
    stamps : (N, P, H, W) float32
        Triplets without missing pixels.
    seed : int
        Which rows get lost.

    Returns
    -------
    dict
        Fractions of the stamps whose probability moves by less than 0.05: in the worst of the eight views of
        the square; with a quarter of the stamp cut off, at the worst of the four edges; with 15 % of the rows
        lost, anywhere and where none is within 7 px of the source, and with fewer of them lost anywhere, by their
        share; and the largest move under a pedestal and another unit.
    """
    inputs = normalise_triplets(stamps, spec)
    usual = expit(score(inputs).astype(np.float64))

    def move(changed: Inputs) -> NDArray[np.float64]:
        return np.asarray(np.abs(expit(score(changed).astype(np.float64)) - usual))

    views = [
        np.ascontiguousarray(np.rot90(side, turn, (2, 3)))
        for side in (inputs, inputs[..., ::-1])
        for turn in range(4)
    ]
    height = stamps.shape[2]
    rng = np.random.default_rng(seed)
    rows = np.arange(height)
    outer = np.r_[0 : height // 2 - 7, height // 2 + 8 : height]

    def steady(share: float, among: NDArray[np.int64]) -> float:
        torn = _torn(stamps, among, round(share * height), rng)
        return _close(move(normalise_triplets(torn, spec)))

    units = stamps * np.float32(3.7) + np.float32(500)
    return {
        "stamps": len(stamps),
        "views": _close(np.max([move(view) for view in views], axis=0)),
        "edge_cut": _close(np.max([move(normalise_triplets(cut, spec)) for cut in _cuts(stamps)], axis=0)),
        "rows_lost": steady(0.15, rows),
        "outer_rows_lost": steady(0.15, outer),
        "fewer_rows_lost": {str(share): steady(share, rows) for share in (0.05, 0.1)},
        "units_largest_move": float(f"{move(normalise_triplets(units, spec)).max():.1e}"),
    }


def _cuts(stamps: Inputs) -> Iterator[Inputs]:
    """Yield the stamps with a quarter cut off at each edge in turn."""
    for turn in range(4):
        cut = stamps.copy()
        np.rot90(cut, turn, (2, 3))[..., : stamps.shape[3] // 4] = np.nan
        yield cut


def _torn(stamps: Inputs, rows: NDArray[np.int64], lost: int, rng: np.random.Generator) -> Inputs:
    """Return the stamps with ``lost`` of the rows that may be lost gone, others in each."""
    torn = stamps.copy()
    for triplet in torn:
        triplet[:, rng.choice(rows, lost, replace=False)] = np.nan
    return torn


def _close(moves: NDArray[np.float64]) -> float:
    return round(float((moves < CLOSE).mean()), 4)
