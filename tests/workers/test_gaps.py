"""Short gaps are interpolated along the shorter way, alike in every view; what cannot be stays a gap."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from space2vec.workers.gaps import REACH, close_gaps
from space2vec.workers.manifest import InputSpec
from space2vec.workers.preprocess import normalise_triplets

Planes = NDArray[np.float32]
SPEC = InputSpec(size=31, missing_pixel="interpolated")


def ramp() -> Planes:
    """One plane whose value is row + 100 column: interpolation along either axis gives it back."""
    rows, columns = np.mgrid[:15, :15]
    return (rows + 100.0 * columns).astype(np.float32)[None]


@pytest.mark.parametrize("width", range(1, REACH + 1))
def test_lost_rows_and_columns_come_back(width: int) -> None:
    for axis in (1, 2):
        planes = ramp()
        np.moveaxis(planes, axis, 0)[4 : 4 + width] = np.nan
        close_gaps(planes)
        np.testing.assert_allclose(planes, ramp(), rtol=1e-6)


def test_wide_gaps_and_edges_stay() -> None:
    planes = ramp()
    planes[0, 4 : 4 + REACH + 1] = np.nan
    planes[0, :2] = np.nan
    planes[0, :, 13:] = np.nan
    lost = np.isnan(planes)
    close_gaps(planes)
    assert np.array_equal(np.isnan(planes), lost)


def test_the_shorter_gap_decides_and_equal_ones_share() -> None:
    planes = np.zeros((1, 9, 9), np.float32)
    planes[0, 4, 3:6] = np.nan
    planes[0, 4, 2], planes[0, 3, 3:6], planes[0, 5, 3:6] = 8.0, 1.0, 3.0
    close_gaps(planes)
    assert planes[0, 4, 3:6].tolist() == [2.0, 2.0, 2.0]
    planes[0, 4, 4], planes[0, 4, 3], planes[0, 4, 5] = np.nan, 10.0, 20.0
    close_gaps(planes)
    assert planes[0, 4, 4] == (15.0 + 2.0) / 2


def test_without_a_gap_nothing_changes() -> None:
    planes = ramp()
    close_gaps(planes)
    assert np.array_equal(planes, ramp())


@pytest.fixture
def torn(make_triplets: Callable[..., Planes]) -> Planes:
    stamps = make_triplets(12, seed=3)
    rng = np.random.default_rng(1)
    stamps[rng.random(stamps.shape) < 0.05] = np.nan
    for triplet in stamps[:6]:
        triplet[:, rng.choice(63, 9, replace=False)] = np.nan
    stamps[8, 1] = np.nan
    stamps[9, :, :, 40:] = np.nan
    return stamps


def test_commutes_with_turning_and_mirroring_to_the_bit(torn: Planes) -> None:
    upright = normalise_triplets(torn, SPEC)
    for turns in range(4):
        assert np.array_equal(
            normalise_triplets(np.rot90(torn, turns, (2, 3)), SPEC), np.rot90(upright, turns, (2, 3))
        )
    assert np.array_equal(normalise_triplets(torn[..., ::-1], SPEC), upright[..., ::-1])


def test_same_alone_or_in_a_batch_to_the_bit(torn: Planes) -> None:
    together = normalise_triplets(torn, SPEC)
    assert np.isfinite(together).all()
    for row in range(len(torn)):
        assert np.array_equal(together[row : row + 1], normalise_triplets(torn[row : row + 1], SPEC))


def test_the_older_rule_is_as_it_was_and_differs_at_lost_pixels_only(torn: Planes) -> None:
    old, new = normalise_triplets(torn, InputSpec(size=31)), normalise_triplets(torn, SPEC)
    lost = np.isnan(torn[:, :, 16:47, 16:47])
    assert (old[lost] == 0).all()
    assert (new[lost] != 0).mean() > 0.5
    assert np.array_equal(old[~lost], new[~lost])


def by_definition(plane: Planes) -> Planes:
    """What the docstring of `close_gaps` says, pixel by pixel."""
    closed = plane.copy()
    for row, column in np.argwhere(np.isnan(plane)):
        ways = [_across(plane[row], column), _across(plane[:, column], row)]
        shortest = min(gap for gap, _ in ways)
        values = [value for gap, value in ways if gap == shortest]
        if shortest <= REACH:
            closed[row, column] = sum(values) * np.float32(1 / len(values))
    return closed


def _across(line: Planes, at: int) -> tuple[float, np.float32]:
    before, after = (np.flatnonzero(~np.isnan(part)) for part in (line[:at], line[at:]))
    if not len(before) or not len(after):
        return np.inf, np.float32(np.nan)
    low, high = at - before[-1], after[0]
    value = (float(line[at - low]) * high + float(line[at + high]) * low) / (low + high)
    return low + high - 1, np.float32(value)


@settings(max_examples=200)
@given(
    st.integers(1, 20), st.integers(1, 20), st.sampled_from([0.02, 0.2, 0.5, 0.9]), st.integers(0, 1 << 32)
)
def test_is_what_it_says(height: int, width: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    planes = rng.normal(size=(3, height, width)).astype(np.float32)
    planes[rng.random(planes.shape) < share] = np.nan
    planes[:, rng.random(height) < 0.2] = np.nan
    expected = np.stack([by_definition(plane) for plane in planes])
    turned = np.asfortranarray(planes)
    for given_planes in (planes, turned):
        close_gaps(given_planes)
        np.testing.assert_array_equal(given_planes, expected)
