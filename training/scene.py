"""What is in the sky before anything happens: stars and galaxies."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from space2vec.training.psf import deposit
from space2vec.training.surveys import Geometry

Floats = NDArray[np.float64]

FAINTEST = -2.0
"""How deep the scene goes, in magnitudes above (here: below) the 5 sigma limit."""


@dataclass(frozen=True, slots=True)
class Stars:
    """Point sources of the scene, each attribute ``(n,)``.

    Attributes
    ----------
    x, y : float64
        Pixels.
    flux : float64
        Electrons.
    brightness : float64
        Magnitudes above the 5 sigma limit.
    shift_x, shift_y : float64
        How far the star stands from its template position in the science image: proper motion and
        differential refraction. Zero for most.
    """

    x: Floats
    y: Floats
    flux: Floats
    brightness: Floats
    shift_x: Floats
    shift_y: Floats


@dataclass(frozen=True, slots=True)
class Galaxies:
    """Galaxies of the scene, each attribute ``(n,)``; positions and radii in pixels, flux in electrons."""

    x: Floats
    y: Floats
    flux: Floats
    brightness: Floats
    radius: Floats
    index: Floats
    axis_ratio: Floats
    angle: Floats

    def place(self, i: int, radius: float, angle: float) -> tuple[float, float]:
        """Position at ``radius`` (pixels) and ``angle`` (radians) in the plane of galaxy ``i``."""
        u = radius * math.cos(angle)
        v = radius * math.sin(angle) * self.axis_ratio[i]
        c, s = math.cos(self.angle[i]), math.sin(self.angle[i])
        return float(self.x[i] + c * u - s * v), float(self.y[i] + s * u + c * v)


def draw_stars(
    rng: np.random.Generator, geometry: Geometry, size: int, limit: float, severity: float
) -> Stars:
    """Draw the stars of a field from an exponential luminosity function.

    Parameters
    ----------
    rng, geometry
        Source of chance; the survey.
    size : int
        Side of the field, pixels.
    limit : float
        Flux of a 5 sigma source, electrons.
    severity : float
        How badly the field was reduced: scales the shifts of a quarter of the stars.
    """
    count = int(np.exp(rng.uniform(*np.log(geometry.stars))))
    scale = 1.0 / (geometry.star_slope * math.log(10.0))
    brightness = np.minimum(FAINTEST + rng.exponential(scale, count), 12.0)
    moved = rng.random(count) < 0.25
    shift = np.where(moved, rng.normal(0.0, 0.12 * severity, (2, count)), 0.0)
    x, y = rng.uniform(4, size - 5, (2, count))
    return Stars(x, y, limit * 10 ** (0.4 * brightness), brightness, shift[0], shift[1])


def draw_galaxies(rng: np.random.Generator, geometry: Geometry, size: int, limit: float) -> Galaxies:
    """Draw the galaxies of a field; a fifth of them bright, since events have hosts."""
    count = int(np.exp(rng.uniform(*np.log(geometry.galaxies))))
    brightness = np.minimum(FAINTEST + rng.exponential(1.0 / (0.42 * math.log(10.0)), count), 7.5)
    brightness[: count // 5] = rng.uniform(1.0, 7.0, count // 5)
    x, y = rng.uniform(4, size - 5, (2, count))
    growth = 10 ** (0.13 * brightness) * np.exp(rng.normal(0.0, 0.35, count))
    disc = rng.random(count) < 0.6
    return Galaxies(
        x=x,
        y=y,
        flux=limit * 10 ** (0.4 * brightness),
        brightness=brightness,
        radius=np.clip(geometry.galaxy_radius * growth, 0.5, 16.0),
        index=np.where(disc, rng.uniform(0.6, 1.5, count), rng.uniform(2.0, 4.0, count)),
        axis_ratio=rng.uniform(0.25, 1.0, count),
        angle=rng.uniform(0.0, math.pi, count),
    )


def render_galaxies(rng: np.random.Generator, image: NDArray[np.float32], galaxies: Galaxies) -> None:
    """Add Sersic profiles (Sersic 1963) to ``image``, and knots to the brighter discs."""
    for i in range(len(galaxies.x)):
        _sersic(image, galaxies, i)
        if galaxies.index[i] < 1.5 and galaxies.brightness[i] > 1.5:
            knots = int(rng.integers(2, 9))
            radii = galaxies.radius[i] * np.sqrt(rng.random(knots)) * 1.8
            angles = rng.uniform(0, 2 * math.pi, knots)
            places = [galaxies.place(i, r, t) for r, t in zip(radii, angles, strict=True)]
            x, y = np.array(places).T
            deposit(image, x, y, 0.25 * galaxies.flux[i] * rng.dirichlet(np.ones(knots)))


def _sersic(image: NDArray[np.float32], galaxies: Galaxies, i: int) -> None:
    size = image.shape[0]
    half = int(min(max(5 * galaxies.radius[i], 6), 48))
    x, y = galaxies.x[i], galaxies.y[i]
    y0, y1 = max(round(y) - half, 0), min(round(y) + half + 1, size)
    x0, x1 = max(round(x) - half, 0), min(round(x) + half + 1, size)
    dy = np.arange(y0, y1, dtype=np.float32)[:, None] - np.float32(y)
    dx = np.arange(x0, x1, dtype=np.float32)[None, :] - np.float32(x)
    c, s = np.float32(math.cos(galaxies.angle[i])), np.float32(math.sin(galaxies.angle[i]))
    u, v = c * dx + s * dy, (-s * dx + c * dy) / np.float32(galaxies.axis_ratio[i])
    index = float(galaxies.index[i])
    steepness = 2 * index - 1 / 3 + 0.009876 / index  # b_n of Prugniel & Simien (1997)
    # 0.3 px**2 keeps the cusp of steep profiles from hanging on where the centre falls in its pixel.
    radius = np.sqrt(u * u + v * v + np.float32(0.3)) / np.float32(galaxies.radius[i])
    profile = np.exp(-np.float32(steepness) * (radius ** np.float32(1 / index) - 1))
    image[y0:y1, x0:x1] += profile * np.float32(galaxies.flux[i] / profile.sum())
