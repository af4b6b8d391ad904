"""What the network is measured against: classic learners on features made by hand, of the same candidates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

from space2vec.training.causes import Cause
from space2vec.training.features import measure
from space2vec.training.simulate import Candidates

Features = NDArray[np.float32]

CHUNK = 2000
"""Candidates measured at once, which bounds the memory."""

LEARNERS: dict[str, Callable[[int], RandomForestClassifier | HistGradientBoostingClassifier]] = {
    "random forest": lambda seed: RandomForestClassifier(
        100, criterion="entropy", random_state=seed, n_jobs=1
    ),
    "gradient boosting": lambda seed: HistGradientBoostingClassifier(max_iter=300, random_state=seed),
}
"""Learners by name: the forest is autoScan's (100 trees, entropy)."""


def features_of(candidates: Candidates) -> Features:
    """Features of candidates, ``(N, F)`` float32."""
    parts = [
        measure(candidates.take(slice(start, start + CHUNK)))[0] for start in range(0, len(candidates), CHUNK)
    ]
    return np.concatenate(parts)


def opinions(
    features: Features, candidates: Candidates, tested: Features, seeds: range
) -> dict[str, list[NDArray[np.float32]]]:
    """Scores of the tested rows by every learner, once per seed.

    Parameters
    ----------
    features : (N, F) float32
        Of ``candidates``, which are learnt from; glints are left out, as the network leaves them out.
    candidates : Candidates
        Tell which are real.
    tested : (M, F) float32
        What to score.
    seeds : range
        Seeds of the learners.

    Returns
    -------
    dict of str to list of (M,) float32
        Fraction of votes or probability of being real, by learner.
    """
    rows = candidates.cause != Cause.GLINT
    found: dict[str, list[NDArray[np.float32]]] = {}
    for name, make in LEARNERS.items():
        found[name] = []
        for seed in seeds:
            learner = make(seed).fit(features[rows], candidates.real[rows])
            found[name].append(learner.predict_proba(tested)[:, 1].astype(np.float32))
    return found
