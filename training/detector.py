"""Artefacts of the detector: cosmic rays, hot and dead pixels, bad columns, saturation and its bleeds."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from space2vec.training.causes import Cause
from space2vec.training.optics import Canvas


def cosmic_rays(
    rng: np.random.Generator, canvas: Canvas, image: NDArray[np.float32], count: int, cause: Cause
) -> None:
    """Add ``count`` tracks to ``image`` (one of the canvas's): short hits, worms, some of them diffused."""
    low, high = canvas.border, image.shape[0] - canvas.border - 3
    for _ in range(count):
        length = rng.exponential(2.5) if rng.random() < 0.8 else rng.exponential(10.0)
        angle, bend = rng.uniform(0, 2 * math.pi), rng.normal(0, 0.01)
        step = np.linspace(0, length, max(int(length * 3), 1))
        x0, y0 = rng.uniform(low, high, 2)
        x = x0 + step * np.cos(angle + bend * step)
        y = y0 + step * np.sin(angle + bend * step)
        inside = (x > low) & (x < high) & (y > low) & (y < high)
        if not inside.any():
            continue
        total = canvas.noise * 10 ** (1.1 + rng.exponential(0.35)) * (1 + 0.15 * length)
        charge = total * rng.gamma(2.0, 0.5, len(step)) / len(step)
        track, rows, columns = _bilinear(x[inside], y[inside], charge[inside])
        if rng.random() < 0.4:  # charge spreads on its way through a thick detector
            track = ndimage.gaussian_filter(track, rng.uniform(0.2, 0.75))
        image[rows, columns] += track
        canvas.cause[rows, columns][track > 0.02 * track.max()] = cause


def _bilinear(
    x: NDArray[np.float64], y: NDArray[np.float64], charge: NDArray[np.float64]
) -> tuple[NDArray[np.float32], slice, slice]:
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    rows, columns = slice(row.min() - 3, row.max() + 5), slice(column.min() - 3, column.max() + 5)
    patch = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.float32)
    fx, fy = x - column, y - row
    for step_x, step_y, weight in (
        (0, 0, (1 - fx) * (1 - fy)),
        (1, 0, fx * (1 - fy)),
        (0, 1, (1 - fx) * fy),
        (1, 1, fx * fy),
    ):
        place = (row - rows.start + step_y, column - columns.start + step_x)
        np.add.at(patch, place, (charge * weight).astype(np.float32))
    return patch, rows, columns


def hot_pixels(rng: np.random.Generator, canvas: Canvas) -> None:
    """Add single pixels that are too bright, or now and then too dark."""
    low, high = canvas.border, canvas.science.shape[0] - canvas.border
    count = rng.poisson(1.6)
    x, y = rng.integers(low, high, (2, count))
    sign = rng.choice([1.0, 1.0, 1.0, -0.5], count)
    canvas.science[y, x] += (canvas.noise * 10 ** rng.uniform(0.9, 2.2, count) * sign).astype(np.float32)
    canvas.cause[y, x] = Cause.HOT_PIXEL


def bad_columns(rng: np.random.Generator, canvas: Canvas) -> None:
    """Add stretches of column whose offset was not removed, with their own noise."""
    low, high = canvas.border, canvas.science.shape[0] - canvas.border
    for _ in range(rng.poisson(0.3)):
        x, y = rng.integers(low, high, 2)
        stop, width = min(y + 8 + int(rng.exponential(50)), high), int(rng.choice([1, 1, 2]))
        offset = rng.normal(0, 6) * rng.uniform(0.7, 1.3, (stop - y, width))
        canvas.science[y:stop, x : x + width] += (canvas.noise * offset).astype(np.float32)
        canvas.cause[y:stop, x : x + width] = Cause.BAD_COLUMN


def saturate(rng: np.random.Generator, canvas: Canvas, level: float) -> None:
    """Cap the science image at ``level`` electrons; let the excess bleed along its column."""
    labels, _ = ndimage.label(canvas.science > level)
    size = canvas.science.shape[0]
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        full = labels[rows, columns] == number
        excess = float(canvas.science[rows, columns][full].sum()) / level - int(full.sum())
        canvas.cause[rows, columns][full] = Cause.SATURATION
        length = int(min(excess / 2, 120))
        if excess < 3 or length < 1:
            continue
        middle, column = (rows.start + rows.stop) // 2, (columns.start + columns.stop) // 2
        up, down = (rng.dirichlet([6.0, 6.0]) * length).astype(int)
        start, stop = max(middle - down, 0), min(middle + up + 1, size)
        width = 1 + (length > 30)
        offset = np.arange(start, stop) - middle
        fade = np.clip(1.25 - np.abs(offset) / np.where(offset < 0, down + 1, up + 1), 0.0, 1.0)
        charge = level * fade[:, None] * rng.uniform(0.85, 1.0, (stop - start, width))
        bled = canvas.science[start:stop, column : column + width]
        np.maximum(bled, charge[:, : bled.shape[1]].astype(np.float32), out=bled)
        canvas.cause[start:stop, column : column + width] = Cause.SATURATION
    np.minimum(canvas.science, np.float32(level), out=canvas.science)
    np.minimum(canvas.template, np.float32(2 * level), out=canvas.template)
