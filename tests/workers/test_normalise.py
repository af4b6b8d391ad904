from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from space2vec.workers import normalise
from space2vec.workers.backends import OnnxBackend
from space2vec.workers.bundle import Bundle
from space2vec.workers.manifest import InputSpec, Normalisation
from space2vec.workers.normalise import window
from space2vec.workers.preprocess import normalise_triplets

Stamps = NDArray[np.float32]
SPEC = InputSpec(size=31)


def textbook(stamps: Stamps, rule: Normalisation) -> NDArray[np.float64]:
    """The definition, in float64 and without tricks, over whole stamps."""
    out = np.zeros(stamps.shape)
    for index in np.ndindex(stamps.shape[:2]):
        plane = stamps[index].astype(np.float64)
        finite = plane[np.isfinite(plane)]
        if not finite.size:
            continue
        median = np.median(finite)
        noise = 1.4826 * np.median(np.abs(finite - median))
        scaled = (plane - median) / max(noise, np.finfo(np.float32).tiny) / rule.softening
        out[index] = np.where(np.isfinite(plane), np.clip(np.arcsinh(scaled), -rule.clip, rule.clip), 0.0)
    return out


def centre(stamps: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """The definition of the canvas, pixel by pixel."""
    out = np.zeros((*stamps.shape[:2], size, size))
    height, width = stamps.shape[2:]
    for row, col in np.ndindex(size, size):
        r, c = row - size // 2 + height // 2, col - size // 2 + width // 2
        if 0 <= r < height and 0 <= c < width:
            out[..., row, col] = stamps[..., r, c]
    return out


@pytest.mark.parametrize("shape", [(63, 63), (30, 30), (31, 31), (62, 41), (20, 20), (93, 93), (1, 5)])
@pytest.mark.parametrize("size", [31, 32])
def test_is_what_the_definition_says(shape: tuple[int, int], size: int) -> None:
    rng = np.random.default_rng(3)
    stamps = rng.standard_t(2, (9, 3, *shape)).astype(np.float32) * 40
    stamps[rng.random(stamps.shape) < 0.1] = np.nan
    stamps[:3] = np.nan_to_num(stamps[:3])
    stamps[5, 1] = np.nan
    stamps[6, 2] = 4.0
    rule = Normalisation(softening=2.0, clip=5.0)
    found = normalise_triplets(stamps, InputSpec(size=size, normalisation=rule))
    assert found.shape == (9, 3, size, size)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, centre(textbook(stamps, rule), size), rtol=0, atol=2e-6)


@pytest.mark.parametrize("way", [np.arcsinh, normalise._arcsinh_by_log])
def test_either_arcsinh_is_the_same_alone_or_in_a_batch(
    way: Callable[..., object], monkeypatch: pytest.MonkeyPatch, make_triplets: Callable[..., Stamps]
) -> None:
    monkeypatch.setattr(normalise, "_arcsinh", way)
    stamps = make_triplets(20)
    stamps[7, 0, :9] = np.nan
    found = normalise_triplets(stamps, SPEC)
    rule = SPEC.normalisation
    np.testing.assert_allclose(found, centre(textbook(stamps, rule), SPEC.size), rtol=0, atol=4e-6)
    for row in (0, 7, 19):
        assert np.array_equal(found[row : row + 1], normalise_triplets(stamps[row : row + 1], SPEC))


def test_leaves_its_input_alone(make_triplets: Callable[..., Stamps]) -> None:
    stamps = make_triplets(3)
    kept = stamps.copy()
    normalise_triplets(stamps, SPEC)
    assert np.array_equal(stamps, kept)


def test_same_alone_or_in_a_batch_to_the_bit(make_triplets: Callable[..., Stamps]) -> None:
    stamps = make_triplets(40)
    stamps[7, 0, :9] = np.nan
    together = normalise_triplets(stamps, SPEC)
    for row in (0, 7, 39):
        assert np.array_equal(together[row : row + 1], normalise_triplets(stamps[row : row + 1], SPEC))


@given(
    arrays(
        np.float32, st.tuples(st.just(1), st.just(3), st.integers(1, 12), st.integers(1, 12)),
        elements=st.floats(width=32),
    )
)  # fmt: skip
def test_never_gives_anything_but_numbers_within_the_clip(stamps: Stamps) -> None:
    found = normalise_triplets(stamps, InputSpec(size=8))
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 8.0


@pytest.mark.parametrize(
    ("gain", "pedestal"), [(3.7, 500.0), (1e-9, 0.0), (1e9, 0.0), (0.2, -3000.0), (1.0, 20000.0)]
)
def test_pedestal_and_unit_do_not_reach_the_score(
    gain: float, pedestal: float, made_bundle: Bundle, make_triplets: Callable[..., Stamps]
) -> None:
    stamps = make_triplets(64, seed=2)
    stamps[::4, :, :5] = np.nan
    moved = (stamps.astype(np.float64) * gain + pedestal).astype(np.float32)
    backend = OnnxBackend(made_bundle)
    spec = made_bundle.manifest.input
    here, there = (backend.score(normalise_triplets(each, spec)).probability for each in (stamps, moved))
    np.testing.assert_allclose(there, here, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [31, 63, 81])
def test_turning_and_mirroring_commute_with_it(size: int, make_triplets: Callable[..., Stamps]) -> None:
    stamps = make_triplets(4)
    stamps[1, :, :20, :7] = np.nan
    spec = InputSpec(size=size)
    upright = normalise_triplets(stamps, spec)
    for turns in range(4):
        assert np.array_equal(
            normalise_triplets(np.rot90(stamps, turns, (2, 3)), spec), np.rot90(upright, turns, (2, 3))
        )
    assert np.array_equal(normalise_triplets(stamps[..., ::-1], spec), upright[..., ::-1])


@pytest.mark.parametrize(
    "sentinel", [-np.finfo(np.float32).max, np.finfo(np.float32).max, -1e30, np.inf, -np.inf]
)
def test_sentinels_are_no_pixels(sentinel: float, make_triplets: Callable[..., Stamps]) -> None:
    """ZTF's templates hold the lowest float32 where they have no value."""
    stamps = make_triplets(3)
    without = stamps.copy()
    stamps[1, 1, :25], without[1, 1, :25] = sentinel, np.nan
    stamps[2, 1, 3, 3:5], without[2, 1, 3, 3:5] = (sentinel, -sentinel), np.nan
    assert np.array_equal(normalise_triplets(stamps, SPEC), normalise_triplets(without, SPEC))


def test_negation_negates(make_triplets: Callable[..., Stamps]) -> None:
    stamps = make_triplets(4)[..., :62]
    assert np.array_equal(normalise_triplets(-stamps, SPEC), -normalise_triplets(stamps, SPEC))


def test_a_few_nan_move_nothing_else_far(make_triplets: Callable[..., Stamps]) -> None:
    stamps = make_triplets(8)
    holed = stamps.copy()
    holed[:, :, :, 40] = np.nan
    whole, found = (
        normalise_triplets(stamps, InputSpec(size=63)),
        normalise_triplets(holed, InputSpec(size=63)),
    )
    assert not found[..., 40].any()
    assert np.abs(np.delete(found - whole, 40, axis=3)).max() < 0.05


@given(st.data(), st.integers(1, 40), st.integers(8, 40))
def test_window_brings_the_source_to_the_middle(data: st.DataObject, length: int, size: int) -> None:
    at = data.draw(st.integers(0, length - 1))
    lay = window((length, 9), (at, 4), size)
    stamp, canvas = np.arange(length)[lay.stamp[0]], np.arange(size)[lay.canvas[0]]
    assert at in stamp
    assert np.array_equal(stamp - at, canvas - size // 2)
    overlap = set(range(-at, length - at)) & set(range(-(size // 2), size - size // 2))
    assert len(stamp) == len(overlap)
