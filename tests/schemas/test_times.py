from __future__ import annotations

import pytest
from astropy.time import Time

from space2vec.schemas.times import Scale, mjd_tai

# Two microseconds: what a Julian date in double precision leaves.
PRECISION_DAYS = 5e-10


@pytest.mark.parametrize("scale", ["utc", "tai", "tt"])
@pytest.mark.parametrize("mjd", [41317.5, 57752.9, 57754.00001, 58119.2, 60449.3784606, 61095.3])
def test_agrees_with_astropy(mjd: float, scale: str) -> None:
    expected = Time(mjd, format="mjd", scale=scale).tai.mjd
    assert mjd_tai(mjd, f"mjd_{scale}") == pytest.approx(expected, abs=PRECISION_DAYS)  # type: ignore[arg-type]
    jd: Scale = f"jd_{scale}"  # type: ignore[assignment]
    assert mjd_tai(mjd + 2400000.5, jd) == pytest.approx(expected, abs=PRECISION_DAYS)


def test_leap_second_of_2017() -> None:
    before, after = mjd_tai(57753.9, "mjd_utc") - 57753.9, mjd_tai(57754.1, "mjd_utc") - 57754.1
    assert (after - before) * 86400 == pytest.approx(1.0, abs=1e-5)
