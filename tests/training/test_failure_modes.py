"""The shipped bundle does not fail as Rubin's first classifiers did (DMTN-337, 2026), on simulated sky it never saw."""

from __future__ import annotations

import numpy as np
import pytest

from space2vec.training.dataset import GROUPS
from space2vec.training.invariance import invariances
from space2vec.training.on_simulated import Judged, judge, score_all
from space2vec.workers.backends import open_backend
from space2vec.workers.bundle import load_bundle
from space2vec.workers.preprocess import normalise_triplets
from space2vec.workers.scores import Scores

BUNDLE = load_bundle("core")
BALANCED = BUNDLE.manifest.operating_points["balanced"]


@pytest.fixture(scope="module", params=["ztf", "lsst"])
def judged(request: pytest.FixtureRequest) -> Judged:
    return judge(open_backend(BUNDLE, "cpu"), BUNDLE.manifest, request.param, 700, seed=97)


def kept(judged: Judged, chosen: np.ndarray) -> float:
    """Fraction of the chosen that pass the balanced point; there must be enough of them to tell."""
    assert chosen.sum() >= 20
    return float((judged.scores.logit[chosen] >= BALANCED).mean())


def turned(judged: Judged) -> np.ndarray:
    """Stamps of the candidates, the source positive in every difference."""
    stamps = judged.candidates.stamps.copy()
    stamps[judged.candidates.negative & ~judged.candidates.flipped, 2] *= -1
    return stamps


def torn(judged: Judged) -> Scores:
    """Scores of the same candidates with five neighbouring columns lost, from 3 px beside the source on."""
    stamps = turned(judged)
    middle = stamps.shape[-1] // 2
    stamps[..., middle + 3 : middle + 8] = np.nan
    return score_all(open_backend(BUNDLE, "cpu"), normalise_triplets(stamps, BUNDLE.manifest.input))


def test_lost_columns_make_no_spike_of_undecided_scores(judged: Judged) -> None:
    def undecided(scores: Scores) -> float:
        return float(((scores.probability > 0.3) & (scores.probability < 0.5)).mean())

    assert undecided(torn(judged)) < undecided(judged.scores) + 0.05


def test_rows_lost_anywhere_move_few_scores(judged: Judged) -> None:
    stamps, backend = turned(judged), open_backend(BUNDLE, "cpu")
    whole = stamps[np.isfinite(stamps).all((1, 2, 3))][:250]
    assert len(whole) == 250
    steady = invariances(lambda inputs: score_all(backend, inputs).logit, BUNDLE.manifest.input, whole)
    assert steady["rows_lost"] > 0.8  # type: ignore[operator]


def test_negative_sources_are_kept_like_positive_ones(judged: Judged) -> None:
    bright = judged.examples.real & (judged.candidates.snr > 8)
    negative = judged.candidates.negative
    assert kept(judged, bright & negative) > kept(judged, bright & ~negative) - 0.1


def test_variable_stars_are_kept(judged: Judged) -> None:
    assert kept(judged, judged.examples.group == GROUPS.index("variable")) > 0.85


def test_faint_real_sources_are_not_called_bogus_for_being_faint(judged: Judged) -> None:
    faint = judged.candidates.snr < 6
    assert kept(judged, judged.examples.real & faint) > 0.7
    assert kept(judged, ~judged.examples.real & faint & judged.examples.counted) < 0.2
