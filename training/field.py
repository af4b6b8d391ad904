"""One field: a science exposure, its template, their difference, and the truth about it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from space2vec.training import detector, optics
from space2vec.training.causes import Cause
from space2vec.training.difference import Believed, Subtraction, subtract
from space2vec.training.events import Truth, inject
from space2vec.training.optics import Canvas
from space2vec.training.psf import Psf, deposit, limiting_flux
from space2vec.training.scene import Galaxies, Stars, draw_galaxies, draw_stars, render_galaxies
from space2vec.training.surveys import Geometry

SIZE, BORDER = 512, 32
"""Side of a field and the border drawn around it, pixels."""

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Conditions:
    """How a field was observed.

    Attributes
    ----------
    psf, template_psf : Psf
        The true ones.
    noise, template_noise : float
        Pixel noise, electrons.
    limit : float
        Flux of a 5 sigma source, electrons.
    severity : float
        How badly the field was reduced: 1 is usual, 0.2 excellent, 3 poor.
    """

    psf: Psf
    template_psf: Psf
    noise: float
    template_noise: float
    limit: float
    severity: float


@dataclass(frozen=True, slots=True)
class Field:
    """A field with its border; images in electrons without sky, ``(size, size)`` float32.

    Attributes
    ----------
    geometry, conditions
        The survey; how it was observed.
    science, template : (size, size) float32
        The two images.
    subtraction : Subtraction
        Difference, flux and signal to noise.
    saturation : float
        Electrons at which a pixel is full.
    cause : (size, size) uint8
        `Cause` of the artefact painted at each pixel.
    on_chip, in_template : (size, size) bool
        Where the science image and the template have pixels.
    truth, stars, galaxies
        What was put in.
    """

    geometry: Geometry
    conditions: Conditions
    science: Image
    template: Image
    subtraction: Subtraction
    saturation: float
    cause: NDArray[np.uint8]
    on_chip: Mask
    in_template: Mask
    truth: Truth
    stars: Stars
    galaxies: Galaxies


def observe(geometry: Geometry, rng: np.random.Generator) -> Field:
    """Draw a field of a survey, expose it twice, and subtract."""
    size = SIZE + 2 * BORDER
    conditions = _conditions(geometry, rng)
    stars = draw_stars(rng, geometry, size, conditions.limit, conditions.severity)
    galaxies = draw_galaxies(rng, geometry, size, conditions.limit)
    canvas, truth = _optical(geometry, rng, conditions, stars, galaxies, size)
    saturation = _detect_light(geometry, rng, conditions, canvas)
    on_chip, in_template = _coverage(rng, size)
    canvas.science[~on_chip] = 0
    canvas.template[~in_template] = 0
    subtraction = subtract(
        canvas.science,
        canvas.template,
        _believe(rng, conditions, size),
        geometry.method,
        geometry.template_depth**2,
    )
    return Field(
        geometry=geometry,
        conditions=conditions,
        science=canvas.science,
        template=canvas.template,
        subtraction=subtraction,
        saturation=saturation,
        cause=canvas.cause,
        on_chip=on_chip,
        in_template=in_template,
        truth=truth,
        stars=stars,
        galaxies=galaxies,
    )


def _conditions(geometry: Geometry, rng: np.random.Generator) -> Conditions:
    fwhm = geometry.fwhm * math.exp(rng.normal(0, geometry.fwhm_scatter))
    template_fwhm = geometry.template_fwhm * math.exp(rng.normal(0, geometry.template_fwhm_scatter))
    noise = math.sqrt(geometry.sky + geometry.read_noise**2) * math.exp(rng.normal(0, 0.12))
    return Conditions(
        psf=Psf(
            fwhm=fwhm,
            beta=rng.uniform(2.5, 4.5),
            e1=rng.normal(0, 0.04),
            e2=rng.normal(0, 0.04),
            coma=rng.normal(0, 0.06),
            angle=rng.uniform(0, 2 * math.pi),
        ),
        template_psf=Psf(
            fwhm=template_fwhm, beta=rng.uniform(2.8, 4.0), e1=rng.normal(0, 0.04), e2=rng.normal(0, 0.04)
        ),
        noise=noise,
        template_noise=noise * geometry.template_depth * math.exp(rng.normal(0, 0.4)),
        limit=limiting_flux(noise, fwhm),
        severity=10 ** rng.uniform(-0.7, 0.5),
    )


def _optical(
    geometry: Geometry,
    rng: np.random.Generator,
    conditions: Conditions,
    stars: Stars,
    galaxies: Galaxies,
    size: int,
) -> tuple[Canvas, Truth]:
    """Draw everything that the optics image, without noise."""
    blank = np.zeros((size, size), np.float32)
    static, science_only, template_only = blank.copy(), blank.copy(), blank.copy()
    render_galaxies(rng, static, galaxies)
    moved = stars.shift_x != 0
    deposit(static, stars.x[~moved], stars.y[~moved], stars.flux[~moved])
    deposit(template_only, stars.x[moved], stars.y[moved], stars.flux[moved])
    x, y = stars.x + stars.shift_x, stars.y + stars.shift_y
    deposit(science_only, x[moved], y[moved], stars.flux[moved])
    fwhm = conditions.psf.fwhm
    truth = inject(
        rng, science_only, stars, galaxies,
        limit=conditions.limit, fwhm=fwhm, saturation=geometry.saturation, border=BORDER,
    )  # fmt: skip
    canvas = Canvas(blank.copy(), blank.copy(), np.zeros((size, size), np.uint8), conditions.noise, BORDER)
    optics.trails(rng, science_only, canvas)
    optics.glints(rng, science_only, canvas, conditions.limit, fwhm)
    scene = fft.rfft2(static)
    science = (scene + fft.rfft2(science_only)) * conditions.psf.transform(size)
    template = (scene + fft.rfft2(template_only)) * conditions.template_psf.transform(size)
    canvas.science[:] = fft.irfft2(science, s=blank.shape)
    canvas.template[:] = fft.irfft2(template, s=blank.shape)
    optics.bright_stars(rng, canvas, stars, fwhm, geometry.saturation)
    optics.background(rng, canvas)
    optics.ghosts(rng, canvas)
    return canvas, truth


def _detect_light(
    geometry: Geometry, rng: np.random.Generator, conditions: Conditions, canvas: Canvas
) -> float:
    """Add noise and what the detector does; return the saturation level in electrons."""
    science, template = canvas.science, canvas.template
    variance = conditions.noise**2 + np.maximum(science, 0)
    science += np.sqrt(variance) * rng.standard_normal(science.shape, np.float32)
    white = rng.standard_normal(science.shape, np.float32)
    variance = conditions.template_noise**2 + np.maximum(template, 0) * geometry.template_depth**2
    template += np.sqrt(variance) * correlate(white, geometry.template_smoothing)
    survivors = rng.poisson(geometry.cosmic_rays * (1 - geometry.mask_efficiency))
    detector.cosmic_rays(rng, canvas, science, survivors, Cause.COSMIC_RAY)
    detector.cosmic_rays(rng, canvas, template, rng.poisson(0.5), Cause.TEMPLATE_DEFECT)
    detector.hot_pixels(rng, canvas)
    detector.bad_columns(rng, canvas)
    level = conditions.limit * 10 ** (0.4 * geometry.saturation) * 0.6 / conditions.psf.fwhm**2
    detector.saturate(rng, canvas, level)
    return level


def correlate(white: Image, sigma: float) -> Image:
    """Smooth white noise with a Gaussian of ``sigma`` pixels and give it its variance back."""
    reach = np.arange(-6, 7)
    kernel = np.exp(-0.5 * (reach / sigma) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    smooth = ndimage.correlate1d(ndimage.correlate1d(white, kernel, 0, mode="wrap"), kernel, 1, mode="wrap")
    return np.asarray(smooth / np.sum(kernel**2), np.float32)


def _coverage(rng: np.random.Generator, size: int) -> tuple[Mask, Mask]:
    """Where there are pixels: some fields touch a chip edge, some leave the template's footprint."""
    on_chip, in_template = np.ones((size, size), bool), np.ones((size, size), bool)
    if rng.random() < 0.15:
        width = int(rng.integers(BORDER + 2, BORDER + 60))
        np.rot90(on_chip, int(rng.integers(4)))[:width] = False
    if rng.random() < 0.04:
        np.rot90(in_template, int(rng.integers(4)))[: BORDER + int(rng.integers(20, 150))] = False
    return on_chip, in_template


def _believe(rng: np.random.Generator, conditions: Conditions, size: int) -> Believed:
    severity = conditions.severity
    shift_x, shift_y = rng.normal(0, 0.06 * severity, 2)
    return Believed(
        science_psf=conditions.psf.misjudged(rng, severity).transform(size),
        template_psf=conditions.template_psf.misjudged(rng, 0.6 * severity).transform(size),
        science_noise=conditions.noise,
        template_noise=conditions.template_noise,
        shift=(shift_x, shift_y),
        gain=rng.normal(0, 0.01 * severity),
        optimism=math.exp(abs(rng.normal(0, 0.1))),
    )
