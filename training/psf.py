"""Point-spread functions, and point sources put between pixels without losing flux."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

GAUSSIAN_FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))
"""FWHM of a Gaussian over its sigma."""

HALF = 32
"""Half the side, in pixels, of the box a PSF is computed in."""

_TAPS = np.arange(-3, 5)


@dataclass(frozen=True, slots=True)
class Psf:
    """A Moffat profile with ellipticity and a little coma.

    Attributes
    ----------
    fwhm : float
        Pixels.
    beta : float
        Moffat's exponent (Moffat 1969); 2.5 to 4.5 from the ground.
    e1, e2 : float
        Ellipticity components.
    coma, angle : float
        Relative strength and direction (radians) of a one-sided wing.
    """

    fwhm: float
    beta: float
    e1: float = 0.0
    e2: float = 0.0
    coma: float = 0.0
    angle: float = 0.0

    def image(self, size: int) -> NDArray[np.float32]:
        """Draw with unit sum, ``(size, size)`` float32, centred on pixel (0, 0) of a periodic grid.

        The profile is the mean of nine points per pixel: at 2 px FWHM the value at a pixel's centre
        is not its integral.
        """
        y, x = np.mgrid[-HALF:HALF, -HALF:HALF].astype(np.float32)
        core = self.fwhm / (2.0 * math.sqrt(2.0 ** (1.0 / self.beta) - 1.0))
        profile = np.zeros_like(x)
        for step_y in (-1 / 3, 0.0, 1 / 3):
            for step_x in (-1 / 3, 0.0, 1 / 3):
                u, v = x + np.float32(step_x), y + np.float32(step_y)
                q = (1 - self.e1) * u * u + (1 + self.e1) * v * v - 2 * self.e2 * u * v
                moffat = (1 + q / core**2) ** -self.beta
                tilt = (math.cos(self.angle) * u + math.sin(self.angle) * v) / core / (1 + q / core**2)
                profile += moffat * np.clip(1 + self.coma * tilt, 0.2, None)
        grid = np.zeros((size, size), np.float32)
        grid[: 2 * HALF, : 2 * HALF] = profile / profile.sum()
        return np.roll(grid, (-HALF, -HALF), (0, 1))

    def transform(self, size: int) -> NDArray[np.complex64]:
        """Fourier transform of the image, ``(size, size // 2 + 1)`` complex64."""
        transform: NDArray[np.complex64] = fft.rfft2(self.image(size))
        return transform

    def misjudged(self, rng: np.random.Generator, severity: float) -> Psf:
        """Return what a pipeline would take this PSF for, with errors that scale with ``severity``."""
        return replace(
            self,
            fwhm=self.fwhm * (1 + 0.012 * severity * rng.normal()),
            beta=self.beta * max(1 + 0.04 * severity * rng.normal(), 0.6),
            e1=self.e1 + 0.008 * severity * rng.normal(),
            e2=self.e2 + 0.008 * severity * rng.normal(),
            coma=0.5 * self.coma,
        )


def limiting_flux(noise: float, fwhm: float) -> float:
    """Flux of a point source at 5 sigma, for white pixel noise and a Gaussian PSF.

    The noise-equivalent area of a Gaussian is ``4 pi sigma**2`` pixels (King 1983).
    """
    return 5.0 * noise * math.sqrt(4.0 * math.pi) * fwhm / GAUSSIAN_FWHM


def deposit(image: NDArray[np.float32], x: ArrayLike, y: ArrayLike, flux: ArrayLike) -> None:
    """Add band-limited points to ``image`` in place, at sub-pixel positions on a periodic grid.

    Parameters
    ----------
    image : (size, size) float32
        Not yet convolved with a PSF.
    x, y : (n,)
        Pixels, counted from 0 at the centre of the first one.
    flux : (n,)
        Sum of each point over the image: Lanczos-4 weights, normalised.
    """
    x, y, flux = (np.atleast_1d(np.asarray(v, np.float64)) for v in (x, y, flux))
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)

    def weights(offset: NDArray[np.float64]) -> NDArray[np.float64]:
        distance = _TAPS - offset[:, None]
        lanczos = np.sinc(distance) * np.sinc(distance / 4)
        normalised: NDArray[np.float64] = lanczos / lanczos.sum(axis=1, keepdims=True)
        return normalised

    wx, wy = weights(x - column), weights(y - row)
    size = image.shape[0]
    rows = (row[:, None, None] + _TAPS[None, :, None]) % size
    columns = (column[:, None, None] + _TAPS[None, None, :]) % size
    value = flux[:, None, None] * wy[:, :, None] * wx[:, None, :]
    np.add.at(image, (rows, columns), value.astype(np.float32))
