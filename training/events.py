"""What happens in the sky: supernovae, active nuclei, variable stars, asteroids, hostless flashes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from space2vec.training.psf import deposit
from space2vec.training.scene import Galaxies, Stars

KINDS = ("none", "sn", "agn", "variable", "asteroid", "hostless")
"""Kinds of real event; ``none`` is what a bogus candidate has."""

MIX = {"sn": 13, "agn": 5, "variable": 10, "asteroid": 5, "hostless": 3}
"""Events injected per field."""

FAINTEST_SNR, BRIGHTEST_SNR = 4.0, 300.0


@dataclass(frozen=True, slots=True)
class Truth:
    """Injected events, each attribute ``(n,)``.

    Attributes
    ----------
    x, y : float64
        Pixels.
    flux : float64
        Science minus template, electrons; negative where the source has faded.
    kind : uint8
        Index into `KINDS`.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    kind: NDArray[np.uint8]


class _Ledger:
    """Events as they are drawn, one after another."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, float, float, int]] = []

    def add(self, x: float, y: float, flux: float, kind: str) -> None:
        """Enter one event."""
        self.rows.append((x, y, flux, KINDS.index(kind)))

    def truth(self) -> Truth:
        """Return the entries so far, as columns."""
        x, y, flux, kind = np.array(self.rows, np.float64).T
        return Truth(x, y, flux, kind.astype(np.uint8))


def inject(
    rng: np.random.Generator,
    change: NDArray[np.float32],
    stars: Stars,
    galaxies: Galaxies,
    *,
    limit: float,
    fwhm: float,
    saturation: float,
    border: int,
) -> Truth:
    """Draw a field's events and add them to ``change``.

    Parameters
    ----------
    rng
        Source of chance.
    change : (size, size) float32
        Light that only the science exposure has, not yet convolved; written in place.
    stars, galaxies
        The scene.
    limit : float
        Flux of a 5 sigma source, electrons.
    fwhm : float
        Seeing of the science exposure, pixels.
    saturation : float
        Magnitudes above the limit at which a star saturates.
    border : int
        Width in pixels of the frame's border, where nothing is injected.

    Notes
    -----
    Most events of a survey are near its limit: two thirds of the signal-to-noise ratios follow
    ``dN/dS ~ S**-2.1`` from 4 up. The others are spread evenly over the logarithm, since what people
    follow up is bright. Half of the variable stars vary by a fraction of their own light instead.
    """
    low, high = border, change.shape[0] - border
    ledger = _Ledger()
    _in_galaxies(rng, ledger, galaxies, limit, low, high)
    _variable_stars(rng, ledger, stars, limit, saturation, low, high)
    for flux in _fluxes(rng, "hostless", limit):
        x, y = rng.uniform(low, high, 2)
        ledger.add(x, y, flux, "hostless")
    points = ledger.truth()
    deposit(change, points.x, points.y, points.flux)
    for flux in _fluxes(rng, "asteroid", limit):
        x, y = rng.uniform(low, high, 2)
        _asteroid(rng, change, x, y, flux, rng.choice([0.0, rng.uniform(0.0, 1.2 * fwhm)]))
        ledger.add(x, y, flux, "asteroid")
    return ledger.truth()


def _asteroid(
    rng: np.random.Generator, change: NDArray[np.float32], x: float, y: float, flux: float, length: float
) -> None:
    """Deposit a point that moved by ``length`` pixels while the shutter was open."""
    angle = rng.uniform(0, math.pi)
    steps = np.linspace(-0.5, 0.5, 7) * length
    deposit(change, x + steps * math.cos(angle), y + steps * math.sin(angle), np.full(7, flux / 7))


def _fluxes(rng: np.random.Generator, kind: str, limit: float) -> NDArray[np.float64]:
    steep = FAINTEST_SNR * (1 - rng.random(MIX[kind])) ** (-1 / 1.1)
    even = FAINTEST_SNR * (BRIGHTEST_SNR / FAINTEST_SNR) ** rng.random(MIX[kind])
    snr = np.where(rng.random(MIX[kind]) < 1 / 3, even, steep)
    return limit / 5 * np.minimum(snr, BRIGHTEST_SNR)


def _in_galaxies(
    rng: np.random.Generator, ledger: _Ledger, galaxies: Galaxies, limit: float, low: float, high: float
) -> None:
    inside = (galaxies.x > low) & (galaxies.x < high) & (galaxies.y > low) & (galaxies.y < high)
    hosts = np.flatnonzero(inside)
    weight = galaxies.flux[hosts] ** 0.6 * galaxies.radius[hosts] ** 0.3
    weight /= weight.sum()
    for flux in _fluxes(rng, "sn", limit):  # they follow the light, with a tail
        i = int(rng.choice(hosts, p=weight))
        place = galaxies.place(i, galaxies.radius[i] * rng.gamma(2.0, 0.55), rng.uniform(0, 2 * math.pi))
        ledger.add(*place, flux, "sn")
    for flux in _fluxes(rng, "agn", limit):
        i = int(rng.choice(hosts, p=weight))
        ledger.add(galaxies.x[i], galaxies.y[i], flux * rng.choice([1, 1, -1]), "agn")


def _variable_stars(
    rng: np.random.Generator,
    ledger: _Ledger,
    stars: Stars,
    limit: float,
    saturation: float,
    low: float,
    high: float,
) -> None:
    able = (stars.brightness > -1) & (stars.brightness < saturation - 0.3) & (stars.shift_x == 0)
    inside = (stars.x > low) & (stars.x < high) & (stars.y > low) & (stars.y < high)
    candidates = np.flatnonzero(able & inside)
    fluxes = _fluxes(rng, "variable", limit)[: len(candidates)]
    for i, faint in zip(rng.choice(candidates, len(fluxes), replace=False), fluxes, strict=True):
        amplitude = stars.flux[i] * 10 ** rng.uniform(-1.5, 0.0)
        flux = faint if rng.random() < 0.5 else max(amplitude, faint)
        if rng.random() < 0.5:
            flux = -min(flux, 0.9 * stars.flux[i])
        ledger.add(stars.x[i], stars.y[i], flux, "variable")
