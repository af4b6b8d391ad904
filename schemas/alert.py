"""What an alert is, once a packet has been opened: the record every room passes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from space2vec.schemas.errors import StampError

if TYPE_CHECKING:
    from space2vec.schemas.packet import Packet


class Plane(StrEnum):
    """The three cutouts of a triplet, in the order this field stacks them."""

    SCIENCE = "science"
    TEMPLATE = "template"
    DIFFERENCE = "difference"


@dataclass(slots=True)
class Alert:
    """One alert: what we need of its record, its stamps, and the packet it came in. Nobody changes one.

    It is not frozen all the same: that makes making one four times as dear.

    Attributes
    ----------
    survey : str
        Name of the survey profile that matched (``ztf``, ``lsst``, ...).
    alert_id : int
        candid, diaSourceId or the like; a signed 64-bit integer.
    object_id : str or None
        The object the alert belongs to; ``None`` where the survey gives none.
    mjd_tai : float or None
        Mid-exposure time, MJD in days, TAI scale.
    ra, dec : float or None
        Position in degrees, ICRS.
    negative : bool or None
        Whether the source is fainter in the science image than in the template.
    flipped : bool
        Whether the difference stamp's pixels are template minus science, as ZTF does for negative
        alerts, so that the source is positive in it.
    x, y : float or None
        Position on the detector in pixels, counted from 0 at the centre of the first pixel; where it
        is known, a stamp cut short at the chip edge can be put back in place.
    nominal_size : int or None
        Side in pixels of an uncut stamp, for surveys that have one.
    stamps : mapping of Plane to array
        The cutouts that could be read: ``(rows, cols)``, float32, native byte order, C order,
        NaN where there is no pixel, in the survey's units.
    faults : mapping of Plane to StampError
        Why each of the others could not.
    schema_version : str or None
        As the packet states it.
    packet : Packet
        Framing, writer schema and body bytes, for annotating.
    """

    survey: str
    alert_id: int
    object_id: str | None
    mjd_tai: float | None
    ra: float | None
    dec: float | None
    negative: bool | None
    flipped: bool
    x: float | None
    y: float | None
    nominal_size: int | None
    stamps: Mapping[Plane, NDArray[np.float32]]
    faults: Mapping[Plane, StampError]
    schema_version: str | None
    packet: Packet = field(repr=False)
