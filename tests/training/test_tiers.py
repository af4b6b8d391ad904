"""Labels of real alerts by tier, and objects that are never trained on."""

from __future__ import annotations

import numpy as np
import pytest

from space2vec.training.dataset import GROUPS
from space2vec.training.labelled import Labelled
from space2vec.training.tiers import is_held_out, label, objects, real_examples
from space2vec.workers.manifest import InputSpec


def alerts(survey: str, side: int, **columns: list[str]) -> Labelled:
    count = len(next(iter(columns.values())))
    triplets = np.random.default_rng(0).normal(0, 1, (count, 3, 63, 63)).astype(np.float32)
    triplets[:, :, side:] = np.nan
    triplets[:, :, :, side:] = np.nan
    return Labelled(survey, triplets, np.full((count, 2), side), columns)


@pytest.fixture
def ztf() -> Labelled:
    return alerts(
        "ztf", 63,
        objectId=[f"ZTF{number}" for number in range(40)],
        ssdistnr=["0.5", "60", "-999", ""] * 10,
        label_drb=["0.99", "0.02", "0.5", "0.97"] * 10,
    )  # fmt: skip


def test_asteroids_and_scores_are_kept_apart(ztf: Labelled) -> None:
    labels = label(ztf)
    assert labels.asteroid[:4].tolist() == [True, False, False, False]
    assert labels.target[:4].tolist() == pytest.approx([1, 0.02, 0.5, 0.97])
    assert labels.weight[:4].tolist() == pytest.approx([1, 0.576, 0, 0.564])


def test_rehearsals_teach_nothing() -> None:
    lsst = alerts(
        "lsst", 30,
        objectId=["1", "2", "0", "0"], ssObjectId=["0", "0", "7", "0"], diaSourceId=["11", "12", "13", "14"],
        has_ss=["False", "True", "True", "False"], reliability=["1.0", "1.0", "0.4", ""],
        epoch=["simulated / pre-survey", "simulated OR4", "LSSTCam on-sky", "LSSTCam on-sky"],
    )  # fmt: skip
    labels = label(lsst)
    assert labels.weight.tolist() == [0, 0, 1, 0]
    assert objects(lsst).tolist() == ["1", "2", "7", "14"]


def test_an_object_is_held_out_for_ever() -> None:
    names = np.array([f"ZTF{number}" for number in range(2000)])
    held = is_held_out(names)
    assert 0.36 < held.mean() < 0.44
    assert is_held_out(np.array(["ZTF18aaaaaaa", "ZTF18aaaaaab", "ZTF18aaaaaac"])).tolist() == [
        True,
        False,
        False,
    ]
    assert is_held_out(names[::-1])[::-1].tolist() == held.tolist()


def test_examples_are_of_objects_that_are_not_held_out(ztf: Labelled) -> None:
    labels = label(ztf)
    expected = int(((labels.weight > 0) & ~labels.held_out).sum())
    examples = real_examples(ztf, InputSpec(size=31), 3, np.random.default_rng(0))
    assert len(examples) == 3 * expected
    assert (examples.target != 0.5).all()
    real, bogus = examples.weight[examples.real].sum(), examples.weight[~examples.real].sum()
    assert real == pytest.approx(bogus, rel=1e-4)
    known = examples.group >= 0
    assert {GROUPS[group] for group in examples.group[known]} == {"asteroid"}
    copies = examples.inputs.reshape(3, expected, -1)
    assert not np.array_equal(copies[0], copies[1])  # accidents differ
