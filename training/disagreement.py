"""Whether an ensemble is wrong more often where its members disagree, scores being equal."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

BLOCK = 20
"""Alerts next to each other in score that are compared among themselves."""

EDGES = (0.0, 1.0, 2.0, 3.0, np.inf)
"""Bins of the log-odds' magnitude: how sure the ensemble is, probabilities of 0.5, 0.73, 0.88, 0.95 and 1."""


def by_spread(
    logit: NDArray[np.float32], spread: NDArray[np.float32], real: NDArray[np.bool_]
) -> dict[str, JsonValue]:
    """Count what is on the wrong side of 0.5, where members agree and where they do not.

    Spread and score go together, so alerts are put in order of their score and cut into blocks; the half of each block
    that has the smaller spread is ``agreed``, the other ``disagreed``. Both thus have the same scores.

    Parameters
    ----------
    logit, spread : (N,) float32
        Of the ensemble, calibrated.
    real : (N,) bool
        The truth, or what stands for it.

    Returns
    -------
    dict
        By bin of the log-odds' magnitude, of either half: how many, how many are wrong, and their median spread.
    """
    order = np.argsort(logit, kind="stable")
    blocks = order[: len(order) // BLOCK * BLOCK].reshape(-1, BLOCK)
    ranked = np.take_along_axis(blocks, np.argsort(spread[blocks], axis=1, kind="stable"), axis=1)
    halves = {"agreed": ranked[:, : BLOCK // 2].ravel(), "disagreed": ranked[:, BLOCK // 2 :].ravel()}
    sure, wrong = np.abs(logit), (logit > 0) != real
    found: dict[str, JsonValue] = {}
    for low, high in pairwise(EDGES):
        chosen = {name: half[(sure[half] >= low) & (sure[half] < high)] for name, half in halves.items()}
        if all(len(rows) for rows in chosen.values()):
            found[f"{low:g} to {high:g}"] = {
                name: {
                    "count": len(rows),
                    "wrong": int(wrong[rows].sum()),
                    "spread": round(float(np.median(spread[rows])), 3),
                }
                for name, rows in chosen.items()
            }
    return found
