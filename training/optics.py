"""Artefacts that come through the optics: trails, glints, ghosts, spikes, the wings of bright stars."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from space2vec.training.causes import Cause
from space2vec.training.psf import GAUSSIAN_FWHM, deposit
from space2vec.training.scene import Stars

REACH = 40
"""How far from a bright star its spikes and halo are drawn, pixels."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """A field while artefacts are painted on it; the arrays are written in place.

    Attributes
    ----------
    science, template : (size, size) float32
        Electrons, without sky.
    cause : (size, size) uint8
        `Cause` of what is painted at each pixel.
    noise : float
        Pixel noise of the science image, electrons.
    border : int
        Width of the frame's border in pixels.
    """

    science: NDArray[np.float32]
    template: NDArray[np.float32]
    cause: NDArray[np.uint8]
    noise: float
    border: int

    def mark(self, x: NDArray[np.float64], y: NDArray[np.float64], cause: Cause) -> None:
        """Note the cause at positions inside the image, pixels."""
        self.cause[np.rint(y).astype(np.int64), np.rint(x).astype(np.int64)] = cause


def trails(rng: np.random.Generator, change: NDArray[np.float32], canvas: Canvas) -> None:
    """Add the trails of satellites, some of them dashed, to ``change`` (not yet convolved)."""
    size = change.shape[0]
    for _ in range(rng.poisson(0.12)):
        angle, (cx, cy) = rng.uniform(0, math.pi), rng.uniform(0, size, 2)
        step = np.arange(-size, size, 0.5)
        x, y = cx + step * math.cos(angle), cy + step * math.sin(angle)
        light = np.full(len(step), canvas.noise * rng.uniform(0.7, 6.0))
        if rng.random() < 0.5:
            period = rng.uniform(30, 140)
            light *= np.cos(step * math.pi / period) ** 2 > rng.uniform(0.2, 0.7)
        seen = (light > 0) & (x > 1) & (x < size - 2) & (y > 1) & (y < size - 2)
        deposit(change, x[seen], y[seen], light[seen])
        canvas.mark(x[seen], y[seen], Cause.TRAIL)


def glints(
    rng: np.random.Generator, change: NDArray[np.float32], canvas: Canvas, limit: float, fwhm: float
) -> None:
    """Add the flashes of tumbling satellites: points or short dashes along a line."""
    size = change.shape[0]
    for _ in range(rng.poisson(0.15)):
        angle, (cx, cy) = rng.uniform(0, math.pi), rng.uniform(0, size, 2)
        spacing, flashes = rng.uniform(12, 70), int(rng.integers(2, 9))
        dash = rng.choice([0.0, rng.uniform(0.3, 1.5) * fwhm])
        flux = limit * 10 ** rng.uniform(0.0, 1.0) * rng.uniform(0.6, 1.4, flashes)
        for i in range(flashes):
            step = i * spacing + np.linspace(-0.5, 0.5, 7) * dash
            x, y = cx + step * math.cos(angle), cy + step * math.sin(angle)
            if min(x.min(), y.min()) < 4 or max(x.max(), y.max()) > size - 5:
                continue
            deposit(change, x, y, np.full(7, flux[i] / 7))
            canvas.cause[round(y[3]) - 2 : round(y[3]) + 3, round(x[3]) - 2 : round(x[3]) + 3] = Cause.GLINT


def ghosts(rng: np.random.Generator, canvas: Canvas) -> None:
    """Add a defocused image of the pupil now and then: a soft, lopsided annulus."""
    if rng.random() > 0.06:
        return
    size = canvas.science.shape[0]
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    cx, cy = rng.uniform(0, size, 2)
    radius, hole = rng.uniform(25, 100), rng.uniform(0.2, 0.5)
    dx, dy = x - np.float32(cx), y - np.float32(cy)
    distance = np.hypot(dx, dy)
    soft = np.float32(rng.uniform(1.0, 6.0))
    light = 1 / (1 + np.exp(np.clip((distance - radius) / soft, -30, 30)))
    light *= 1 / (1 + np.exp(np.clip((radius * hole - distance) / soft, -30, 30)))
    tilt = rng.normal(0, 0.4, 2)
    light *= np.clip(1 + (tilt[0] * dx + tilt[1] * dy) / radius, 0.1, None)
    light *= np.float32(canvas.noise * rng.uniform(0.6, 3.5))
    canvas.science[:] += light
    canvas.cause[light > 0.25 * canvas.noise] = Cause.GHOST


def background(rng: np.random.Generator, canvas: Canvas) -> None:
    """Tilt the background of a quarter of the science images: sky that was not quite removed."""
    if rng.random() < 0.25:
        size = canvas.science.shape[0]
        ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
        tilt = (canvas.noise * rng.normal(0, 0.5, 2)).astype(np.float32)
        canvas.science[:] += tilt[0] * ramp[None, :] + tilt[1] * ramp[:, None]


def bright_stars(
    rng: np.random.Generator, canvas: Canvas, stars: Stars, fwhm: float, saturation: float
) -> None:
    """Broaden the cores of bright stars (brighter-fatter), and give saturated ones spikes and halos."""
    turn = rng.normal(0, 0.08)
    for i in np.flatnonzero(stars.brightness > saturation - 3.0):
        rows, columns = _box(canvas.science.shape[0], stars.x[i], stars.y[i])
        dy = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(stars.y[i])
        dx = np.arange(columns.start, columns.stop, dtype=np.float32)[None, :] - np.float32(stars.x[i])
        square = dx * dx + dy * dy
        flux = float(stars.flux[i])
        fatter = _gaussian(square, 1.25 * fwhm / GAUSSIAN_FWHM) - _gaussian(square, fwhm / GAUSSIAN_FWHM)
        canvas.science[rows, columns] += np.float32(flux * rng.normal(0.006, 0.004)) * fatter
        if stars.brightness[i] < saturation:
            continue
        halo = np.float32(flux * 4e-3 / (2 * math.pi)) / (square + 60) ** np.float32(1.2)
        science_spike = np.float32(flux * 2e-4) * _spikes(dx, dy, turn)
        template_spike = np.float32(flux * 2e-4 * abs(rng.normal(1, 0.15)))
        canvas.science[rows, columns] += science_spike + halo
        canvas.template[rows, columns] += template_spike * _spikes(dx, dy, turn + rng.normal(0, 0.03)) + halo
        canvas.cause[rows, columns][science_spike > 2 * canvas.noise] = Cause.SPIKE


def _box(size: int, x: float, y: float) -> tuple[slice, slice]:
    column, row = int(x), int(y)
    return (
        slice(max(row - REACH, 0), min(row + REACH + 1, size)),
        slice(max(column - REACH, 0), min(column + REACH + 1, size)),
    )


def _gaussian(square: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    variance = np.float32(sigma**2)
    profile: NDArray[np.float32] = np.exp(-square / (2 * variance)) / (np.float32(2 * math.pi) * variance)
    return profile


def _spikes(dx: NDArray[np.float32], dy: NDArray[np.float32], turn: float) -> NDArray[np.float32]:
    c, s = np.float32(math.cos(turn)), np.float32(math.sin(turn))
    u, v = np.abs(c * dx + s * dy), np.abs(-s * dx + c * dy)
    cross: NDArray[np.float32] = np.exp(-v / 0.8 - u / 14) + np.exp(-u / 0.8 - v / 14)
    return cross
