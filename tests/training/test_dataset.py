"""Examples: accidents, crops, labels, and the preprocessing of serving."""

from __future__ import annotations

import numpy as np
import pytest

from space2vec.training.causes import Cause
from space2vec.training.dataset import GROUPS, STAMP_SIZES, Examples, befall, crop, join, prepare
from space2vec.training.events import KINDS
from space2vec.training.simulate import Candidates, generate
from space2vec.workers.manifest import InputSpec
from space2vec.workers.preprocess import normalise_triplets

SPEC = InputSpec(size=31)


@pytest.fixture(scope="module")
def candidates() -> Candidates:
    return generate("lsst", 250, 21, size=STAMP_SIZES["lsst"][1])


@pytest.fixture(scope="module")
def examples(candidates: Candidates) -> Examples:
    return prepare(candidates, SPEC, np.random.default_rng(0), accidents=False)


def test_groups_name_kinds_and_causes(candidates: Candidates, examples: Examples) -> None:
    for i in range(len(candidates)):
        real = bool(candidates.real[i])
        name = KINDS[candidates.kind[i]] if real else Cause(candidates.cause[i]).name.lower()
        assert GROUPS[examples.group[i]] == name


def test_glints_do_not_count(candidates: Candidates, examples: Examples) -> None:
    assert np.array_equal(examples.counted, candidates.cause != Cause.GLINT)


def test_the_source_is_positive_whatever_its_sign(candidates: Candidates, examples: Examples) -> None:
    clean = candidates.real & (candidates.snr > 15)
    assert (clean & candidates.negative).any()
    centre = examples.inputs[clean, 2, 14:17, 14:17].astype(np.float32).sum((1, 2))
    assert (centre > 0).all()


def test_inputs_are_what_serving_computes(candidates: Candidates) -> None:
    """A 30 px stamp prepared for training is the stamp that a worker would prepare, to half precision."""
    examples = prepare(candidates, SPEC, np.random.default_rng(0), accidents=False)
    small = crop(candidates.stamps, 30)
    small = np.where(
        (candidates.negative & ~candidates.flipped)[:, None, None, None],
        small * [[[1]], [[1]], [[-1]]],
        small,
    )
    served = normalise_triplets(small.astype(np.float32), SPEC)
    same = np.abs(served - examples.inputs).max((1, 2, 3)) < 5e-3
    assert 0.5 < same.mean() < 1  # three in five keep the survey's smallest stamp


@pytest.mark.parametrize("size", [30, 31, 50, 51])
def test_crops_keep_the_source_at_half_their_size(size: int) -> None:
    stamps = np.zeros((1, 3, 51, 51), np.float32)
    stamps[0, :, 25, 25] = 1
    assert crop(stamps, size)[0, 0, size // 2, size // 2] == 1


def test_accidents_befall_some_and_keep_the_others() -> None:
    stamps = np.random.default_rng(1).normal(size=(2000, 3, 63, 63)).astype(np.float32)
    before = stamps.copy()
    befall(stamps, np.random.default_rng(2))
    damaged = np.isnan(stamps).any((1, 2, 3))
    untouched = (stamps == before).all((1, 2, 3))
    assert 0.1 < damaged.mean() < 0.2
    assert 0.6 < untouched.mean() < 0.8
    assert np.isfinite(stamps[:, :, 31, 31]).mean() > 0.97


def test_digest_tells_sets_apart(candidates: Candidates, examples: Examples) -> None:
    again = prepare(candidates, SPEC, np.random.default_rng(0), accidents=False)
    other = prepare(candidates, SPEC, np.random.default_rng(1), accidents=True)
    assert again.digest() == examples.digest() != other.digest()
    assert len(join([again, other])) == len(again) + len(other)
