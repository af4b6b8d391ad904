"""Image subtraction and the matched filter that detects on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

MESH = 48
"""Side of a background mesh, pixels."""

Image = NDArray[np.float32]
Transform = NDArray[np.complex64]


@dataclass(frozen=True, slots=True)
class Believed:
    """What the pipeline takes for true when it subtracts.

    Attributes
    ----------
    science_psf, template_psf : (size, size // 2 + 1) complex64
        Transforms of the PSFs as measured.
    science_noise, template_noise : float
        Pixel noise, electrons.
    shift : (2,) float
        Error of the registration in x and y, pixels.
    gain : float
        Relative error of the flux scale.
    optimism : float
        Factor by which the noise of the difference is underestimated; correlated noise makes it 1 or
        more, and detections of nothing common.
    """

    science_psf: Transform
    template_psf: Transform
    science_noise: float
    template_noise: float
    shift: tuple[float, float]
    gain: float
    optimism: float


@dataclass(frozen=True, slots=True)
class Subtraction:
    """A difference image and what the matched filter makes of it.

    Attributes
    ----------
    difference : (size, size) float32
        Science minus template, electrons.
    flux : (size, size) float32
        PSF flux of a source at each pixel, electrons.
    snr : (size, size) float32
        Signal to noise of that flux, Poisson noise of what lies beneath included.
    noise : float
        Noise of ``flux`` over empty sky, electrons.
    """

    difference: Image
    flux: Image
    snr: Image
    noise: float


def subtract(
    science: Image,
    template: Image,
    believed: Believed,
    method: Literal["zogy", "alard_lupton"],
    template_poisson: float,
) -> Subtraction:
    """Subtract the template from the science image.

    Parameters
    ----------
    science, template : (size, size) float32
        Electrons, without sky.
    believed : Believed
        PSFs, noise and the errors of registration and flux scale.
    method : {"zogy", "alard_lupton"}
        ZOGY is equations 13 to 16 of Zackay, Ofek & Gal-Yam (2016); the other is the matching kernel
        of Alard & Lupton (1998) in its least-squares limit, a regularised ratio of transforms.
    template_poisson : float
        Poisson variance of the template per electron.
    """
    size = science.shape[0]
    science_t = fft.rfft2(science)
    template_t = fft.rfft2(template) * _shift(size, believed.shift) * np.float32(1 + believed.gain)
    if method == "zogy":
        difference_t, psf = _zogy(science_t, template_t, believed)
    else:
        difference_t, psf = _alard_lupton(science_t, template_t, believed)
    difference = fft.irfft2(difference_t, s=science.shape).astype(np.float32)
    filtered = fft.irfft2(np.conj(psf) * difference_t, s=science.shape).astype(np.float32)
    flux = filtered / np.float32(_power(psf, size))
    flux -= _background(flux)
    sparse = flux[::7, ::7]
    noise = float(1.4826 * np.median(np.abs(sparse - np.median(sparse))))
    electrons = np.maximum(science, 0) + np.maximum(template, 0) * np.float32(template_poisson)
    poisson = ndimage.uniform_filter(electrons, 3) / np.float32(believed.science_noise**2)
    snr = flux * np.float32(believed.optimism / noise) / np.sqrt(1 + poisson)
    return Subtraction(difference, flux, snr, noise)


def _zogy(science: Transform, template: Transform, believed: Believed) -> tuple[Transform, Transform]:
    new, old = believed.science_psf, believed.template_psf
    new_var, old_var = np.float32(believed.science_noise**2), np.float32(believed.template_noise**2)
    spread = np.sqrt(new_var * np.abs(old) ** 2 + old_var * np.abs(new) ** 2 + np.float32(1e-6) * new_var)
    # Scaled by the science noise, so that white science noise stays as it is.
    weight = (np.float32(believed.science_noise) / spread).astype(np.float32)
    difference = np.asarray((old * science - new * template) * weight, np.complex64)
    return difference, old * new * weight


def _alard_lupton(science: Transform, template: Transform, believed: Believed) -> tuple[Transform, Transform]:
    new, old = believed.science_psf, believed.template_psf
    kernel = new * np.conj(old) / (np.abs(old) ** 2 + np.float32(2e-3))
    return science - kernel * template, new


def _background(image: Image) -> Image:
    """Smooth background, from the medians of square meshes: what detection pipelines take out first."""
    side = image.shape[0] // MESH
    meshes = image[: side * MESH, : side * MESH].reshape(side, MESH, side, MESH)[:, ::3, :, ::3]
    medians = np.median(meshes, axis=(1, 3))
    return np.asarray(ndimage.zoom(medians, image.shape[0] / side, order=1, grid_mode=True, mode="nearest"))


def _shift(size: int, by: tuple[float, float]) -> Transform:
    x = np.exp(-2j * np.pi * fft.rfftfreq(size) * by[0])
    y = np.exp(-2j * np.pi * fft.fftfreq(size) * by[1])
    phase: Transform = (y[:, None] * x[None, :]).astype(np.complex64)
    return phase


def _power(psf: Transform, size: int) -> float:
    """Sum of squares of the PSF's pixels, by Parseval: inner columns of a half transform count twice."""
    squares = np.abs(psf) ** 2
    total = 2 * squares.sum(dtype=np.float64) - squares[:, 0].sum(dtype=np.float64)
    return float(total - (squares[:, -1].sum(dtype=np.float64) if size % 2 == 0 else 0.0)) / size**2
