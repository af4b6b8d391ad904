"""How a bundle fares on simulated candidates it never saw, beside learners on features made by hand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue
from sklearn.metrics import roc_auc_score, roc_curve

from space2vec.training.baselines import features_of, opinions
from space2vec.training.dataset import GROUPS, STAMP_SIZES, Examples, prepare
from space2vec.training.disagreement import by_spread
from space2vec.training.kept import kept_table
from space2vec.training.metrics import calibration_error, performance, threshold_at
from space2vec.training.retrieval import neighbours_alike, plane
from space2vec.training.simulate import Candidates, generate
from space2vec.workers.backends import Backend
from space2vec.workers.manifest import Manifest
from space2vec.workers.scores import Scores, joined

Found = dict[str, JsonValue]
Logits = NDArray[np.float32]

SNR_EDGES = (5.0, 6.0, 8.0, 12.0, 25.0, np.inf)
BATCH = 512
SEED = 2_000_003
"""Seed of the simulated test set; training and calibration draw from others, so no field is shared."""

CURVE_FPR = np.geomspace(1e-3, 1.0, 40)
"""False-positive rates at which ROC curves are kept."""

PICTURED = 700
"""Points of the picture of the embedding."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Simulated candidates and what a bundle says of them."""

    candidates: Candidates
    examples: Examples
    scores: Scores


def score_all(backend: Backend, inputs: NDArray[np.float32] | NDArray[np.float16]) -> Scores:
    """Score network inputs in batches."""
    starts = range(0, len(inputs), BATCH)
    return joined([backend.score(inputs[start : start + BATCH].astype(np.float32)) for start in starts])


def judge(
    backend: Backend,
    manifest: Manifest,
    survey: str,
    count: int,
    seed: int = SEED,
    *,
    processes: int = 1,
    file: Path | None = None,
) -> Judged:
    """Simulate ``count`` candidates of a survey, or take them from ``file``, and score them."""
    make = partial(generate, survey, count, seed, size=STAMP_SIZES[survey][1], processes=processes)
    candidates = kept_table(file, Candidates, make)
    examples = prepare(candidates, manifest.input, np.random.default_rng([seed, count]), accidents=False)
    return Judged(candidates, examples, score_all(backend, examples.inputs))


def on_simulated(judged: Judged, manifest: Manifest) -> Found:
    """Evaluate: overall, by S/N, by kind and cause, at the operating points; calibration, spread, heads, embedding."""
    examples, logit = judged.examples, judged.scores.logit
    counted, real = examples.counted, examples.real
    threshold = threshold_at(logit[counted], real[counted])
    found: Found = {
        "overall": dict(performance(logit[counted], real[counted]).rounded()),
        "roc": curve(logit[counted], real[counted]),
        "threshold": round(threshold, 4),
        "by_snr": by_snr(examples, logit > threshold),
        "passed": passed(examples, logit > threshold),
        "points": {
            name: {
                "completeness": round(float((logit >= least)[counted & real].mean()), 4),
                "fpr": round(float((logit >= least)[counted & ~real].mean()), 4),
            }
            for name, least in manifest.operating_points.items()
        },
        "reliability": reliability(examples, judged.scores),
    }
    if judged.scores.spread is not None:
        found["disagreement"] = by_spread(logit[counted], judged.scores.spread[counted], real[counted])
    if manifest.outputs.groups:
        found["heads"] = heads(examples, judged.scores, len(manifest.outputs.kinds))
    if manifest.outputs.embedding:
        found["retrieval"] = retrieval(examples, judged.scores.embedding)
    return found


def against(judged: Judged, trained_on: Candidates, seeds: range) -> Found:
    """Learners on features made by hand: performance on the same candidates, once per seed, and a curve."""
    counted, real = judged.examples.counted, judged.examples.real
    tested = features_of(judged.candidates)
    found: Found = {}
    for name, scores in opinions(features_of(trained_on), trained_on, tested, seeds).items():
        measured = [performance(each[counted], real[counted]) for each in scores]
        found[name] = {
            "auc": [round(each.auc, 4) for each in measured],
            "mdr": [round(each.mdr, 4) for each in measured],
            "roc": curve(scores[0][counted], real[counted]),
        }
    return found


def curve(score: Logits, real: NDArray[np.bool_]) -> list[JsonValue]:
    """Completeness at each of `CURVE_FPR`."""
    rate, complete, _ = roc_curve(real, score)
    return [round(float(value), 4) for value in np.interp(CURVE_FPR, rate, complete)]


def bins(snr: NDArray[np.float32]) -> dict[str, NDArray[np.bool_]]:
    """Rows of each bin of signal to noise, by its name."""
    return {f"{low:g} to {high:g}": (snr >= low) & (snr < high) for low, high in pairwise(SNR_EDGES)}


def by_snr(examples: Examples, above: NDArray[np.bool_]) -> Found:
    """Completeness and false-positive rate at the threshold, by bin of signal to noise."""
    found: Found = {}
    for name, inside in bins(examples.snr).items():
        real, bogus = inside & examples.counted & examples.real, inside & examples.counted & ~examples.real
        if real.any() and bogus.any():
            found[name] = {
                "real": int(real.sum()),
                "bogus": int(bogus.sum()),
                "completeness": round(float(above[real].mean()), 4),
                "fpr": round(float(above[bogus].mean()), 4),
            }
    return found


def passed(examples: Examples, above: NDArray[np.bool_]) -> Found:
    """Fraction of each kind and cause above the threshold: what to keep, then what to reject."""
    found: Found = {}
    for number, name in enumerate(GROUPS):
        chosen = examples.group == number
        if chosen.any():
            found[name] = {"count": int(chosen.sum()), "passed": round(float(above[chosen].mean()), 4)}
    return found


def reliability(examples: Examples, scores: Scores, steps: int = 8) -> Found:
    """Calibration by bin of signal to noise: ECE, and the points of a reliability diagram."""
    found: Found = {}
    for name, inside in bins(examples.snr).items():
        rows = np.flatnonzero(inside & examples.counted)
        if len(rows) < steps:
            continue
        probability, real = scores.probability[rows], examples.real[rows]
        parts = np.array_split(np.argsort(probability, kind="stable"), steps)
        found[name] = {
            "ece": round(calibration_error(scores.logit[rows], real), 4),
            "predicted": [round(float(probability[part].mean()), 4) for part in parts],
            "observed": [round(float(real[part].mean()), 4) for part in parts],
        }
    return found


def heads(examples: Examples, scores: Scores, kinds: int) -> Found:
    """Right answers of the two heads, and how well each kind and cause is told from the others of its side."""
    found: Found = {}
    for name, side, columns in (
        ("kinds", examples.real, slice(0, kinds)),
        ("causes", ~examples.real, slice(kinds, None)),
    ):
        shares, truth = scores.groups[side, columns], examples.group[side] - (columns.start or 0)
        labels = GROUPS[columns]
        present = [number for number in range(len(labels)) if 0 < (truth == number).sum() < len(truth)]
        found[name] = {
            "right": round(float((shares.argmax(1) == truth).mean()), 4),
            "commonest": round(float(np.bincount(truth).max() / len(truth)), 4),
            "auc": {labels[i]: round(float(roc_auc_score(truth == i, shares[:, i])), 4) for i in present},
        }
    return found


def retrieval(examples: Examples, embedding: NDArray[np.float32]) -> Found:
    """Fraction of the ten nearest neighbours that are of the same kind or cause, and a picture's points."""
    alike = neighbours_alike(embedding, examples.group)
    share = np.bincount(examples.group, minlength=len(GROUPS)) / len(examples)
    points = plane(embedding)[:PICTURED]
    return {
        "precision_at_10": round(float(alike.mean()), 4),
        "by_chance": round(float((share**2).sum()), 4),
        "by_group": {
            name: round(float(alike[examples.group == number].mean()), 4)
            for number, name in enumerate(GROUPS)
            if (examples.group == number).any()
        },
        "plane": [[round(float(x), 3), round(float(y), 3)] for x, y in points],
        "groups": [int(group) for group in examples.group[:PICTURED]],
    }
