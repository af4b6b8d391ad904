"""Figures of merit against cases worked by hand or by construction."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from space2vec.training.metrics import (
    auc_interval,
    calibration_error,
    fit_temperature,
    performance,
    threshold_at,
)


def test_performance_of_known_scores() -> None:
    logit = np.array([3, 2, 1, 0, -1, -2], np.float32)
    real = np.array([True, True, False, True, False, False])
    found = performance(logit, real)
    assert (found.real, found.bogus) == (3, 3)
    assert found.auc == pytest.approx(8 / 9)


def test_missed_detections_at_the_operating_point() -> None:
    bogus = np.linspace(-1, 1, 1001)
    real = np.concatenate([np.full(30, 0.5), np.full(70, 2.0)])
    found = performance(
        np.concatenate([bogus, real]).astype(np.float32), np.repeat([False, True], [1001, 100])
    )
    assert found.mdr == pytest.approx(0.3, abs=0.01)


def test_interval_holds_the_truth_and_narrows() -> None:
    rng = np.random.default_rng(0)

    def interval(n: int) -> tuple[float, float]:
        logit = np.concatenate([rng.normal(1, 1, n), rng.normal(-1, 1, n)]).astype(np.float32)
        return auc_interval(logit, np.repeat([True, False], n), 300, 1)

    low, high = interval(2000)
    truth = 0.9214  # Phi(2 / sqrt(2))
    assert low < truth < high
    wide = interval(50)
    assert wide[1] - wide[0] > 3 * (high - low)


def test_temperature_of_overconfident_logits_is_found() -> None:
    rng = np.random.default_rng(1)
    honest = rng.normal(0, 2, 20_000)
    real = rng.random(20_000) < expit(honest)
    logit = (3 * honest).astype(np.float32)
    assert fit_temperature(logit, real) == pytest.approx(3, rel=0.05)
    assert calibration_error(logit, real) > 0.05
    assert calibration_error(logit / np.float32(3), real) < 0.02


def test_threshold_lets_that_many_through() -> None:
    logit = np.random.default_rng(2).normal(size=4000).astype(np.float32)
    real = np.zeros(4000, bool)
    assert (logit > threshold_at(logit, real, 0.05)).mean() == pytest.approx(0.05, abs=0.001)


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="both classes"):
        performance(np.zeros(3, np.float32), np.ones(3, bool))
