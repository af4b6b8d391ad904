"""Exact medians of many rows of numbers at once, the dearest step between a packet and the network.

Partitioning is the natural way. But numpy's code for AVX-512 leans on an instruction (``vpcompress`` to memory) that
AMD's Zen 4 executes in microcode: there 3969 pixels take 24 microseconds, against 4 by the code for AVX2. Rows of
up to 512 numbers, however, numpy sorts in registers, by networks that do without that instruction. So where it
turns out to be faster, a row is dealt out to blocks of that size, the blocks are sorted, and the median is looked
for among the middle values of each. That is exact where the values left out lie on their side of what is found;
the few rows where they do not are partitioned.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

_BLOCK = 512
"""Numbers that are sorted in registers."""
_REACH = 31
"""Values taken on each side of a block's middle: 2.8 standard deviations of the median's rank in it."""

Rows = NDArray[np.float32]


def medians(rows: Rows, *, unsigned: bool = False) -> NDArray[np.float32]:
    """Median of each row, as numpy has it: of an even number of values, the mean of the middle two.

    Parameters
    ----------
    rows : (M, N) float32, C order
        Without NaN; left in any order.
    unsigned : bool
        Whether no value is negative.

    Returns
    -------
    (M,) float32
    """
    if rows.shape[1] > _BLOCK and _blocks_pay():
        return _by_blocks(rows, unsigned)
    return _by_partition(rows, unsigned)


def _by_partition(rows: Rows, unsigned: bool) -> NDArray[np.float32]:
    # np.median would copy, take the mean of a slice and look for NaN again: eight times the cost. And integers are
    # partitioned in half the time. Read as such, numbers without a sign keep their order and those with one
    # come before them, so a median without one is where it should be; of the others the mirror image has none.
    middle = rows.shape[1] // 2
    rows.view(np.int32).partition(middle, axis=1)
    upper = rows[:, middle].copy()
    found = upper if rows.shape[1] % 2 else _mean(rows[:, :middle].max(axis=1), upper)
    (below_zero,) = np.nonzero(np.signbit(upper)) if not unsigned else ((),)
    if len(below_zero):
        found[below_zero] = -_by_partition(-rows[below_zero], True)
    return found


def _by_blocks(rows: Rows, unsigned: bool) -> NDArray[np.float32]:
    count, length = rows.shape
    number = -(-length // _BLOCK)
    size = length // number
    dealt = number * size
    blocks = np.empty((count, number, size), np.float32)
    # Neighbours go to different blocks, so that each block is a fair sample of the row.
    blocks[...] = rows[:, :dealt].reshape(count, size, number).swapaxes(1, 2)
    blocks.sort(axis=2)
    first, last = size // 2 - _REACH, size // 2 + _REACH
    middle_values = blocks[:, :, first : last + 1].reshape(count, number * (last + 1 - first))
    central = np.concatenate((middle_values, rows[:, dealt:]), axis=1)
    central.sort(axis=1)
    middle = length // 2 - number * first
    upper = central[:, middle]
    lower = upper if length % 2 else central[:, middle - 1]
    exact = (lower >= blocks[:, :, first].max(axis=1)) & (upper <= blocks[:, :, last].min(axis=1))
    found = _mean(lower, upper)
    (others,) = np.nonzero(~exact)
    if others.size:
        found[others] = _by_partition(rows[others], unsigned)
    return found


def _mean(lower: NDArray[np.float32], upper: NDArray[np.float32]) -> NDArray[np.float32]:
    return upper.copy() if lower is upper else (upper + lower) * np.float32(0.5)


@cache
def _blocks_pay() -> bool:
    """Tell which way is faster on this processor; both find the same."""
    rows = np.random.default_rng(1).normal(size=(16, 63 * 63)).astype(np.float32)

    def seconds(way: Callable[[Rows, bool], NDArray[np.float32]]) -> float:
        start = time.perf_counter()
        way(rows.copy(), False)
        return time.perf_counter() - start

    return min(seconds(_by_blocks) for _ in range(3)) < min(seconds(_by_partition) for _ in range(3))
