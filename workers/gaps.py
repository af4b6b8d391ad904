"""Short gaps in a plane: pixels without a value that lie between pixels that have one.

A lost row through a source takes its peak along, and zero there looks like a source torn in two, or like none. What
stands beside the gap tells better what was in it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

REACH = 5
"""Pixels of the longest gap that is closed: 15 % of a stamp's rows, lost at random, seldom leave a longer one."""

_MARGIN = REACH + 1
"""Pixels without a value that are put between lines: a gap that reaches a line's end is longer than any closed."""

Planes = NDArray[np.float32]


class _Bridged(NamedTuple):
    """Pixels of short gaps in lines of one direction, ``(K,)`` each: where they are, how long their gap, what fits."""

    at: NDArray[np.intp]
    gap: NDArray[np.intp]
    value: NDArray[np.float32]


def close_gaps(planes: Planes) -> None:
    """Interpolate the pixels of short gaps, in place.

    A pixel that is NaN, with at most `REACH` such in a line through it and a value at either end of that line, gets
    the linear interpolation of the two values: along its row or its column, whichever gap is the shorter, or the
    mean of both where they are equal. So turned and mirrored planes are closed alike. All others stay NaN.

    Parameters
    ----------
    planes : (M, rows, cols) float32
        Normalised values, NaN where there is none.
    """
    packed = np.ascontiguousarray(planes)
    lost, pixels = np.isnan(packed), packed.reshape(-1)
    along = _bridge(pixels, lost)
    across = _bridge(pixels, lost.swapaxes(1, 2))
    gaps = np.full(pixels.size, _MARGIN, np.uint8)
    gaps[along.at] = along.gap
    pixels[along.at] = along.value
    row_gap = gaps[across.at]
    shared = across.gap == row_gap
    across.value[shared] = (across.value[shared] + pixels[across.at[shared]]) * np.float32(0.5)
    better = across.gap <= row_gap
    pixels[across.at[better]] = across.value[better]
    if packed is not planes:
        planes[...] = packed


def _bridge(pixels: Planes, lost: NDArray[np.bool_]) -> _Bridged:
    """Interpolate over the short gaps in the last axis of ``lost``, a view of packed planes whose values are ``pixels``."""
    count, lines, length = lost.shape
    to_plane, to_line, to_next = lost.strides  # of one byte each, so those of the pixels
    apart = np.ones((count, lines, _MARGIN + length), np.bool_)
    apart[..., _MARGIN:] = lost
    flat = apart.reshape(-1)
    # It begins with a margin, so the first change leads to a value, the next to a gap, and so on in turns.
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts, stops = changes[1::2], changes[2::2]
    starts = starts[: len(stops)]
    short = np.flatnonzero(stops - starts <= REACH)
    starts, gap = starts[short], (stops - starts)[short]
    line, first = np.divmod(starts, _MARGIN + length)
    plane, line = np.divmod(line, lines)
    before = plane * to_plane + line * to_line + (first - _MARGIN - 1) * to_next
    # One entry per pixel: its gap, and how far into that it is.
    of = np.repeat(np.arange(len(gap)), gap)
    low = np.arange(1, len(of) + 1) - np.repeat(np.cumsum(gap) - gap, gap)
    before, gap = before[of], gap[of]
    high = gap + 1 - low
    ends = pixels[before], pixels[before + (gap + 1) * to_next]
    value = ((ends[0] * high + ends[1] * low) / (gap + 1)).astype(np.float32)
    return _Bridged(before + low * to_next, gap, value)
