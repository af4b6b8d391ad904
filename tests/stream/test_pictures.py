from __future__ import annotations

import numpy as np
import pytest

from space2vec.schemas.alert import Plane
from space2vec.stream.pictures import NO_PIXEL, NO_STAMP, PAPER, Card, contact_sheet, stretch, triplet_picture


def noisy(shape: tuple[int, int] = (31, 31)) -> np.ndarray:
    return np.random.default_rng(3).normal(100, 5, shape).astype(np.float32)


def test_a_star_is_bright_and_the_sky_dark() -> None:
    stamp = noisy()
    stamp[15, 15] = 5000
    levels = stretch(stamp)[..., 0]
    assert levels[15, 15] == 255
    assert np.median(levels) < 100


def test_a_difference_has_zero_in_the_middle() -> None:
    stamp = noisy() - 100
    stamp[15, 15], stamp[3, 3] = 900, -900
    levels = stretch(stamp, symmetric=True)[..., 0].astype(int)
    assert abs(int(np.median(levels)) - 127) < 10
    assert levels[15, 15] == 255
    assert levels[3, 3] == 0


def test_a_missing_pixel_looks_like_no_other() -> None:
    stamp = noisy()
    stamp[:, :4] = np.nan
    colours = stretch(stamp)
    assert (colours[:, :4] == NO_PIXEL).all()
    grey = colours[:, 4:]
    assert (grey[..., 0] == grey[..., 1]).all()
    assert (grey[..., 1] == grey[..., 2]).all()


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
def test_a_stamp_without_contrast_is_drawn_all_the_same(value: float) -> None:
    assert stretch(np.full((5, 5), value, np.float32)).shape == (5, 5, 3)


def test_rows_count_upwards_and_a_missing_plane_is_empty() -> None:
    stamp = np.zeros((4, 4), np.float32)
    stamp[0] = 1000  # the bottom row
    side = 240
    picture = triplet_picture(Card("caption", {Plane.SCIENCE: stamp}), side=side)
    gap = side // 16
    top, bottom = picture.getpixel((gap + 10, gap + 10)), picture.getpixel((gap + 10, gap + side - 10))
    assert isinstance(top, tuple)
    assert isinstance(bottom, tuple)
    assert bottom[0] > top[0] + 50
    assert picture.getpixel((2 * gap + side + 5, gap + 5)) == NO_STAMP


def test_a_sheet_has_a_cell_per_card_and_no_empty_section() -> None:
    card = Card("one\ntwo", {plane: noisy() for plane in Plane})
    small = contact_sheet([("Best", [card] * 3)], columns=2)
    large = contact_sheet([("Best", [card] * 3), ("None", [])], columns=2)
    assert small.size == large.size
    assert contact_sheet([("Best", [card] * 5)], columns=2).size[1] > small.size[1]
    assert contact_sheet([]).getpixel((0, 0)) == PAPER
