"""Embeddings as an astronomer uses them: what is near what, and a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 10
ROWS = 1024
"""Rows compared at once, which bounds the memory."""

Vectors = NDArray[np.float32]


def neighbours_alike(embedding: Vectors, group: NDArray[np.int64]) -> NDArray[np.float64]:
    """Fraction of each row's ten nearest others, by the cosine, that are of its group, ``(N,)`` float64.

    Parameters
    ----------
    embedding : (N, D) float32
        More than ten rows.
    group : (N,) int64
        What each row is.
    """
    unit = embedding / np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), 1e-12)
    found = np.empty(len(unit))
    for start in range(0, len(unit), ROWS):
        likeness = unit[start : start + ROWS] @ unit.T
        rows = np.arange(len(likeness))
        likeness[rows, start + rows] = -np.inf
        nearest = np.argpartition(-likeness, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        found[start : start + ROWS] = (group[nearest] == group[start : start + ROWS, None]).mean(axis=1)
    return found


def plane(embedding: Vectors) -> NDArray[np.float64]:
    """Project embeddings on their two principal components, ``(N, 2)`` float64."""
    centred = embedding.astype(np.float64) - embedding.mean(axis=0)
    _, _, axes = np.linalg.svd(centred.T @ centred)
    return np.asarray(centred @ axes[:2].T)
