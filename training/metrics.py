"""How good scores are: area under the curve, missed detections, calibration."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.metrics import roc_auc_score, roc_curve

Logits = NDArray[np.float32]
Labels = NDArray[np.bool_]

OPERATING_FPR = 0.025
"""False-positive rate at which missed detections are quoted, after autoScan (Goldstein et al. 2015)."""


@dataclass(frozen=True, slots=True)
class Performance:
    """How well logits separate real from bogus.

    Attributes
    ----------
    real, bogus : int
        How many of each.
    auc, auc_low, auc_high : float
        Area under the ROC curve, with its 95 % bootstrap interval.
    mdr : float
        Fraction of the real ones missed at a false-positive rate of 2.5 %.
    ece : float
        Expected calibration error of the probabilities, 15 bins.
    """

    real: int
    bogus: int
    auc: float
    auc_low: float
    auc_high: float
    mdr: float
    ece: float

    def rounded(self) -> dict[str, float | int]:
        """As a dictionary for JSON, four decimals."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def performance(logit: Logits, real: Labels, *, resamples: int = 500, seed: int = 0) -> Performance:
    """Measure how well ``logit`` (N,) separates ``real`` (N,) from the rest.

    Raises
    ------
    ValueError
        Where one of the classes is empty.
    """
    if real.all() or not real.any():
        raise ValueError("performance needs candidates of both classes")
    low, high = auc_interval(logit, real, resamples, seed)
    rate, found, _ = roc_curve(real, logit)
    return Performance(
        real=int(real.sum()),
        bogus=int((~real).sum()),
        auc=float(roc_auc_score(real, logit)),
        auc_low=low,
        auc_high=high,
        mdr=float(1 - np.interp(OPERATING_FPR, rate, found)),
        ece=calibration_error(logit, real),
    )


def auc_interval(logit: Logits, real: Labels, resamples: int, seed: int) -> tuple[float, float]:
    """95 % interval of the area under the curve: both classes resampled with replacement."""
    rng = np.random.default_rng(seed)
    positive, negative = np.sort(logit[real]), np.sort(logit[~real])
    areas = np.empty(resamples)
    for i in range(resamples):
        p = np.sort(rng.choice(positive, len(positive)))
        n = rng.choice(negative, len(negative))
        wins = np.searchsorted(p, n, "left") + np.searchsorted(p, n, "right")
        areas[i] = 1 - wins.mean() / (2 * len(p))
    low, high = np.percentile(areas, [2.5, 97.5])
    return float(low), float(high)


def threshold_at(logit: Logits, real: Labels, rate: float = OPERATING_FPR) -> float:
    """Logit above which a fraction ``rate`` of the bogus candidates lies."""
    return float(np.quantile(logit[~real], 1 - rate))


def calibration_error(logit: Logits, real: Labels, bins: int = 15) -> float:
    """Expected calibration error (Naeini et al. 2015) over equal bins of probability."""
    probability = expit(logit.astype(np.float64))
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    gap = np.bincount(place, real - probability, bins)
    return float(np.abs(gap).sum() / len(real))


def fit_temperature(logit: Logits, real: Labels) -> float:
    """Temperature that makes ``logit / temperature`` most likely (Guo et al. 2017)."""
    sign = np.where(real, 1.0, -1.0)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, -sign * logit / np.exp(log_temperature)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-2.0, 2.0), method="bounded").x))
