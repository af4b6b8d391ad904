"""How a bundle fares on labelled real alerts; those of objects it was not trained on stand apart."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from space2vec.training.disagreement import by_spread
from space2vec.training.invariance import invariances
from space2vec.training.labelled import Labelled
from space2vec.training.metrics import performance
from space2vec.training.on_simulated import Found, Logits, score_all
from space2vec.training.tiers import label
from space2vec.workers.backends import Backend
from space2vec.workers.manifest import Manifest

UNTOUCHED = 1200
"""How many real stamps without missing pixels to try invariances on."""


def logits(backend: Backend, inputs: NDArray[np.float32]) -> Logits:
    """Calibrated logits of network inputs, ``(N,)`` float32."""
    return score_all(backend, inputs).logit


def on_ztf(backend: Backend, manifest: Manifest, labelled: Labelled) -> Found:
    """Agreement with ``drb`` on real ZTF alerts, beside ZTF's own random forest; recall of asteroids.

    The labels are another network's scores, so this is agreement and not truth. Known asteroids
    (within 2 arcsec) are the one label here that no classifier made. Also how steady scores are.
    """
    spec = manifest.input
    told = score_all(backend, labelled.inputs(spec))
    logit = told.logit
    score, forest = labelled.numbers("label_drb"), labelled.numbers("rb")
    labels = label(labelled)
    sure = (score > 0.9) | (score < 0.1)
    moving = labels.asteroid | (score < 0.1)
    sources = labelled.text("label_source")
    found: Found = {}
    for name, part in (("held out", labels.held_out), ("all", np.ones(len(logit), bool))):
        compared = part & sure & np.isfinite(forest)
        found[f"{name}: drb > 0.9 against < 0.1"] = measured(logit[part & sure], score[part & sure] > 0.5)
        found[f"{name}: the same, ZTF's rb instead"] = measured(
            forest[compared].astype(np.float32), score[compared] > 0.5
        )
        found[f"{name}: known asteroids against drb < 0.1"] = measured(
            logit[part & moving], labels.asteroid[part & moving]
        )
        for source in np.unique(sources):
            chosen = part & sure & (sources == source)
            found[f"{name}: labels from: {source}"] = measured(logit[chosen], score[chosen] > 0.5)
    found["points, held out"] = {
        point: {
            "drb > 0.9": round(float((logit >= least)[labels.held_out & (score > 0.9)].mean()), 4),
            "drb < 0.1": round(float((logit >= least)[labels.held_out & (score < 0.1)].mean()), 4),
        }
        for point, least in manifest.operating_points.items()
    }
    if told.spread is not None:
        part = labels.held_out & sure
        found["disagreement, held out: drb > 0.9 against < 0.1"] = by_spread(
            logit[part], told.spread[part], score[part] > 0.5
        )
    whole = np.isfinite(labelled.triplets).all((1, 2, 3))
    for which, part in (("", labels.held_out), (" and drb > 0.9", labels.held_out & (score > 0.9))):
        rows = np.flatnonzero(whole & part)[:UNTOUCHED]
        found[f"invariance, held out{which}"] = invariances(
            partial(logits, backend), spec, labelled.triplets[rows]
        )
    return found


def on_lsst(backend: Backend, manifest: Manifest, labelled: Labelled) -> Found:
    """Agreement with ``reliability`` on real LSST packets, by epoch; few, and not truth either."""
    logit = logits(backend, labelled.inputs(manifest.input))
    score, epoch = labelled.numbers("reliability"), labelled.text("epoch")
    held_out = label(labelled).held_out
    sure = (score > 0.9) | (score < 0.3)
    found: Found = {}
    for name in np.unique(epoch):
        for told, part in (("held out", held_out), ("all", np.ones(len(logit), bool))):
            chosen = part & sure & (epoch == name)
            found[f"{told}: {name}, reliability > 0.9 against < 0.3"] = measured(
                logit[chosen], score[chosen] > 0.5
            )
    return found


def measured(logit: Logits, real: NDArray[np.bool_]) -> JsonValue:
    """Performance without the calibration error: the share of real ones is the sample's, not the training's."""
    if real.all() or not real.any():
        return {"real": int(real.sum()), "bogus": int((~real).sum())}
    found = performance(logit, real).rounded()
    del found["ece"]
    return dict(found)
