"""Features made by hand, the learners that use them, and neighbours in the embedding."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from space2vec.training.features import measure
from space2vec.training.retrieval import neighbours_alike, plane
from space2vec.training.simulate import Candidates, generate


@pytest.fixture(scope="module")
def candidates() -> Candidates:
    return generate("ztf", 200, 12)


def test_a_number_for_everything(candidates: Candidates) -> None:
    features, names = measure(candidates)
    assert features.shape == (len(candidates), len(names))
    assert len(names) == len(set(names)) >= 36
    assert np.isfinite(features).all()


def test_features_tell_real_from_bogus(candidates: Candidates) -> None:
    features, names = measure(candidates)
    likeness = features[:, names.index("gauss_likeness")]
    assert roc_auc_score(candidates.real, likeness) > 0.75


def test_neighbours_are_others_and_of_the_group() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], 30)
    vectors = np.where(group[:, None] == 0, [5.0, 0.1], [0.1, 5.0]) + rng.normal(0, 0.1, (60, 2))
    assert (neighbours_alike(vectors.astype(np.float32), group) == 1).all()
    alone = np.concatenate([group[:59], [2]])
    assert neighbours_alike(vectors.astype(np.float32), alone)[59] == 0


def test_the_plane_has_the_widest_directions() -> None:
    rng = np.random.default_rng(1)
    vectors = (rng.normal(size=(500, 4)) * [0.1, 3, 0.2, 1]).astype(np.float32)
    spread = plane(vectors).std(axis=0)
    assert spread[0] == pytest.approx(3, rel=0.1)
    assert spread[1] == pytest.approx(1, rel=0.1)
