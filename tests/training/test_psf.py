"""Point-spread functions keep their flux, their width and their place."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import fft

from space2vec.training.psf import GAUSSIAN_FWHM, Psf, deposit, limiting_flux


@pytest.mark.parametrize("fwhm", [1.6, 2.1, 4.4, 6.0])
def test_psf_has_unit_sum_about_its_pixel(fwhm: float) -> None:
    image = Psf(fwhm, 3.5, e1=0.05, coma=0.05).image(128)
    assert image.sum() == pytest.approx(1, abs=1e-5)
    assert np.unravel_index(image.argmax(), image.shape) == (0, 0)


@pytest.mark.parametrize("fwhm", [4.4, 6.0, 8.0])
def test_psf_has_its_fwhm(fwhm: float) -> None:
    image = np.roll(Psf(fwhm, 3.5).image(128), (64, 64), (0, 1))
    profile = image[64, 64:]
    half = np.interp(-profile[0] / 2, -profile, np.arange(len(profile)))
    # Pixels broaden a narrow profile: in quadrature by about 0.29 px of sigma.
    broadened = math.hypot(fwhm, GAUSSIAN_FWHM / math.sqrt(12))
    assert 2 * half == pytest.approx(broadened, rel=0.03)


def test_ellipticity_and_coma_show() -> None:
    y, x = np.mgrid[-64:64, -64:64]

    def moments(psf: Psf) -> tuple[float, float, float]:
        image = np.roll(psf.image(128), (64, 64), (0, 1)) * (np.hypot(x, y) < 8)
        return float((image * x * x).sum()), float((image * y * y).sum()), float((image * x).sum())

    xx, yy, _ = moments(Psf(4, 3.5, e1=0.2))
    assert xx > 1.2 * yy
    assert moments(Psf(4, 3.5, coma=0.2))[2] > 0.05
    assert abs(moments(Psf(4, 3.5))[2]) < 1e-3


def test_deposit_keeps_flux_and_centroid() -> None:
    image = np.zeros((64, 64), np.float32)
    deposit(image, [20.3], [31.8], [500.0])
    y, x = np.mgrid[:64, :64]
    assert image.sum() == pytest.approx(500, rel=1e-5)
    assert (image * x).sum() / 500 == pytest.approx(20.3, abs=0.02)
    assert (image * y).sum() / 500 == pytest.approx(31.8, abs=0.02)


def test_deposit_adds_up_points_in_one_pixel_and_wraps() -> None:
    image = np.zeros((32, 32), np.float32)
    deposit(image, [5.1, 5.1, 0.2], [9.7, 9.7, 31.9], [1.0, 2.0, 4.0])
    assert image.sum() == pytest.approx(7, rel=1e-5)


def test_convolved_point_is_the_shifted_psf() -> None:
    """A deposited point, once convolved, is what the Moffat profile is at that sub-pixel position."""
    image = np.zeros((128, 128), np.float32)
    deposit(image, [64.0], [64.0], [1.0])
    psf = Psf(3.0, 3.0)
    made = fft.irfft2(fft.rfft2(image) * psf.transform(128), s=image.shape)
    assert np.allclose(made, np.roll(psf.image(128), (64, 64), (0, 1)), atol=1e-5)


def test_limiting_flux_is_five_sigma_of_the_optimal_sum() -> None:
    noise, fwhm = 3.0, 4.0
    sigma = fwhm / GAUSSIAN_FWHM
    y, x = np.mgrid[-30:31, -30:31]
    profile = np.exp(-(x * x + y * y) / (2 * sigma**2)) / (2 * math.pi * sigma**2)
    error = noise / math.sqrt((profile**2).sum())
    assert limiting_flux(noise, fwhm) == pytest.approx(5 * error, rel=1e-3)
