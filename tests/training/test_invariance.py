"""Invariances are measured as they are: on scores that move, and on scores that do not."""

from __future__ import annotations

import numpy as np

from space2vec.training.invariance import invariances
from space2vec.workers.manifest import InputSpec

SPEC = InputSpec(size=31)
STAMPS = np.random.default_rng(0).normal(size=(40, 3, 63, 63)).astype(np.float32)


def test_a_score_of_the_centre_alone_never_moves() -> None:
    found = invariances(lambda x: x[:, 2, 15, 15], SPEC, STAMPS * np.float32(1.0))
    assert found["stamps"] == 40
    assert found["views"] == 1
    assert found["edge_cut"] > 0.5  # type: ignore[operator]
    assert found["units_largest_move"] < 1e-3  # type: ignore[operator]


def test_a_score_of_one_side_moves_with_the_view_and_the_cut() -> None:
    found = invariances(lambda x: 10 * x[:, 2, 15, 25:].mean(1), SPEC, STAMPS)
    assert found["views"] < 0.3  # type: ignore[operator]


def test_a_score_that_counts_rows_moves_when_they_are_lost() -> None:
    found = invariances(lambda x: (x[:, 2] == 0).sum((1, 2)).astype(np.float32) - 1, SPEC, STAMPS)
    assert found["rows_lost"] < 0.3  # type: ignore[operator]


def test_the_fewer_rows_are_lost_the_fewer_scores_move() -> None:
    found = invariances(lambda x: 40 * x[:, 2, 10:21, 10:21].mean((1, 2)), SPEC, STAMPS)
    fewer = found["fewer_rows_lost"]
    assert 1 > fewer["0.05"] > fewer["0.1"] > found["rows_lost"]  # type: ignore[index, call-overload, operator]
