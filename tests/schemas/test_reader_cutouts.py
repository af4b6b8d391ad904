"""Cutouts as packets have them: missing, broken, of every type and size; the rest of the alert is read."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from few_fields import STAMP, fits, nullable, ztf_like

from space2vec.schemas.alert import Alert, Plane
from space2vec.schemas.errors import Reason

Make = Callable[..., bytes]
One = Callable[[bytes], Alert]
PLANES = (Plane.SCIENCE, Plane.TEMPLATE, Plane.DIFFERENCE)


class TestCutouts:
    @pytest.mark.parametrize("version", ["3.3", "4.02"])
    def test_null(self, ztf: Make, one: One, version: str) -> None:
        alert = one(ztf((None, None, None), schema=version))
        assert not alert.stamps
        assert {str(fault) for fault in alert.faults.values()} == {
            f"stamp_missing: cutout{name}: null" for name in ("Science", "Template", "Difference")
        }
        assert {fault.alert_id for fault in alert.faults.values()} == {2695378462115010012}

    @pytest.mark.parametrize("missing", [0, 1, 2])
    def test_one_null(self, lsst: Make, one: One, triplet: Any, missing: int) -> None:
        stamps = [*triplet(30)]
        stamps[missing] = None
        alert = one(lsst(stamps))
        assert set(alert.faults) == {PLANES[missing]}
        assert len(alert.stamps) == 2

    def test_not_in_the_schema(self, container: Make, one: One) -> None:
        alert = one(container(*ztf_like({"cutoutScience": STAMP, "cutoutDifference": STAMP})))
        assert str(alert.faults[Plane.TEMPLATE]) == (
            "stamp_missing: cutoutTemplate: the schema has no cutoutTemplate"
        )

    def test_bytes_or_record(self, container: Make, one: One) -> None:
        cutout = {
            "type": "record",
            "name": "cutout",
            "fields": [{"name": "stampData", "type": nullable("bytes")}],
        }
        stamps = {"cutoutScience": {"stampData": STAMP}, "cutoutTemplate": STAMP}
        stamps["cutoutDifference"] = {"stampData": None}
        schema, record = ztf_like(stamps, cutoutScience=cutout, cutoutDifference="cutout")
        alert = one(container(schema, record))
        assert set(alert.stamps) == {Plane.SCIENCE, Plane.TEMPLATE}
        assert "stampData" in str(alert.faults[Plane.DIFFERENCE])

    def test_a_string_is_no_cutout(self, container: Make, one: One) -> None:
        alert = one(container(*ztf_like({"cutoutScience": "SIMPLE"}, cutoutScience="string")))
        assert alert.faults[Plane.SCIENCE].reason is Reason.STAMP_NOT_FITS

    @pytest.mark.parametrize(
        ("cutout", "reason"),
        [
            (b"\xff\xd8\xff\xe0JFIF", Reason.STAMP_NOT_FITS),
            (gzip.compress(b""), Reason.STAMP_MISSING),
            (b"", Reason.STAMP_MISSING),
            (gzip.compress(STAMP)[:-100], Reason.STAMP_DAMAGED),
            (gzip.compress(bytes(32 << 20)), Reason.STAMP_TOO_LARGE),
        ],
        ids=["JPEG", "gzip of nothing", "nothing", "cut short", "bomb"],
    )
    def test_broken(self, container: Make, one: One, cutout: bytes, reason: Reason) -> None:
        alert = one(container(*ztf_like({"cutoutScience": STAMP, "cutoutDifference": cutout})))
        assert alert.faults[Plane.DIFFERENCE].reason is reason
        assert Plane.SCIENCE in alert.stamps

    def test_mixed_forms(self, container: Make, one: One) -> None:
        doubles = fits(np.arange(12, dtype=np.float64).reshape(3, 4))
        stamps = {"cutoutScience": gzip.compress(STAMP, mtime=0), "cutoutTemplate": STAMP}
        alert = one(container(*ztf_like(stamps | {"cutoutDifference": doubles})))
        assert {stamp.dtype for stamp in alert.stamps.values()} == {np.dtype(np.float32)}
        assert alert.stamps[Plane.DIFFERENCE].shape == (3, 4)

    @pytest.mark.parametrize(("rows", "cols", "x", "y"), [(41, 63, 700.0, 10.4), (63, 42, 3062.0, 739.0)])
    def test_cut_at_the_chips_edge(
        self, ztf: Make, one: One, triplet: Any, rows: int, cols: int, x: float, y: float
    ) -> None:
        alert = one(ztf(triplet(rows, cols), xpos=x, ypos=y))
        assert {stamp.shape for stamp in alert.stamps.values()} == {(rows, cols)}
        # ZTF counts pixels from one.
        assert (alert.x, alert.y) == pytest.approx((x - 1, y - 1), abs=1e-4)

    def test_pixels_that_are_not_there(self, ztf: Make, one: One, triplet: Any) -> None:
        stamps = triplet()
        stamps[0, :20] = np.nan
        alert = one(ztf(stamps))
        assert np.isnan(alert.stamps[Plane.SCIENCE]).sum() == 20 * 63
        assert not np.isnan(alert.stamps[Plane.TEMPLATE]).any()

    @pytest.mark.parametrize("side", [30, 31, 93, 102])
    def test_lsst_stamps_of_any_size(self, lsst: Make, one: One, triplet: Any, side: int) -> None:
        alert = one(lsst(triplet(side)))
        assert {stamp.shape for stamp in alert.stamps.values()} == {(side, side)}
