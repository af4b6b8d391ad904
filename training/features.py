"""Features made by hand, of the kind that autoScan gave its random forest (Goldstein et al. 2015, table 2).

What a pipeline could measure on a triplet without a network: how much of the difference is negative, how well a
Gaussian of the seeing fits, moments, sharpness, and what stands beside it in the template. No truth goes in.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from space2vec.training.psf import GAUSSIAN_FWHM
from space2vec.training.simulate import Candidates
from space2vec.workers.normalise import MAD_TO_SIGMA

WIDTHS = (0.5, 0.75, 1.0, 1.3, 1.8)
"""Widths of the fitted Gaussians, in seeings."""

LARGEST = 1e6

Stamps = NDArray[np.float32]
Values = NDArray[np.floating]


@dataclass(slots=True)
class _Table:
    """Columns as they are measured."""

    columns: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def add(self, name: str, values: Values | NDArray[np.integer]) -> None:
        clean = np.nan_to_num(np.asarray(values, np.float32), nan=0.0, posinf=LARGEST, neginf=-LARGEST)
        self.columns[name] = np.clip(clean, -LARGEST, LARGEST)


def measure(candidates: Candidates) -> tuple[NDArray[np.float32], list[str]]:
    """Measure candidates.

    Returns
    -------
    features : (N, F) float32
        One row each; finite.
    names : list of str
        Of the columns.
    """
    table = _Table()
    science, template, difference = (candidates.stamps[:, plane] for plane in range(3))
    turned = np.where((candidates.negative & ~candidates.flipped)[:, None, None], -difference, difference)
    noises = [np.maximum(_noise(plane), np.float32(1e-9)) for plane in (science, template, difference)]
    missing = np.isnan(difference).mean((1, 2))
    medians = [np.nan_to_num(np.nanmedian(plane, axis=(1, 2))) for plane in (science, template)]
    levels: list[Values] = [*medians, np.zeros(len(science))]
    planes = [
        np.asarray(np.nan_to_num((plane - level[:, None, None]) / noise[:, None, None]), np.float32)
        for plane, level, noise in zip((science, template, turned), levels, noises, strict=True)
    ]
    table.add("snr", candidates.snr)
    table.add("negative", candidates.negative.astype(np.float32))
    table.add("fwhm", candidates.fwhm)
    table.add("fwhm_ratio", candidates.fwhm / candidates.template_fwhm)
    table.add("missing", missing)
    _difference(table, planes[2])
    _gaussians(table, planes[2], candidates.fwhm)
    _moments(table, planes[2], candidates.fwhm)
    _surroundings(table, *planes)
    return np.stack(list(table.columns.values()), axis=1), list(table.columns)


def _noise(plane: Stamps) -> NDArray[np.float32]:
    with np.errstate(all="ignore"):
        middle = np.nanmedian(plane, axis=(1, 2), keepdims=True)
        found = MAD_TO_SIGMA * np.nanmedian(np.abs(plane - middle), axis=(1, 2))
    return np.asarray(np.nan_to_num(found, nan=1.0), np.float32)


def _box(planes: Stamps, reach: int) -> Stamps:
    """Central ``2 reach + 1`` pixels."""
    middle = planes.shape[-1] // 2
    return planes[:, middle - reach : middle + reach + 1, middle - reach : middle + reach + 1]


def _difference(table: _Table, difference: Stamps) -> None:
    """Pixel counts and sums; ``difference`` in units of its noise, turned positive."""
    near, wide = _box(difference, 2), _box(difference, 3)
    for level in (2, 3):
        table.add(f"n{level}sig5", (near < -level).sum((1, 2)))
        table.add(f"n{level}sig7", (wide < -level).sum((1, 2)))
    for level in (2, 4):
        table.add(f"above{level}sig7", (wide > level).sum((1, 2)))
    total = near.sum((1, 2))
    peak = _box(difference, 0)[:, 0, 0]
    table.add("diffsum", total / 5)
    table.add("numneg", (wide < 0).mean((1, 2)))
    table.add("growth", wide.sum((1, 2)) / np.where(np.abs(total) < 1e-3, 1e-3, total))
    table.add("peak", peak)
    table.add("peak_share", peak / np.maximum(np.abs(_box(difference, 1)).sum((1, 2)), 1e-3))
    table.add("rms", np.log10(difference.std((1, 2)) + 1e-3))
    middle = difference.shape[-1] // 2
    table.add("column", np.abs(difference[:, :, middle].mean(1)))
    table.add("row", np.abs(difference[:, middle, :].mean(1)))


def _gaussians(table: _Table, difference: Stamps, fwhm: NDArray[np.float32]) -> None:
    """Gaussians of several widths at the centre, fitted by least squares over 9 x 9 pixels."""
    patch = _box(difference, 4)
    square = np.add.outer(np.arange(-4, 5) ** 2, np.arange(-4, 5) ** 2)
    best = np.full(len(patch), np.inf)
    width_of_best = np.zeros(len(patch))
    for width in WIDTHS:
        sigma = (fwhm * width / GAUSSIAN_FWHM)[:, None, None]
        shape = np.exp(-square / (2 * sigma**2))
        power = (shape**2).sum((1, 2))
        amplitude = (shape * patch).sum((1, 2)) / power
        misfit = ((patch - amplitude[:, None, None] * shape) ** 2).mean((1, 2))
        if width == 1.0:
            table.add("gauss_amplitude", amplitude)
            table.add("gauss_misfit", misfit)
            table.add("gauss_likeness", amplitude * np.sqrt(power / ((patch**2).sum((1, 2)) + 1e-9)))
        better = misfit < best
        best[better], width_of_best[better] = misfit[better], width
    table.add("scale", width_of_best)
    table.add("best_misfit", best)


def _moments(table: _Table, difference: Stamps, fwhm: NDArray[np.float32]) -> None:
    """Second moments of the positive part, weighted by a Gaussian about the centre."""
    patch = _box(difference, 3)
    y, x = np.mgrid[-3:4, -3:4].astype(np.float32)
    weight = np.clip(patch, 0, None) * np.exp(-(x * x + y * y) / (2 * (fwhm**2)[:, None, None]))
    total = weight.sum((1, 2)) + 1e-6
    mean_x, mean_y = (weight * x).sum((1, 2)) / total, (weight * y).sum((1, 2)) / total
    xx = (weight * x * x).sum((1, 2)) / total - mean_x**2
    yy = (weight * y * y).sum((1, 2)) / total - mean_y**2
    xy = (weight * x * y).sum((1, 2)) / total - mean_x * mean_y
    size = xx + yy + 1e-6
    table.add("centroid", np.hypot(mean_x, mean_y))
    table.add("size", size / fwhm**2)
    table.add("ellipticity", np.sqrt((xx - yy) ** 2 + 4 * xy**2) / size)


def _surroundings(table: _Table, science: Stamps, template: Stamps, difference: Stamps) -> None:
    """Sharpness in the science image (after L.A.Cosmic), flux in the template, the nearest bright neighbour."""
    patch = _box(science, 2)
    smooth = ndimage.median_filter(patch, (1, 3, 3))[:, 2, 2]
    table.add(
        "lacosmic", -ndimage.laplace(patch, axes=(1, 2))[:, 2, 2] / np.maximum(np.abs(smooth) + 1, 1e-3)
    )
    table.add("sharpness", patch[:, 2, 2] - smooth)
    middle = science.shape[-1] // 2
    y, x = np.mgrid[: science.shape[-2], : science.shape[-1]] - middle
    distance = np.hypot(x, y)
    aperture = distance <= 3
    flux = {name: plane[:, aperture].sum(1) for name, plane in (("science", science), ("template", template))}
    table.add("flux_ratio", difference[:, aperture].sum(1) / np.maximum(np.abs(flux["template"]), 3))
    for name, total in flux.items():
        table.add(f"{name}_flux", np.arcsinh(total))
        table.add(
            f"{name}_brightest", np.arcsinh(_box(science if name == "science" else template, 8).max((1, 2)))
        )
    place = _box(template, 8).reshape(len(template), -1).argmax(1)
    table.add("neighbour", np.hypot(place // 17 - 8, place % 17 - 8))
    ring = (distance > 4) & (distance < 9)
    table.add("ring", np.abs(difference[:, ring]).mean(1))
