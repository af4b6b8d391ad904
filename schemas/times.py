"""Surveys' times as MJD on the TAI scale, by the table of leap seconds."""

from __future__ import annotations

from bisect import bisect_right
from datetime import date
from functools import cache
from typing import Literal

import erfa  # type: ignore[import-untyped]

Scale = Literal["jd_utc", "mjd_utc", "jd_tai", "mjd_tai", "jd_tt", "mjd_tt"]

DAY_S = 86400.0
_JD_OF_MJD_0 = 2400000.5
_TT_MINUS_TAI_S = 32.184
_ORDINAL_OF_MJD_0 = date(1858, 11, 17).toordinal()


def mjd_tai(time: float, scale: Scale) -> float:
    """Convert one time.

    Parameters
    ----------
    time : float
        Days.
    scale : str
        What they count.

    Returns
    -------
    float
        MJD in days, TAI. A Julian date in double precision is good to 40 microseconds, and so is this.
    """
    mjd = time - _JD_OF_MJD_0 if scale.startswith("jd") else time
    if scale.endswith("utc"):
        days, offsets = _leap_seconds()
        return mjd + offsets[max(bisect_right(days, mjd) - 1, 0)] / DAY_S
    return mjd - _TT_MINUS_TAI_S / DAY_S if scale.endswith("tt") else mjd


@cache
def _leap_seconds() -> tuple[list[int], list[float]]:
    """Days from which each TAI - UTC holds, as MJD, and the offsets in seconds: ERFA's own table."""
    table = erfa.leap_seconds.get()
    days = [date(int(row["year"]), int(row["month"]), 1).toordinal() - _ORDINAL_OF_MJD_0 for row in table]
    return days, [float(row["tai_utc"]) for row in table]
