from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from space2vec.workers import medians as room
from space2vec.workers.medians import medians

WAYS = [room._by_blocks, room._by_partition]
SKY = np.random.default_rng(1).normal(300, 12, (5, 63 * 63)).astype(np.float32)
Y, X = np.mgrid[:63, :63].reshape(2, -1)
ROWS = {
    "sky": SKY,
    "a gradient": SKY + 3 * X + 40 * Y,
    "stripes, as wide as there are blocks": SKY + 1000 * (np.arange(63 * 63) % 8),
    "a bright source": SKY + 5000 * np.exp(-((X - 31) ** 2 + (Y - 31) ** 2) / 40),
    "half of it one value": np.where(X < 40, 7, SKY),
    "all one value": np.full_like(SKY, -3),
    "sorted": np.sort(SKY, axis=1),
    "sorted backwards": np.sort(SKY, axis=1)[:, ::-1],
    "enormous": SKY * np.float32(1e35),
    "tiny": SKY * 1e-42,
    "integers": np.round(SKY),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("length", [900, 3968, 3969])
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS.keys())
def test_either_way_is_exact(rows: Any, way: Callable[..., Any], length: int, sign: int) -> None:
    rows = np.ascontiguousarray(sign * rows[:, :length], np.float32)
    for values, unsigned in ((rows, False), (np.abs(rows), True)):
        ordered = np.sort(values, axis=1)
        lower, upper = ordered[:, (length - 1) // 2], ordered[:, length // 2]
        even = np.full(len(rows), length % 2 == 0)
        found = way(values.copy(), even, unsigned)
        expected = upper if length % 2 else (lower + upper) * np.float32(0.5)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.float32


@settings(max_examples=100)
@given(st.integers(1, 12_000), st.integers(0, 1 << 32), st.integers(1, 50))
def test_both_ways_agree(length: int, seed: int, values: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.choice(rng.normal(size=values), (3, length)).astype(np.float32)
    found = medians(rows.copy())
    even = np.full(3, length % 2 == 0)
    np.testing.assert_array_equal(found, room._by_partition(rows.copy(), even, False))
    if length > room._BLOCK:
        np.testing.assert_array_equal(found, room._by_blocks(rows.copy(), even, False))


@settings(max_examples=200)
@given(st.integers(1, 4000), st.integers(0, 1 << 32), st.sampled_from([-300.0, 0.0, 300.0]), st.booleans())
def test_what_does_not_count_does_not(length: int, seed: int, sky: float, blocks: bool) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(sky, 12, (6, length)).astype(np.float32)
    rows[2:] = np.where(rng.random((4, length)) < rng.choice([0.01, 0.5, 0.99], (4, 1)), np.nan, rows[2:])
    rows[5] = np.nan
    lost = {row: np.flatnonzero(np.isnan(rows[row])) for row in range(1, 6)}
    way = (lambda: True) if blocks else (lambda: False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "_blocks_pay", way)
        for values, unsigned in ((rows, False), (np.abs(rows), True)):
            found = medians(values.copy(), lost, unsigned=unsigned)
            for row, median in enumerate(found):
                kept = np.sort(values[row][~np.isnan(values[row])])
                middle = (
                    (kept[(len(kept) - 1) // 2] + kept[len(kept) // 2]) * np.float32(0.5)
                    if len(kept)
                    else np.nan
                )
                np.testing.assert_array_equal(median, middle)


def test_what_is_left_out_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows whose blocks are no fair samples must not be trusted."""
    partitioned: list[int] = []
    way = room._by_partition

    def counted(rows: Any, even: Any, unsigned: bool) -> Any:
        partitioned.append(len(rows))
        return way(rows, even, unsigned)

    monkeypatch.setattr(room, "_by_partition", counted)
    room._by_blocks(
        ROWS["stripes, as wide as there are blocks"].astype(np.float32), np.zeros(len(SKY), bool), False
    )
    assert partitioned == [len(SKY)]


def test_no_rows() -> None:
    assert medians(np.empty((0, 3969), np.float32)).shape == (0,)
