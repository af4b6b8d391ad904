"""Scores cut apart and put together again."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from space2vec.workers.manifest import Architecture, Calibration, InputSpec, Manifest, Outputs
from space2vec.workers.scores import Scores, calibrated, joined, uncalibrated


def made(spread: bool) -> Scores:
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(9, 7)).astype(np.float32)
    return Scores(drawn[:, 0], drawn[:, 1:4], drawn[:, 4:6], np.abs(drawn[:, 6]) if spread else None)


def same(one: Scores, other: Scores) -> bool:
    columns = [(getattr(one, name), getattr(other, name)) for name in Scores.__slots__]
    return all(np.array_equal(a, b) if a is not None else b is None for a, b in columns)


@pytest.mark.parametrize("spread", [True, False])
@pytest.mark.parametrize("cuts", [[0, 9], [0, 4, 9], [0, 0, 1, 8, 9]])
def test_parts_joined_are_the_whole(spread: bool, cuts: list[int]) -> None:
    whole = made(spread)
    parts = [whole.slice(start, stop) for start, stop in pairwise(cuts)]
    assert [len(part) for part in parts] == np.diff(cuts).tolist()
    assert same(joined(parts), whole)
    assert not same(joined(parts[::-1]), whole) or len(parts) == 1


@pytest.mark.parametrize("spread", [True, False])
def test_temperature_divides_logit_and_spread_and_comes_off_again(spread: bool) -> None:
    manifest = Manifest(
        name="made", version="1", architecture=Architecture(kind="graph"), input=InputSpec(size=31),
        outputs=Outputs(embedding=3, kinds=("sn",), causes=("noise",), spread=spread),
        calibration=Calibration(temperature=0.25),
    )  # fmt: skip
    raw = made(spread)
    returned = [raw.logit, raw.embedding, raw.groups, *([] if raw.spread is None else [raw.spread])]
    scores = calibrated(returned, manifest)
    assert np.array_equal(scores.logit, raw.logit * 4)
    assert (scores.groups == 1).all()  # one kind and one cause: each is certain of itself
    assert (scores.spread is not None) == spread
    if raw.spread is not None:
        assert np.array_equal(scores.spread, raw.spread * 4)
    told = uncalibrated(scores, manifest)
    assert list(told) == manifest.outputs.names
    assert np.array_equal(told["logit"], raw.logit)
