"""The sample sheet shows what is there."""

from __future__ import annotations

import numpy as np

from space2vec.training.sheet import CELL, draw, grey
from space2vec.training.simulate import simulate_field


def test_grey_shows_a_source_and_leaves_missing_pixels_mid_grey() -> None:
    plane = np.random.default_rng(0).normal(100, 1, (31, 31)).astype(np.float32)
    plane[15, 15] += 50
    plane[:, :5] = np.nan
    science = grey(plane, signed=False)
    assert science[15, 15] == science.max() == 255
    assert (science[:, :5] == 127).all()


def test_grey_of_a_difference_tells_signs_apart() -> None:
    plane = np.random.default_rng(0).normal(0, 1, (31, 31)).astype(np.float32)
    plane[10, 10], plane[20, 20] = 50, -50
    shown = grey(plane, signed=True)
    assert shown[10, 10] > 200
    assert shown[20, 20] < 55
    assert abs(int(np.median(shown)) - 127) < 10


def test_grey_of_nothing_is_grey() -> None:
    assert (grey(np.full((5, 5), np.nan, np.float32), signed=True) == 128).all()


def test_sheet_has_a_row_per_kind_and_cause() -> None:
    candidates = simulate_field("lsst", 1, 0, 30)
    rows = len({(int(k), int(c)) for k, c in zip(candidates.kind, candidates.cause, strict=True)})
    assert draw(candidates).height == rows * (CELL + 14)
