"""From raw logits to published ones: temperature and operating points, from held-out candidates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from space2vec.training.metrics import OPERATING_FPR, fit_temperature

COMPLETE, PURE = 0.01, 0.005
"""Fraction of the real candidates that ``complete`` may lose, and of the bogus ones that ``pure`` may pass."""

Logits = NDArray[np.float32]
Labels = NDArray[np.bool_]


def calibrate(logit: Logits, real: Labels) -> tuple[float, dict[str, float]]:
    """Temperature, and thresholds on ``logit / temperature`` by name.

    Parameters
    ----------
    logit, real : (N,)
        Of held-out candidates of all surveys together.

    Notes
    -----
    ``complete`` keeps 99 % of the real candidates, ``balanced`` lets 2.5 % of the bogus ones pass, as autoScan did
    (Goldstein et al. 2015), ``pure`` 0.5 %.
    """
    temperature = fit_temperature(logit, real)
    scaled = logit / np.float32(temperature)
    points = {
        "complete": np.quantile(scaled[real], COMPLETE),
        "balanced": np.quantile(scaled[~real], 1 - OPERATING_FPR),
        "pure": np.quantile(scaled[~real], 1 - PURE),
    }
    return temperature, {name: round(float(point), 4) for name, point in points.items()}
