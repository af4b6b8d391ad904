"""Detection on a difference image, and labels by what was injected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from space2vec.training.causes import DETECTOR, Cause
from space2vec.training.field import BORDER, Field

THRESHOLD = 5.0
"""Signal to noise, of either sign, from which a peak is a detection."""

BLEND = 5
"""Detections closer than this, in pixels along an axis, make one alert: the halves of a dipole."""

MOST_PER_CAUSE = {
    Cause.SATURATION: 2,
    Cause.GHOST: 3,
    Cause.BAD_COLUMN: 4,
    Cause.TRAIL: 4,
    Cause.EDGE: 4,
    Cause.SPIKE: 4,
}
"""How many bogus candidates of a cause a field may give, 12 where not named: one ghost must not fill a set."""


@dataclass(frozen=True, slots=True)
class Detection:
    """A peak of the difference image with its label.

    Attributes
    ----------
    x, y : int
        Pixel of the peak, border included.
    snr : float
        Signed signal to noise.
    flux : float
        Signed PSF flux, electrons.
    kind : int
        Index into `space2vec.training.events.KINDS`; 0 where bogus.
    cause : Cause
        Why it is bogus; ``NONE`` where real.
    """

    x: int
    y: int
    snr: float
    flux: float
    kind: int
    cause: Cause


def detect(field: Field) -> list[Detection]:
    """Find and label the candidates of a field; ambiguous ones are left out.

    A peak is real where an injected event of its sign lies within ``max(1.6 px, 0.6 FWHM)`` and gives
    at least half of its flux; bogus where no event of note lies within three FWHM. What lies between
    (a side lobe of an event, an event beneath a cosmic ray) is neither, and is dropped.
    """
    found: list[Detection] = []
    count: dict[Cause, int] = {}
    for y, x in _peaks(field):
        label = _match(field, x, y)
        if label is None:
            continue
        kind, cause = label
        count[cause] = count.get(cause, 0) + 1
        if cause and count[cause] > MOST_PER_CAUSE.get(cause, 12):
            continue
        snr, flux = float(field.subtraction.snr[y, x]), float(field.subtraction.flux[y, x])
        found.append(Detection(x, y, snr, flux, kind, cause))
    return found


def _peaks(field: Field) -> list[tuple[int, int]]:
    """Rows and columns of the detections, brightest first, one per blend."""
    strength = np.where(field.on_chip & field.in_template, np.abs(field.subtraction.snr), 0)
    inner = np.zeros_like(strength)
    inside = (slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    inner[inside] = strength[inside]
    rows, columns = np.nonzero(inner >= THRESHOLD)
    taken = np.zeros(inner.shape, bool)
    peaks = []
    for i in np.argsort(-inner[rows, columns], kind="stable"):
        y, x = int(rows[i]), int(columns[i])
        neighbours = inner[y - 3 : y + 4, x - 3 : x + 4]
        if taken[y, x] or inner[y, x] < neighbours.max():
            continue
        peaks.append((y, x))
        taken[y - BLEND : y + BLEND + 1, x - BLEND : x + BLEND + 1] = True
    return peaks


def _match(field: Field, x: int, y: int) -> tuple[int, Cause] | None:
    """Kind and cause of the peak at a pixel, or ``None`` where it is ambiguous."""
    truth, fwhm = field.truth, field.conditions.psf.fwhm
    flux = float(field.subtraction.flux[y, x])
    distance = np.hypot(truth.x - x, truth.y - y)
    near = np.flatnonzero(distance < max(1.6, 0.6 * fwhm))
    given = float(truth.flux[near].sum())
    painted = Cause(int(field.cause[y - 2 : y + 3, x - 2 : x + 3].max()))
    if given / flux > 0.5:
        full = (field.science[y - 1 : y + 2, x - 1 : x + 2] >= 0.98 * field.saturation).any()
        if full or painted in DETECTOR:
            return None
        return int(truth.kind[near[np.abs(truth.flux[near]).argmax()]]), Cause.NONE
    around = np.abs(truth.flux[distance < 3 * fwhm])
    if around.size and around.max() > 0.5 * field.conditions.limit:
        return None
    return 0, painted or _cause(field, x, y)


def _cause(field: Field, x: int, y: int) -> Cause:
    """Why there is a peak where nothing was painted."""
    box = (slice(max(y - 3, 0), y + 4), slice(max(x - 3, 0), x + 4))
    if not (field.on_chip[box].all() and field.in_template[box].all()):
        return Cause.EDGE
    fwhm, stars, galaxies = field.conditions.psf.fwhm, field.stars, field.galaxies
    beyond = np.maximum(stars.brightness - field.geometry.saturation, 0)
    reach = 1.2 * fwhm + 1.2 * np.maximum(stars.brightness, 0) + 8 * beyond
    star_distance = np.hypot(stars.x - x, stars.y - y)
    if ((star_distance < reach) & (stars.brightness > -1)).any():
        return Cause.STAR_RESIDUAL
    galaxy_distance = np.hypot(galaxies.x - x, galaxies.y - y)
    if ((galaxy_distance < 1.5 * galaxies.radius + fwhm) & (galaxies.brightness > -0.5)).any():
        return Cause.GALAXY_RESIDUAL
    return Cause.NOISE


def cut(field: Field, x: int, y: int, size: int) -> NDArray[np.float32]:
    """Cut the triplet around a pixel, ``(3, size, size)`` float32 electrons, NaN where there is no pixel.

    The pixel lands on row and column ``size // 2``, as it does at ZTF and Rubin. Where the template is
    missing, so is the difference.
    """
    stamp = np.full((3, size, size), np.nan, np.float32)
    side = field.science.shape[0]
    top, left = y - size // 2, x - size // 2
    rows = slice(max(top, 0), min(top + size, side))
    columns = slice(max(left, 0), min(left + size, side))
    into = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    on_chip = field.on_chip[rows, columns]
    both = on_chip & field.in_template[rows, columns]
    images = (field.science, field.template, field.subtraction.difference)
    for plane, image, seen in zip(stamp, images, (on_chip, both, both), strict=True):
        plane[into] = np.where(seen, image[rows, columns], np.nan)
    return stamp
