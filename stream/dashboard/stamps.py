"""Stamps as PNG, one picture a plane, a pixel for a pixel: the browser enlarges them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from typing import Final

import numpy as np
from PIL import Image

from space2vec.schemas.alert import Plane
from space2vec.schemas.reader import PacketReader
from space2vec.stream.dashboard.entries import open_alert
from space2vec.stream.dashboard.ring import Ring
from space2vec.stream.pictures import stretch

_REMEMBERED: Final = 1000
"""Alerts whose pictures are kept: some 12 kB each."""


class Stamps:
    """Draws the stamps of the alerts that a ring holds.

    Parameters
    ----------
    ring : Ring
        Holds them.
    reader : PacketReader
        Opens them.
    """

    def __init__(self, ring: Ring, reader: PacketReader) -> None:
        self._ring = ring
        self._reader = reader
        self._drawn = lru_cache(_REMEMBERED)(self._draw)

    def png(self, number: int, plane: Plane) -> bytes | None:
        """Give one plane of an alert; ``None`` if either is not there."""
        return self._drawn(number).get(plane) if self._ring.get(number) is not None else None

    def _draw(self, number: int) -> Mapping[Plane, bytes]:
        entry = self._ring.get(number)
        if entry is None:  # it has just made way
            return {}
        stamps = open_alert(entry.value, self._reader).stamps
        return {plane: _png(plane, stamp) for plane, stamp in stamps.items() if stamp.size}


def _png(plane: Plane, stamp: np.ndarray) -> bytes:
    """Draw rows upwards, as in FITS; a pixel without a value is transparent: the page hatches what lies behind."""
    levels = stretch(stamp, symmetric=plane is Plane.DIFFERENCE)[..., 0]
    there = np.where(np.isfinite(stamp), np.uint8(255), np.uint8(0))
    picture = BytesIO()
    Image.fromarray(np.dstack([levels, there])[::-1].copy(), "LA").save(picture, "png", compress_level=1)
    return picture.getvalue()
