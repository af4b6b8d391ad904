"""Labels of real alerts, by where they come from, and which objects are held out.

No label here is injected truth, so each carries its tier. A known asteroid is a position that a catalogue foretold:
no classifier had a part in it. Another model's score is an opinion: a soft target that weighs what it is sure of.
Rubin's rehearsal packets are in no tier: there a reliability of 1 stands on plain dipoles.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from space2vec.training.dataset import GROUPS, Examples, befall
from space2vec.training.labelled import Labelled
from space2vec.workers.manifest import InputSpec

HELD_OUT = 0.4
"""Fraction of the objects that is never trained on: those with the smallest hashes."""

MODEL_WEIGHT = 0.6
"""Weight of a score that is quite sure, where a known asteroid weighs 1."""

NEAR_ARCSEC = 2.0
"""How near to its predicted place an asteroid of ZTF must be."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels of real alerts, each attribute ``(N,)``.

    Attributes
    ----------
    target : float32
        Probability of being real.
    weight : float32
        How much it counts; 0 where there is no label.
    asteroid : bool
        Known asteroids: the tier that no classifier made. The others with a weight are scores of models.
    held_out : bool
        Alerts of objects that are never trained on.
    """

    target: NDArray[np.float32]
    weight: NDArray[np.float32]
    asteroid: NDArray[np.bool_]
    held_out: NDArray[np.bool_]


def label(alerts: Labelled) -> Labels:
    """Label a survey's alerts by tier."""
    score, asteroid, trusted = _ztf(alerts) if alerts.survey == "ztf" else _lsst(alerts)
    opinion = np.where(trusted & np.isfinite(score), score, 0.5)
    target = np.where(asteroid, 1.0, opinion)
    weight = np.where(asteroid, 1.0, MODEL_WEIGHT * np.abs(2 * opinion - 1))
    return Labels(
        target.astype(np.float32), weight.astype(np.float32), asteroid, is_held_out(objects(alerts))
    )


def _ztf(alerts: Labelled) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    distance = alerts.numbers("ssdistnr")
    return (
        alerts.numbers("label_drb"),
        (distance >= 0) & (distance < NEAR_ARCSEC),
        np.ones(len(distance), bool),
    )


def _lsst(alerts: Labelled) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    rehearsed = np.char.startswith(alerts.text("epoch"), "simulated")
    return alerts.numbers("reliability"), (alerts.text("has_ss") == "True") & ~rehearsed, on_sky(alerts)


def on_sky(alerts: Labelled) -> NDArray[np.bool_]:
    """Whether the survey itself sent each from the sky, ``(N,)`` bool: no rehearsal, no other survey's images."""
    if alerts.survey != "lsst":
        return np.ones(len(alerts.shapes), bool)
    return np.equal(alerts.text("epoch"), "LSSTCam on-sky")


def objects(alerts: Labelled) -> NDArray[np.str_]:
    """Name of each alert's object, ``(N,)``; a moving one is its own, or alone where nothing names it."""
    names = alerts.text("objectId")
    if alerts.survey == "lsst":
        moving, source = alerts.text("ssObjectId"), alerts.text("diaSourceId")
        names = np.where(names != "0", names, np.where(moving != "0", moving, source))
    return names


def is_held_out(names: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Whether objects are held out, ``(N,)`` bool: by the SHA-256 of their names, so for ever."""
    parts = (int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64 for name in names.tolist())
    return np.fromiter(parts, np.float64, len(names)) < HELD_OUT


def real_examples(alerts: Labelled, spec: InputSpec, copies: int, rng: np.random.Generator) -> Examples:
    """Labelled alerts of objects that are not held out, ready for training.

    Parameters
    ----------
    alerts : Labelled
        A survey's.
    spec : InputSpec
        The bundle's input.
    copies : int
        How often each occurs, every time with accidents of its own (`befall`).
    rng
        Source of chance.

    Notes
    -----
    The weights are scaled so that real and bogus ones count the same.
    """
    labels = label(alerts)
    rows = np.flatnonzero((labels.weight > 0) & ~labels.held_out)
    chosen, target, weight = alerts.take(rows), labels.target[rows], labels.weight[rows].astype(np.float64)
    total = weight.sum()
    for side in (target > 0.5, target <= 0.5):
        weight[side] *= total / (2 * weight[side].sum())
    inputs = [chosen.inputs(spec, partial(befall, rng=rng)).astype(np.float16) for _ in range(copies)]
    group = np.where(labels.asteroid[rows], GROUPS.index("asteroid"), -1)
    return Examples(
        np.concatenate(inputs),
        np.tile(target, copies),
        np.tile((weight / weight.mean()).astype(np.float32), copies),
        np.tile(group, copies),
        np.full(copies * len(rows), np.nan, np.float32),
    )
