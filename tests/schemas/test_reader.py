"""What the reader makes of a packet, of any framing: one alert for each record, field by field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from few_fields import CANDIDATE, STAMP, nullable, ztf_like

from space2vec.schemas.alert import Alert, Plane
from space2vec.schemas.errors import PacketError, Reason, SchemaUnavailable
from space2vec.schemas.packet import Framing, WriterSchema
from space2vec.schemas.reader import PacketReader

Make = Callable[..., bytes]
One = Callable[[bytes], Alert]
Failure = Callable[[bytes], PacketError]
PLANES = (Plane.SCIENCE, Plane.TEMPLATE, Plane.DIFFERENCE)


class TestFraming:
    def test_container(self, ztf: Make, one: One, triplet: Any) -> None:
        alert = one(ztf())
        assert (alert.survey, alert.alert_id, alert.object_id) == ("ztf", 2695378462115010012, "ZTF18abudxnw")
        assert (alert.ra, alert.dec) == (295.3031995, -10.3958989)
        # Leap seconds since 2017: 37; half an exposure: 15 s.
        assert alert.mjd_tai == pytest.approx(60449.3784606 + (37 + 15) / 86400, abs=1e-9)
        assert (alert.negative, alert.flipped, alert.nominal_size) == (False, False, 63)
        assert (alert.x, alert.y) == (1535.0, 1539.0)
        assert alert.schema_version == "4.02"
        assert not alert.faults
        for plane, expected in zip(PLANES, triplet(), strict=True):
            np.testing.assert_array_equal(alert.stamps[plane], expected)
        assert (alert.packet.framing, alert.packet.schema_id) == (Framing.CONTAINER, None)
        assert alert.packet.decode()["candidate"]["ra"] == 295.3031995

    def test_confluent(self, lsst: Make, one: One, triplet: Any) -> None:
        raw = lsst(negative=True)
        alert = one(raw)
        assert (alert.survey, alert.alert_id) == ("lsst", 169298433221853273)
        assert alert.object_id == "169298433221850001"
        assert alert.mjd_tai == 61095.33222194851
        assert (alert.negative, alert.flipped, alert.nominal_size) == (True, False, None)
        assert (alert.x, alert.y) == (2036.0, 2000.0)
        for plane, expected in zip(PLANES, triplet(30), strict=True):
            np.testing.assert_array_equal(alert.stamps[plane], expected)
        assert (alert.packet.framing, alert.packet.schema_id) == (Framing.CONFLUENT, 1100)
        assert alert.packet.body == raw[5:]

    @pytest.mark.parametrize("codec", ["null", "deflate", "snappy"])
    def test_compressed(self, ztf: Make, one: One, codec: str) -> None:
        assert one(ztf(codec=codec)).packet.body == one(ztf()).packet.body

    @pytest.mark.parametrize("codec", ["null", "deflate", "snappy", "xz"])
    def test_many_records(self, container: Make, reader: PacketReader, codec: str) -> None:
        schema, record = ztf_like({"cutoutScience": STAMP})
        records = [record | {"candid": number} for number in range(67)]
        alerts = list(reader.read(container(schema, *records, codec=codec)))
        assert [alert.alert_id for alert in alerts] == list(range(67))
        bodies = {alert.packet.body for alert in alerts if isinstance(alert, Alert)}
        assert len(bodies) == 67

    def test_no_record_is_no_error(self, container: Make, reader: PacketReader) -> None:
        assert list(reader.read(container(ztf_like({})[0]))) == []

    @pytest.mark.parametrize(
        ("raw", "reason", "words"),
        [
            (b"", Reason.EMPTY, "no bytes"),
            (b"\x00\x00\x00\x04\x4c", Reason.BAD_FRAMING, "00000004"),
            (b"{}", Reason.BAD_FRAMING, "7b7d"),
            (b"Obj\x02" + bytes(50), Reason.BAD_FRAMING, "neither an Avro container"),
            (b"Obj\x01", Reason.DAMAGED_CONTAINER, "header"),
        ],
    )
    def test_anything_else(self, error: Failure, raw: bytes, reason: Reason, words: str) -> None:
        found = error(raw)
        assert found.reason is reason
        assert words in found.detail

    def test_unknown_id_says_whom_it_asked(self) -> None:
        (found,) = PacketReader(None).read(b"\x00\x00\x00\x30\x39" + bytes(50))
        assert isinstance(found, PacketError)
        assert found.reason is Reason.UNKNOWN_SCHEMA
        assert "12345" in found.detail

    def test_registry_out_of_reach_is_not_the_packets_fault(self, lsst: Make) -> None:
        class Down:
            def get(self, schema_id: int) -> WriterSchema:
                raise SchemaUnavailable("down")

        with pytest.raises(SchemaUnavailable):
            list(PacketReader(Down()).read(lsst()))


class TestFields:
    @pytest.mark.parametrize("candid", [-7, 2_700_000_000_000_000_001, (1 << 63) - 1])
    def test_alert_ids_are_whole_64_bit_numbers(self, ztf: Make, one: One, candid: int) -> None:
        assert one(ztf(alert_id=candid)).alert_id == candid

    @pytest.mark.parametrize(
        ("raw", "expected"), [("123", 123), ("-5", -5), ("01a59485o0083o_002297", 380852906498702811)]
    )
    def test_alert_ids_in_strings(self, container: Make, one: One, raw: str, expected: int) -> None:
        schema, record = ztf_like({"candid": raw, "cutoutScience": STAMP}, candid="string")
        assert one(container(schema, record)).alert_id == expected

    def test_no_alert_id(self, container: Make, error: Failure) -> None:
        schema, record = ztf_like({"candid": None, "cutoutScience": STAMP}, candid=nullable("long"))
        found = error(container(schema, record))
        assert (found.reason, found.field) == (Reason.MISSING_FIELD, "candid")
        assert (found.survey, found.object_id) == ("ztf", "ZTF1")

    @pytest.mark.parametrize(
        ("value", "kind", "negative"),
        [
            *[("t", "string", False), ("f", "string", True), ("1", "string", False), ("0", "string", True)],
            *[("?", "string", None), (True, "boolean", False), (False, "boolean", True)],
            *[(1.0, "float", False), (0, "int", True), (-1, "int", True), (float("nan"), "float", None)],
            (None, nullable("string"), None),
        ],
    )
    def test_signs(self, container: Make, one: One, value: Any, kind: Any, negative: bool | None) -> None:
        candidate = CANDIDATE | {"isdiffpos": value}
        schema, record = ztf_like({"cutoutScience": STAMP}, candidate, isdiffpos=kind)
        alert = one(container(schema, record))
        assert (alert.negative, alert.flipped) == (negative, negative is True)

    @pytest.mark.parametrize(("name", "flipped"), [("x_refmsci.fits.gz", True), ("x_scimref.fits.gz", False)])
    def test_the_file_name_tells_how_the_difference_is_turned(
        self, container: Make, one: One, name: str, flipped: bool
    ) -> None:
        fields = [{"name": "fileName", "type": "string"}, {"name": "stampData", "type": "bytes"}]
        cutout = {"type": "record", "name": "cutout", "fields": fields}
        difference = {"fileName": name, "stampData": STAMP}
        schema, record = ztf_like(
            {"cutoutDifference": difference},
            CANDIDATE | {"isdiffpos": None},
            cutoutDifference=cutout,
            isdiffpos=nullable("string"),
        )
        alert = one(container(schema, record))
        assert (alert.negative, alert.flipped) == (flipped, flipped)

    def test_positions_that_are_no_numbers(self, ztf: Make, one: One) -> None:
        alert = one(ztf(ra=float("nan"), dec=float("inf"), jd=float("nan")))
        assert (alert.ra, alert.dec, alert.mjd_tai) == (None, None, None)

    def test_asteroids_have_no_object_but_their_own(self, lsst: Make, one: One) -> None:
        assert one(lsst(object_id=None)).object_id is None
