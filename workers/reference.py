"""What is counted of every scored alert, and the counts of a bundle's own alerts that later ones are held against.

Whoever trains a bundle gives it a reference per survey by :func:`reference_of`; the service counts the same by the same
code, and :mod:`space2vec.workers.drift` says how far apart the two are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from space2vec.workers.manifest import Counted, InputSpec
from space2vec.workers.quality import Flag

BINS: Final = 10

_FLAGS: Final = {flag: number for number, flag in enumerate(Flag, 1)}


def statistics(
    stamps: NDArray[np.float32],
    spec: InputSpec,
    probability: NDArray[np.float64],
    flags: Sequence[tuple[Flag, ...]],
) -> dict[str, NDArray[np.float64]]:
    """Give the numbers that are watched, by name, one per alert.

    Parameters
    ----------
    stamps : (N, P, S, S) float32
        Network inputs.
    spec : InputSpec
        Names their planes.
    probability : (N,) float64
        Scores of them.
    flags : sequence of tuple of Flag
        Quality flags of them.

    Returns
    -------
    dict of str to (N,) float64
        ``score``; ``flags``, the number of the first flag in the order of :class:`Flag`, 0 for none; and per plane
        ``centre_PLANE``, the value at the source, and ``spread_PLANE``, the root of the mean square.
    """
    found = {
        "score": probability,
        "flags": np.array([_FLAGS[each[0]] if each else 0 for each in flags], np.float64),
    }
    middle = spec.size // 2
    planes = stamps.reshape(len(stamps), len(spec.planes), -1)
    spread = np.sqrt(np.vecdot(planes, planes) / (spec.size * spec.size))
    for number, plane in enumerate(spec.planes):
        found[f"centre_{plane}"] = stamps[:, number, middle, middle].astype(np.float64)
        found[f"spread_{plane}"] = spread[:, number].astype(np.float64)
    return found


def reference_of(
    stamps: NDArray[np.float32],
    spec: InputSpec,
    probability: NDArray[np.float64],
    flags: Sequence[tuple[Flag, ...]],
) -> dict[str, Counted]:
    """Count alerts of one survey as its entry in a manifest's ``reference``.

    Take alerts as the service gets them, some thousands or more, artefacts and all: not a training set that
    was balanced. Bins are the sample's tenths; fewer where values are equal.

    Parameters
    ----------
    stamps, spec, probability, flags
        As :func:`statistics` has them.

    Raises
    ------
    ValueError
        If there is no alert.
    """
    if not len(stamps):
        raise ValueError("a reference needs alerts")
    counted = {}
    for name, values in statistics(stamps, spec, probability, flags).items():
        if name == "flags":
            bounds = np.arange(len(Flag)) + 0.5
        else:
            bounds = np.unique(np.quantile(values, np.arange(1, BINS) / BINS, method="inverted_cdf"))
        counted[name] = Counted(bounds=tuple(bounds.tolist()), counts=tuple(count(values, bounds).tolist()))
    return counted


def count(values: NDArray[np.float64], bounds: NDArray[Any] | Sequence[float]) -> NDArray[np.int64]:
    """Values per bin, ``(len(bounds) + 1,)``; a value equal to a bound is below it."""
    return np.bincount(np.searchsorted(bounds, values), minlength=len(bounds) + 1)
