"""Geometry presets: what a survey's exposures and stamps are like, as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Geometry:
    """What the simulator must know of a survey.

    Brightness is counted in magnitudes above the 5 sigma point-source limit ``m5``, so that one
    luminosity function serves every survey.

    Attributes
    ----------
    name : str
        Name of the survey profile whose packets the stamps would go into.
    pixel_scale : float
        Arcseconds per pixel.
    stamp : int
        Side of a stamp, pixels.
    fwhm, fwhm_scatter : float
        Median seeing in pixels of a science exposure, and its scatter in natural-log units.
    template_fwhm, template_fwhm_scatter : float
        The same of the template.
    method : {"zogy", "alard_lupton"}
        How the survey subtracts: ZOGY (Zackay et al. 2016) or a kernel that matches the template to
        the science image (Alard & Lupton 1998).
    sky, read_noise : float
        Electrons per pixel of sky, and electrons RMS.
    template_depth : float
        Pixel noise of the template over pixel noise of the science image.
    template_smoothing : float
        Sigma in pixels of the resampling kernel that correlates the template's noise.
    saturation : float
        Magnitudes above ``m5`` at which a star's peak saturates.
    stars, galaxies : tuple of float
        Range of the number per field, log-uniform.
    star_slope : float
        Slope of the star counts, dex per magnitude.
    galaxy_radius : float
        Half-light radius in pixels of a galaxy at ``m5``.
    cosmic_rays : float
        Mean number per field, before masking.
    mask_efficiency : float
        Fraction of the cosmic rays that the survey's pipeline finds and repairs.
    m5, zero_point : float
        The limit and the AB magnitude of one unit of flux; together they set the units of the stamps.
    pedestal : bool
        Whether the science and template stamps keep their sky.
    flips_negative : bool
        Whether the survey stores template minus science for negative sources.
    """

    name: str
    pixel_scale: float
    stamp: int
    fwhm: float
    fwhm_scatter: float
    template_fwhm: float
    template_fwhm_scatter: float
    method: Literal["zogy", "alard_lupton"]
    sky: float
    read_noise: float
    template_depth: float
    template_smoothing: float
    saturation: float
    stars: tuple[float, float]
    galaxies: tuple[float, float]
    star_slope: float
    galaxy_radius: float
    cosmic_rays: float
    mask_efficiency: float
    m5: float
    zero_point: float
    pedestal: bool
    flips_negative: bool


ZTF = Geometry(
    name="ztf", pixel_scale=1.01, stamp=63,
    fwhm=2.1, fwhm_scatter=0.18, template_fwhm=2.0, template_fwhm_scatter=0.09,
    method="zogy", sky=350.0, read_noise=9.0, template_depth=0.2, template_smoothing=0.45,
    saturation=7.8, stars=(150.0, 1800.0), galaxies=(80.0, 320.0), star_slope=0.24, galaxy_radius=1.1,
    cosmic_rays=12.0, mask_efficiency=0.8, m5=20.6, zero_point=26.3, pedestal=True, flips_negative=True,
)  # fmt: skip
DES = Geometry(
    name="des", pixel_scale=0.263, stamp=51,
    fwhm=4.2, fwhm_scatter=0.17, template_fwhm=3.9, template_fwhm_scatter=0.09,
    method="alard_lupton", sky=900.0, read_noise=7.0, template_depth=0.4, template_smoothing=0.5,
    saturation=7.2, stars=(50.0, 400.0), galaxies=(150.0, 450.0), star_slope=0.24, galaxy_radius=1.7,
    cosmic_rays=12.0, mask_efficiency=0.8, m5=23.5, zero_point=31.4, pedestal=False, flips_negative=False,
)  # fmt: skip
LSST = Geometry(
    name="lsst", pixel_scale=0.2, stamp=30,
    fwhm=4.4, fwhm_scatter=0.18, template_fwhm=4.2, template_fwhm_scatter=0.1,
    method="alard_lupton", sky=800.0, read_noise=6.0, template_depth=0.45, template_smoothing=0.5,
    saturation=7.2, stars=(50.0, 400.0), galaxies=(150.0, 500.0), star_slope=0.24, galaxy_radius=2.0,
    cosmic_rays=12.0, mask_efficiency=0.8, m5=24.3, zero_point=31.4, pedestal=False, flips_negative=False,
)  # fmt: skip
GEOMETRIES: dict[str, Geometry] = {geometry.name: geometry for geometry in (ZTF, DES, LSST)}


def geometry_of(survey: str) -> Geometry:
    """Return the preset of a survey.

    Raises
    ------
    ValueError
        Where there is none of that name.
    """
    try:
        return GEOMETRIES[survey]
    except KeyError:
        known = ", ".join(GEOMETRIES)
        raise ValueError(f"no simulated geometry for survey {survey!r}; known: {known}") from None
