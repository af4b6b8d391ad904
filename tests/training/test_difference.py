"""Subtraction measures injected sources and knows its noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import fft

from space2vec.training.difference import Believed, Subtraction, subtract
from space2vec.training.field import correlate
from space2vec.training.psf import Psf, deposit

SIZE = 192
NOISE, TEMPLATE_NOISE = 20.0, 5.0
SCIENCE_PSF, TEMPLATE_PSF = Psf(3.2, 3.5), Psf(2.6, 3.2)


def believed(**errors: float) -> Believed:
    return Believed(
        science_psf=SCIENCE_PSF.transform(SIZE),
        template_psf=TEMPLATE_PSF.transform(SIZE),
        science_noise=NOISE,
        template_noise=TEMPLATE_NOISE,
        shift=(errors.get("shift", 0.0), 0.0),
        gain=0.0,
        optimism=1.0,
    )


def exposures(rng: np.random.Generator, flux: float) -> tuple[np.ndarray, np.ndarray]:
    """A constant star field in both, a source of ``flux`` at (100, 80) in the science image only."""
    scene = np.zeros((SIZE, SIZE), np.float32)
    deposit(scene, rng.uniform(10, SIZE - 10, 20), rng.uniform(10, SIZE - 10, 20), np.full(20, 1e4))
    new = scene.copy()
    deposit(new, [100.0], [80.0], [flux])
    science = fft.irfft2(fft.rfft2(new) * believed().science_psf, s=new.shape)
    template = fft.irfft2(fft.rfft2(scene) * believed().template_psf, s=new.shape)
    science = science + NOISE * rng.standard_normal(new.shape)
    template = template + TEMPLATE_NOISE * rng.standard_normal(new.shape)
    return science.astype(np.float32), template.astype(np.float32)


@pytest.fixture(params=["zogy", "alard_lupton"])
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("flux", [6000.0, -3000.0])
def test_flux_of_a_new_source_is_recovered(method: str, flux: float) -> None:
    found = subtract(*exposures(np.random.default_rng(1), flux), believed(), method, 0.04)  # type: ignore[arg-type]
    assert found.flux[80, 100] == pytest.approx(flux, abs=5 * found.noise)
    assert np.sign(found.snr[80, 100]) == np.sign(flux)
    assert np.sign(found.difference[80, 100]) == np.sign(flux)


def test_nothing_new_gives_unit_noise_and_no_detection(method: str) -> None:
    found = subtract(*exposures(np.random.default_rng(2), 0.0), believed(), method, 0.04)  # type: ignore[arg-type]
    assert np.std(found.snr) == pytest.approx(1, abs=0.1)
    assert np.abs(found.snr).max() < 5.5


def test_misregistration_makes_dipoles(method: str) -> None:
    science, template = exposures(np.random.default_rng(3), 0.0)
    clean: Subtraction = subtract(science, template, believed(), method, 0.04)  # type: ignore[arg-type]
    off: Subtraction = subtract(science, template, believed(shift=0.7), method, 0.04)  # type: ignore[arg-type]
    assert off.snr.max() > clean.snr.max() + 3
    assert off.snr.min() < clean.snr.min() - 3


def test_correlated_noise_keeps_its_variance() -> None:
    white = np.random.default_rng(4).standard_normal((256, 256), np.float32)
    smooth = correlate(white, 0.65)
    assert smooth.std() == pytest.approx(1, abs=0.03)
    lag = (smooth[:, 1:] * smooth[:, :-1]).mean()
    assert lag == pytest.approx(np.exp(-1 / (4 * 0.65**2)), abs=0.06)
