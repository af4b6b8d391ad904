"""From pixel values to network inputs: the one place where that is defined.

Per plane, and by the rule of our own bundles: subtract the median of the finite pixels, divide by their noise
(1.4826 times the median absolute deviation, which is the standard deviation for Gaussian noise), bend with
arcsinh, clip, interpolate over short gaps, and put zero where there is still no pixel. So neither a sky pedestal nor
the unit of flux reaches the network: ZTF counts with sky, LSST nJy without, and simulated pixels land in one space.
What is noticed of a plane does not depend on the rule.

Median and deviation are exact and over the whole stamp, whatever part of it the network sees. All is float32:
the subtraction of the median loses nothing where it matters (values near it differ from it by less than a factor
two, Sterbenz), so a pedestal costs only what it cost the survey when it rounded its own pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.lib.introspect import opt_func_info
from numpy.typing import NDArray

from space2vec.workers.gaps import close_gaps
from space2vec.workers.manifest import InputSpec, Normalisation
from space2vec.workers.medians import medians

MAD_TO_SIGMA = 1.4826
CHUNK_PIXELS = 1 << 17
"""Pixels worked on at once, 33 planes of ZTF: fewer cost more in numpy's overhead than they gain in cache."""

NO_PIXEL = 1e30
"""A pixel of this magnitude is none: ZTF's templates hold -3.4e38, the lowest float32, where they have no value."""

_SIGN_BIT = np.uint32(1 << 31)
_FLOAT32 = np.finfo(np.float32)


class Window(NamedTuple):
    """Which part of a stamp lands on which part of the canvas."""

    stamp: tuple[slice, slice]
    canvas: tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class PlaneReport:
    """What was noticed while normalising a plane.

    Attributes
    ----------
    holes : bool
        Some pixel inside the window has no value.
    infinite : bool
        Some pixel of the stamp is infinite, or as good as that (:data:`NO_PIXEL`).
    noiseless : bool
        The median absolute deviation is zero (more than half of the pixels are equal) or not a number.
    blank : bool
        There is no pixel with a value, or all values are equal.
    """

    holes: bool = False
    infinite: bool = False
    noiseless: bool = False
    blank: bool = False


def window(shape: tuple[int, int], source: tuple[int, int], size: int) -> Window:
    """Lay a stamp on a canvas so that the source pixel comes to ``(size // 2, size // 2)``.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of the stamp.
    source : (int, int)
        Row and column of the source, which lies in it.
    size : int
        Side of the canvas.
    """
    stamp, canvas = zip(
        *(_overlap(length, size, size // 2 - at) for length, at in zip(shape, source, strict=True)),
        strict=True,
    )
    return Window(stamp, canvas)


def _overlap(length: int, size: int, shift: int) -> tuple[slice, slice]:
    """Where a run of ``length`` pixels, moved by ``shift``, meets ``0:size``: in its own and in canvas pixels."""
    start, stop = max(0, shift), min(size, shift + length)
    return slice(start - shift, stop - shift), slice(start, stop)


def normalise_planes(
    planes: NDArray[np.float32], lay: Window, spec: InputSpec, out: NDArray[np.float32]
) -> dict[int, PlaneReport]:
    """Normalise planes of one shape and one window.

    Parameters
    ----------
    planes : (M, rows, cols) float32, C order
        Pixel values; used as scratch, so the caller's own copy is gone afterwards.
    lay : Window
        What part of them goes to ``out``.
    spec : InputSpec
        How to normalise, and what becomes of pixels without a value.
    out : (M, window rows, window cols) float32
        Where the result is written.

    Returns
    -------
    dict of int to PlaneReport
        What was noticed, by plane; planes of which there is nothing to tell are left out.
    """
    if not planes.size:
        return dict.fromkeys(range(len(planes)), PlaneReport(noiseless=True, blank=True))
    rule = spec.normalisation
    values = planes.reshape(len(planes), -1)
    with np.errstate(over="ignore", invalid="ignore"):
        # One sum of squares per plane tells whether any pixel is not a number, or too large for one.
        ragged = _where(~np.isfinite(np.vecdot(values, values)))
        infinite = [row for row in ragged if np.fmax.reduce(np.abs(values[row])) >= NO_PIXEL]
        for row in infinite:
            values[row][np.abs(values[row]) >= NO_PIXEL] = np.nan
        lost = {row: np.flatnonzero(np.isnan(values[row])) for row in ragged}

        if rule.kind != "median_mad_arcsinh":
            out[...] = planes[(slice(None), *lay.stamp)] * _factors(values, rule)[:, None, None]
        scratch = values.copy()
        values -= medians(scratch, lost)[:, None]
        np.abs(values, out=scratch)
        deviation = medians(scratch, lost, unsigned=True)

        inside = planes[(slice(None), *lay.stamp)]
        if rule.kind == "median_mad_arcsinh":
            _bend(inside, deviation, scratch, rule, out)

    noiseless = _where(~((deviation > 0) & (deviation < np.inf)))
    odd = sorted({*ragged, *noiseless})
    whole = inside.shape == planes.shape
    holed = [row for row in ragged if lost[row].size and (whole or np.isnan(inside[row]).any())]
    if holed and spec.missing_pixel == "interpolated":
        closed = out[holed]
        close_gaps(closed)
        out[holed] = closed
    for row in odd:
        np.copyto(out[row], 0.0, where=np.isnan(out[row]))
    return {
        row: PlaneReport(
            holes=row in holed,
            infinite=row in infinite,
            noiseless=row in noiseless,
            blank=row in noiseless and not np.nan_to_num(values[row]).any(),
        )
        for row in odd
    }


def _where(rows: NDArray[np.bool_]) -> list[int]:
    return [row for row, true in enumerate(rows.tolist()) if true]


def _factors(values: NDArray[np.float32], rule: Normalisation) -> NDArray[np.float32]:
    """What each plane, ``(M, pixels)``, is multiplied by: one over its norm, of ``none`` one."""
    if rule.kind == "none":
        return np.ones(len(values), np.float32)
    norm = np.sqrt(np.nansum(np.square(values, dtype=np.float64), axis=1))
    factors: NDArray[np.float32] = (1.0 / np.maximum(norm, _FLOAT32.tiny)).astype(np.float32)
    return factors


def _bend(
    inside: NDArray[np.float32],
    deviation: NDArray[np.float32],
    scratch: NDArray[np.float32],
    rule: Normalisation,
    out: NDArray[np.float32],
) -> None:
    """``out = clip(arcsinh(inside / noise / softening))``; the scratch array is at least as large as ``inside``."""
    noise = np.maximum(deviation.astype(np.float64) * MAD_TO_SIGMA, _FLOAT32.tiny)
    scale = np.minimum(1.0 / (noise * rule.softening), _FLOAT32.max).astype(np.float32)
    # The window's pixels, packed.
    packed = scratch.reshape(-1)[: inside.size].reshape(inside.shape)
    np.multiply(inside, scale[:, None, None], out=packed)
    _arcsinh(packed, out)
    np.clip(out, -rule.clip, rule.clip, out=out)


def _arcsinh_by_log(x: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """``out = arcsinh(x)`` to 6e-7; ``x`` (C order) is used up.

    As ``log(|x| + sqrt(x^2 + 1))`` with the sign put back.
    """
    sign = x.view(np.uint32) & _SIGN_BIT
    np.abs(x, out=x)
    root = x * x
    root += 1.0
    np.sqrt(root, out=root)
    root += x
    np.log(root, out=root)
    np.bitwise_or(root.view(np.uint32), sign, out=out.view(np.uint32))


def _vectorised(function: str) -> bool:
    """Tell whether numpy has SIMD code of a function of float32 for this processor."""
    loops = opt_func_info(func_name=f"^{function}$", signature="float32").get(function, {})
    return any(not loop["current"].startswith("baseline") for loop in loops.values())


# numpy's own is three times as fast where there is AVX-512, and far slower elsewhere. They differ by up to 1e-6, so
# that the processor decides, not a stopwatch: the same alert gets the same score again.
_arcsinh = np.arcsinh if _vectorised("arcsinh") else _arcsinh_by_log
