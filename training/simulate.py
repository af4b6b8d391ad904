"""Labelled candidates of a simulated survey: the sky, exposed, subtracted, detected, cut out."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass, fields
from itertools import count as count_up

import numpy as np
from numpy.typing import NDArray

from space2vec.schemas.settings import RaySettings
from space2vec.training.detect import Detection, cut, detect
from space2vec.training.field import BORDER, SIZE, Field, observe
from space2vec.training.surveys import Geometry, geometry_of
from space2vec.workers.ray_runtime import ray_runtime

_AHEAD = 2  # fields in flight per process; each is 0.1 s of work, its result 1 to 4 MB


@dataclass(frozen=True, slots=True)
class Candidates:
    """Detections of a simulated survey, one row each.

    Attributes
    ----------
    stamps : (N, 3, S, S) float32
        Science, template, difference in the survey's units (see ``zero_point``), NaN where there is no
        pixel; the peak on row and column ``S // 2``. Where the survey flips the difference of negative
        sources (ZTF does, LSST does not), so is it here.
    kind : (N,) uint8
        Index into `space2vec.training.events.KINDS`; 0 where bogus.
    cause : (N,) uint8
        Index into `space2vec.training.causes.CAUSES`; 0 where real.
    snr : (N,) float32
        Signal to noise of the detection, 5 or more.
    negative : (N,) bool
        Whether the source is fainter in the science image than in the template.
    flux, flux_err : (N,) float32
        PSF flux (its absolute value) and its error, survey units.
    fwhm, template_fwhm : (N,) float32
        Seeing of the two images, pixels.
    severity : (N,) float32
        How badly the field was reduced: 1 is usual.
    x, y : (N,) float32
        Pixel on the detector, from 0.
    ra, dec : (N,) float64
        Degrees.
    field : (N,) int32
        Number of the field; fields share no pixel and no star.
    """

    stamps: NDArray[np.float32]
    kind: NDArray[np.uint8]
    cause: NDArray[np.uint8]
    snr: NDArray[np.float32]
    negative: NDArray[np.bool_]
    flux: NDArray[np.float32]
    flux_err: NDArray[np.float32]
    fwhm: NDArray[np.float32]
    template_fwhm: NDArray[np.float32]
    severity: NDArray[np.float32]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    field: NDArray[np.int32]
    survey: str

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def real(self) -> NDArray[np.bool_]:
        """Whether each candidate is an injected event, ``(N,)`` bool."""
        return np.equal(self.cause, 0)

    @property
    def flipped(self) -> NDArray[np.bool_]:
        """Whether each difference stamp is template minus science, ``(N,)`` bool."""
        return self.negative & geometry_of(self.survey).flips_negative

    @property
    def zero_point(self) -> float:
        """AB magnitude of one unit of flux."""
        return geometry_of(self.survey).zero_point

    def take(self, rows: slice | NDArray[np.integer] | NDArray[np.bool_]) -> Candidates:
        """Return some of the rows."""
        columns = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "survey"}
        return Candidates(**{name: column[rows] for name, column in columns.items()}, survey=self.survey)


def generate(
    survey: str,
    count: int,
    seed: int,
    *,
    size: int | None = None,
    processes: int = 1,
    progress: Callable[[int], object] | None = None,
) -> Candidates:
    """Simulate a survey until it has given ``count`` candidates.

    The same arguments give the same bits, however many processes do the work.

    Parameters
    ----------
    survey : str
        ``ztf``, ``des`` or ``lsst``.
    count : int
        How many candidates; about half are real.
    seed : int
        Fields are numbered, and each draws from its own generator ``(seed, number)``.
    size : int, optional
        Side of the stamps in pixels; the survey's own by default.
    processes : int
        More than one: that many fields at a time are simulated as tasks of Ray, of the one that `simulators` or
        the caller has joined, or else of one started here for this call.
    progress : callable, optional
        Told the number of candidates so far after each field.

    Raises
    ------
    ValueError
        Where no such survey is known or ``count`` is less than 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    side = size or geometry_of(survey).stamp
    parts: list[Candidates] = []
    gathered = 0
    with closing(simulate_fields(survey, seed, side, processes)) as simulated:
        for part in simulated:
            parts.append(part)
            gathered += len(part)
            if progress is not None:
                progress(min(gathered, count))
            if gathered >= count:
                break
    return concatenate(parts).take(slice(count))


def concatenate(parts: list[Candidates]) -> Candidates:
    """Join candidates of one survey and one stamp size."""
    names = [f.name for f in fields(Candidates) if f.name != "survey"]
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Candidates(**joined, survey=parts[0].survey)


@contextmanager
def simulators(processes: int, ray_address: str | None = None) -> Iterator[int]:
    """Have for the length of the block what simulates, so that Ray starts once for many calls of `generate`.

    Parameters
    ----------
    processes : int
        How many on this machine; one is this process itself, more are a Ray of so many CPUs.
    ray_address : str, optional
        The Ray cluster that simulates instead, on every CPU it has.

    Yields
    ------
    int
        ``processes`` for `generate`.

    Raises
    ------
    ConfigError
        If the cluster cannot be joined.
    """
    if processes == 1 and ray_address is None:
        yield 1
        return
    runtime = ray_runtime(RaySettings(address=ray_address), cpus=processes)
    with redirect_stdout(sys.stderr), runtime:  # Ray prints
        import ray

        # Two at least: one would be this process.
        yield processes if ray_address is None else max(2, int(ray.cluster_resources().get("CPU", 0)))


def simulate_fields(
    survey: str, seed: int, size: int, processes: int = 1
) -> Generator[Candidates, None, None]:
    """Simulate field after field, without end, in order; arguments as for `generate`.

    Close it to cancel what is in flight.
    """
    numbers = count_up()
    if processes == 1:
        for number in numbers:
            yield simulate_field(survey, seed, number, size)
    with ray_runtime(RaySettings(), cpus=processes):
        import ray

        task = ray.remote(num_cpus=1)(simulate_field)
        waiting = deque(task.remote(survey, seed, next(numbers), size) for _ in range(_AHEAD * processes))
        try:
            while True:
                # A copy: Ray's arrays are read-only, and keep their place in its store while anyone has them.
                field = deepcopy(ray.get(waiting[0]))
                waiting.popleft()
                waiting.append(task.remote(survey, seed, next(numbers), size))
                yield field
        finally:
            if ray.is_initialized():  # once Ray has ended, to cancel would start one
                for reference in waiting:
                    ray.cancel(reference)


def simulate_field(survey: str, seed: int, number: int, size: int) -> Candidates:
    """Simulate one field; arguments as for `generate`, with the field's number."""
    geometry = geometry_of(survey)
    rng = np.random.default_rng([seed, number])
    field = observe(geometry, rng)
    detections = detect(field)
    rng.shuffle(detections)
    return _candidates(field, detections, rng, number, size)


def _candidates(
    field: Field, detections: list[Detection], rng: np.random.Generator, number: int, size: int
) -> Candidates:
    geometry, conditions, n = field.geometry, field.conditions, len(detections)
    x = np.array([d.x - BORDER for d in detections], np.float32)
    y = np.array([d.y - BORDER for d in detections], np.float32)
    snr = np.array([d.snr for d in detections], np.float32)
    scale = survey_units(geometry, conditions.limit)
    flux = np.abs(np.array([scale * d.flux for d in detections], np.float32))
    ra, dec = _positions(geometry, rng, x, y)
    negative = snr < 0
    stamps = np.empty((n, 3, size, size), np.float32)
    for i, d in enumerate(detections):
        stamps[i] = cut(field, d.x, d.y, size)
    stamps *= np.float32(scale)
    if geometry.pedestal:
        stamps[:, :2] += _sky(geometry, rng, scale)[None, :, None, None]
    if geometry.flips_negative:
        stamps[negative, 2] *= -1
    return Candidates(
        stamps=stamps,
        kind=np.array([d.kind for d in detections], np.uint8),
        cause=np.array([d.cause for d in detections], np.uint8),
        snr=np.abs(snr),
        negative=negative,
        flux=flux,
        flux_err=np.asarray(flux / np.abs(snr), np.float32),
        fwhm=np.full(n, conditions.psf.fwhm, np.float32),
        template_fwhm=np.full(n, conditions.template_psf.fwhm, np.float32),
        severity=np.full(n, conditions.severity, np.float32),
        x=x,
        y=y,
        ra=ra,
        dec=dec,
        field=np.full(n, number, np.int32),
        survey=geometry.name,
    )


def survey_units(geometry: Geometry, limit: float) -> float:
    """Survey flux units per electron, where ``limit`` electrons are a source of magnitude ``m5``."""
    return float(10 ** (0.4 * (geometry.zero_point - geometry.m5))) / limit


def _sky(geometry: Geometry, rng: np.random.Generator, scale: float) -> NDArray[np.float32]:
    """Sky level of the science image and the template, survey units."""
    return (geometry.sky * scale * np.exp(rng.normal(0, 0.3, 2))).astype(np.float32)


def _positions(
    geometry: Geometry, rng: np.random.Generator, x: NDArray[np.float32], y: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Place the field on the sky, away from the poles, and its pixels with it (tangent plane, first order)."""
    ra, dec = rng.uniform(0, 360), rng.uniform(-60, 60)
    degrees = geometry.pixel_scale / 3600
    declination = dec + (y.astype(np.float64) - SIZE / 2) * degrees
    east = (x.astype(np.float64) - SIZE / 2) * degrees / np.cos(np.radians(dec))
    return (ra - east) % 360, declination
