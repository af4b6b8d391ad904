"""What real packets do, item by item, on packets that the tests make themselves."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from space2vec.schemas.alert import Alert, Plane
from space2vec.schemas.container import container_header
from space2vec.schemas.errors import PacketError, Reason, SchemaUnavailable, StampError
from space2vec.schemas.limits import Limits
from space2vec.schemas.packet import Framing, WriterSchema
from space2vec.schemas.profiles import Profiles
from space2vec.schemas.reader import PacketReader
from space2vec.schemas.varint import encode_long
from space2vec.training.packet_schemas import LSST_VERSIONS, ZTF_VERSIONS
from space2vec.training.packets import lsst_writer_schema, ztf_packet, ztf_writer_schema

Make = Callable[..., bytes]
One = Callable[[bytes], Alert]
Failure = Callable[[bytes], PacketError]
PLANES = (Plane.SCIENCE, Plane.TEMPLATE, Plane.DIFFERENCE)


def nullable(kind: Any) -> list[Any]:
    return [kind, "null"]


def fits(pixels: Any) -> bytes:
    """Write a plain FITS image."""
    pixels = np.asarray(pixels)
    rows, cols = pixels.shape
    bitpix = -8 * pixels.dtype.itemsize
    cards = [
        "SIMPLE  =  T",
        f"BITPIX  = {bitpix}",
        "NAXIS   = 2",
        f"NAXIS1  = {cols}",
        f"NAXIS2  = {rows}",
        "END",
    ]
    head = "".join(card.ljust(80) for card in cards).ljust(2880).encode()
    body = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    return head + body + bytes(-len(body) % 2880)


STAMP = fits(np.arange(63 * 63, dtype=np.float32).reshape(63, 63))
CANDIDATE = {"jd": 2460449.5, "isdiffpos": "t", "rcid": 21, "ra": 10.0, "dec": -5.0}
FORMS: dict[str, Any] = {
    "jd": "double",
    "isdiffpos": "string",
    "rcid": "int",
    "ra": "double",
    "dec": "double",
}


def ztf_like(alert: dict[str, Any], candidate: dict[str, Any] = CANDIDATE, **kinds: Any) -> tuple[Any, Any]:
    """Make schema and record of a packet with few fields; ``kinds`` are types of fields."""
    fields = [{"name": name, "type": kinds.get(name, FORMS.get(name))} for name in candidate]
    inner = {"type": "record", "name": "candidate", "fields": fields}
    alert = {"candid": 5, "objectId": "ZTF1", "candidate": candidate} | alert
    usual = {"candid": "long", "objectId": "string", "candidate": inner}
    usual |= dict.fromkeys(("cutoutScience", "cutoutTemplate", "cutoutDifference"), nullable("bytes"))
    fields = [{"name": name, "type": kinds.get(name, usual.get(name))} for name in alert]
    return {"type": "record", "name": "alert", "fields": fields}, alert


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


class TestDamage:
    def test_whole_records_before_the_damage_are_read(self, container: Make, reader: PacketReader) -> None:
        schema, record = ztf_like({"cutoutScience": STAMP})
        raw = container(schema, *(record | {"candid": number} for number in range(5)))
        *alerts, last = reader.read(raw[: -len(STAMP) - 500])
        assert [alert.alert_id for alert in alerts] == [0, 1, 2]
        assert isinstance(last, PacketError)
        assert last.reason is Reason.DAMAGED_CONTAINER

    def test_record_is_read_though_its_sync_marker_is_broken(self, ztf: Make, reader: PacketReader) -> None:
        alert, last = reader.read(ztf()[:-1] + b"\x00")
        assert isinstance(alert, Alert)
        assert isinstance(last, PacketError)
        assert "sync marker" in last.detail

    def test_record_that_does_not_follow_its_schema(self, container: Make, reader: PacketReader) -> None:
        schema, record = ztf_like({"cutoutScience": fits(np.ones((3, 3), np.float32))})
        raw = bytearray(container(schema, *(record | {"candid": number} for number in range(3))))
        # All three are in one block; the second's object id claims to be longer than the file.
        second = raw.index(b"\x02\x08ZTF1")
        raw[second + 1 : second + 4] = b"\xfe\xff\x7f"
        alert, last = reader.read(bytes(raw))
        assert isinstance(alert, Alert)
        assert isinstance(last, PacketError)
        assert last.reason is Reason.BAD_RECORD
        assert "record 2 of 3" in last.detail

    def test_later_blocks_are_read_after_a_bad_record(self, ztf: Make, reader: PacketReader) -> None:
        raw = ztf()
        start = raw.index(raw[-16:]) + 16
        bad = b"\x02\x06abc" + raw[-16:]
        found = list(reader.read(raw[:start] + bad + raw[start:]))
        assert [type(each) for each in found] == [PacketError, Alert]

    @pytest.mark.parametrize("count", [0, 2, 1 << 60])
    def test_a_count_that_is_wrong(self, ztf: Make, reader: PacketReader, count: int) -> None:
        raw = ztf()
        start = raw.index(raw[-16:]) + 16
        found = list(reader.read(raw[:start] + encode_long(count) + raw[start + 1 :]))
        errors = [each for each in found if isinstance(each, PacketError)]
        assert len(errors) == 1
        assert len(found) == (1 if count != 2 else 2)

    def test_bytes_left_over(self, lsst: Make, error: Failure) -> None:
        found = error(lsst() + b"\x00")
        assert found.reason is Reason.TRAILING_BYTES
        assert (found.survey, found.alert_id) == ("lsst", 169298433221853273)
        assert found.object_id == "169298433221850001"

    def test_bytes_missing(self, lsst: Make, error: Failure) -> None:
        found = error(lsst()[:-1])
        assert found.reason is Reason.BAD_RECORD
        assert (found.survey, found.alert_id) == ("lsst", 169298433221853273)

    @pytest.mark.parametrize(("written", "read"), [(1100, 1000), (1000, 1100), (900, 800), (800, 1100)])
    def test_the_wrong_schema(self, lsst: Make, error: Failure, written: int, read: int) -> None:
        raw = bytearray(lsst(schema_id=written, history=3))
        raw[1:5] = read.to_bytes(4, "big")
        assert error(bytes(raw)).reason in (Reason.BAD_RECORD, Reason.TRAILING_BYTES)

    def test_string_that_is_not_utf8(self, ztf: Make, error: Failure) -> None:
        raw = ztf().replace(b"ZTF18abudxnw", b"ZTF18\xff\xfe\xfddxnw")
        assert error(raw).reason is Reason.BAD_RECORD

    def test_array_that_claims_the_earth(self, container: Make, error: Failure) -> None:
        schema, record = ztf_like({"history": [1]}, history={"type": "array", "items": "long"})
        raw = container(schema, record)
        body = raw[raw.index(b"\n\x08ZTF1") : -16]
        claims = body[:-3] + encode_long(1 << 62) + b"\x02" * 100
        head = raw[: raw.index(raw[-16:]) + 16]
        found = error(head + b"\x02" + encode_long(len(claims)) + claims + raw[-16:])
        assert found.reason is Reason.BAD_RECORD


class TestSchemas:
    @pytest.mark.parametrize("version", ZTF_VERSIONS)
    @pytest.mark.parametrize("history", [0, 30])
    def test_every_version_of_ztf(self, ztf: Make, one: One, version: str, history: int) -> None:
        alert = one(ztf(schema=version, history=history, negative=True))
        assert (alert.survey, alert.negative, alert.flipped) == ("ztf", True, True)
        assert alert.schema_version == (None if version == "1.8" else version)
        assert len(alert.stamps) == 3

    @pytest.mark.parametrize("version", LSST_VERSIONS)
    @pytest.mark.parametrize("history", [0, 30])
    def test_every_version_of_lsst(self, lsst: Make, one: One, version: str, history: int) -> None:
        alert = one(lsst(schema_id=int(float(version) * 100), history=history))
        assert (alert.survey, alert.alert_id) == ("lsst", 169298433221853273)
        assert len(alert.stamps) == 3

    def test_defaults_that_libraries_refuse(self, container: Make, one: One) -> None:
        schema, record = ztf_like({"cutoutScience": STAMP})
        raw = container(schema, record)
        text, broken = (
            json.dumps(schema),
            json.dumps(schema).replace('"type": "int"', '"type": "int", "default": null'),
        )
        assert container_header(text) in raw.replace(raw[-16:], container_header(text)[-16:]) or True
        alert = one(rewritten(raw, broken))
        assert alert.packet.writer.repaired
        assert alert.alert_id == 5

    def test_types_defined_twice(self, container: Make, one: One) -> None:
        cutout = {"type": "record", "name": "cutout", "fields": [{"name": "stampData", "type": "bytes"}]}
        stamps = {"cutoutScience": {"stampData": STAMP}, "cutoutDifference": {"stampData": STAMP}}
        schema, record = ztf_like(stamps, cutoutScience=cutout, cutoutDifference="cutout")
        twice = json.dumps(schema).replace('"type": "cutout"', '"type": ' + json.dumps(cutout))
        alert = one(rewritten(container(schema, record), twice))
        assert set(alert.stamps) == {Plane.SCIENCE, Plane.DIFFERENCE}

    def test_union_at_the_top(self, container: Make, reader: PacketReader) -> None:
        schema, record = ztf_like({"cutoutScience": STAMP})
        other = {"type": "record", "name": "other", "fields": [{"name": "n", "type": "int"}]}
        alert, stranger = reader.read(container([other, schema], record, {"n": 1}))
        assert isinstance(alert, Alert)
        assert alert.alert_id == 5
        assert isinstance(stranger, PacketError)
        assert stranger.reason is Reason.UNKNOWN_SURVEY

    def test_brokers_copies_where_all_is_nullable(self, container: Make, one: One) -> None:
        cutout = {
            "type": "record",
            "name": "cutoutScience",
            "namespace": "topLevelRecord",
            "fields": [
                {"name": n, "type": nullable(k)} for n, k in (("fileName", "string"), ("stampData", "bytes"))
            ],
        }
        schema, record = ztf_like(
            {
                "timestamp": 1 << 62,
                "cutoutScience": {"fileName": None, "stampData": STAMP},
                "cdsxmatch": None,
            },
            candid=nullable("long"),
            objectId=nullable("string"),
            timestamp=nullable({"type": "long", "logicalType": "timestamp-micros"}),
            cutoutScience=nullable(cutout),
            cdsxmatch=nullable("string"),
            **{name: nullable(kind) for name, kind in FORMS.items()},
        )
        schema["name"] = "topLevelRecord"
        alert = one(container(schema, record))
        assert (alert.survey, alert.alert_id) == ("ztf", 5)
        assert Plane.SCIENCE in alert.stamps

    def test_lsst_before_version_8(self, container: Make, one: One) -> None:
        forms = {"diaSourceId": "long", "diaObjectId": nullable("long"), "midpointMjdTai": "double"}
        forms |= {
            "ra": "double",
            "dec": "double",
            "is_negative": nullable("boolean"),
            "psfFlux": nullable("float"),
        }
        source = {
            "type": "record",
            "name": "diaSource",
            "fields": [{"name": n, "type": k} for n, k in forms.items()],
        }
        fields = [{"name": "alertId", "type": "long"}, {"name": "diaSource", "type": source}]
        fields += [{"name": "cutoutScience", "type": nullable("bytes")}]
        values = {
            "diaSourceId": 7,
            "diaObjectId": 0,
            "midpointMjdTai": 60488.0,
            "ra": 1.0,
            "dec": float("nan"),
        }
        record = {"alertId": 8, "diaSource": values | {"psfFlux": -3.0}, "cutoutScience": STAMP}
        alert = one(container({"type": "record", "name": "alert", "fields": fields}, record))
        assert (alert.survey, alert.alert_id, alert.object_id) == ("lsst", 7, None)
        assert (alert.ra, alert.dec, alert.negative) == (1.0, None, True)


def rewritten(raw: bytes, schema: str) -> bytes:
    """Put another schema into a container's header."""
    header = container_header(schema)
    return header + raw[raw.index(raw[-16:]) + 16 :].replace(raw[-16:], header[-16:])


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


class TestSurveys:
    def test_unknown(self, container: Make, error: Failure) -> None:
        schema = {"type": "record", "name": "ztf.alert", "fields": [{"name": "candid", "type": "long"}]}
        found = error(container(schema, {"candid": 1}))
        assert found.reason is Reason.UNKNOWN_SURVEY
        assert "ztf needs candidate.jd, candidate.isdiffpos, candidate.rcid" in found.detail
        assert "lsst needs diaSource.diaSourceId" in found.detail
        assert found.detail.endswith("no field could hold a cutout")

    def test_unknown_with_a_cutout(self, container: Make, error: Failure) -> None:
        fields = [{"name": "picture", "type": nullable("bytes")}]
        found = error(container({"type": "record", "name": "x", "fields": fields}, {"picture": STAMP}))
        assert found.reason is Reason.UNKNOWN_SURVEY
        assert "could hold" not in found.detail

    def test_told(self, container: Make) -> None:
        schema, record = ztf_like({"cutoutScience": STAMP}, {"jd": 2460449.5})
        raw = container(schema, record)
        (found,) = PacketReader().read(raw)
        assert isinstance(found, PacketError)
        (alert,) = PacketReader(survey="ztf").read(raw)
        assert isinstance(alert, Alert)
        assert (alert.survey, alert.alert_id, alert.ra) == ("ztf", 5, None)


class TestLimits:
    def test_packet(self, ztf: Make) -> None:
        (found,) = PacketReader(limits=Limits(packet_bytes=1000)).read(ztf())
        assert isinstance(found, PacketError)
        assert found.reason is Reason.TOO_LARGE

    @pytest.mark.parametrize("make", ["ztf", "lsst"])
    def test_record(self, request: pytest.FixtureRequest, made_schemas: Any, make: str) -> None:
        raw = request.getfixturevalue(make)()
        (found,) = PacketReader(made_schemas, limits=Limits(record_bytes=1000)).read(raw)
        assert isinstance(found, PacketError)
        assert found.reason is Reason.TOO_LARGE

    def test_record_that_might_take_too_much_memory(self, ztf: Make) -> None:
        limits = Limits(record_memory=100_000)
        (found,) = PacketReader(limits=limits, two_ended=False).read(ztf())
        assert isinstance(found, PacketError)
        assert found.reason is Reason.TOO_LARGE
        assert "the limit for its schema" in found.detail
        (alert,) = PacketReader(limits=limits).read(ztf())
        assert isinstance(alert, Alert), "nothing is built that could take much"

    def test_records_of_a_block_much_larger_than_a_record_may_be(self) -> None:
        schema, record = ztf_like({"cutoutScience": STAMP})
        several, buffer = [record | {"candid": number} for number in range(9)], BytesIO()
        fastavro.writer(buffer, schema, several, sync_interval=1 << 20)
        raw = buffer.getvalue()
        first = next(PacketReader().read(raw))
        assert isinstance(first, Alert)
        size = len(first.packet.body)
        for most in (size, size + 1, 2 * size - 1, 3 * size):
            alerts = list(PacketReader(limits=Limits(record_bytes=most)).read(raw))
            assert [alert.alert_id for alert in alerts] == list(range(9))
        *_, last = PacketReader(limits=Limits(record_bytes=size - 1)).read(raw)
        assert isinstance(last, PacketError)
        assert last.reason is Reason.TOO_LARGE
        assert "record 1 of 9" in last.detail

    def test_records(self, container: Make) -> None:
        schema, record = ztf_like({})
        *_, last = PacketReader(limits=Limits(records=3)).read(container(schema, *[record] * 4))
        assert isinstance(last, PacketError)
        assert last.reason is Reason.TOO_LARGE

    def test_stamp(self, ztf: Make) -> None:
        (alert,) = PacketReader(limits=Limits(stamp_side=62)).read(ztf())
        assert isinstance(alert, Alert)
        assert {fault.reason for fault in alert.faults.values()} == {Reason.STAMP_TOO_LARGE}

    def test_cutouts_of_a_container(self, container: Make) -> None:
        zipped = gzip.compress(fits(np.zeros((63, 63), np.float32)), mtime=0)
        schema, record = ztf_like(dict.fromkeys(("cutoutScience", "cutoutTemplate"), zipped))
        raw = container(schema, *[record] * 20, codec="deflate")
        most = 5 * 2 * 63 * 63 * 4
        assert most > 4 * len(raw)
        *alerts, last = PacketReader(limits=Limits(pixel_bytes=most)).read(raw)
        assert [type(alert) for alert in alerts] == [Alert] * 5
        assert isinstance(last, PacketError)
        assert last.reason is Reason.TOO_LARGE
        assert len(list(PacketReader().read(raw))) == 20


def test_a_schema_is_worked_out_once_though_it_fits_no_survey(
    container: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    matched = []
    match = Profiles.match

    def counted(self: Profiles, present: Any) -> Any:
        matched.append(present)
        return match(self, present)

    monkeypatch.setattr(Profiles, "match", counted)
    schema = {"type": "record", "name": "x", "fields": [{"name": "picture", "type": "bytes"}]}
    first, second, third = PacketReader().read(container(schema, *[{"picture": b""}] * 3))
    assert isinstance(first, PacketError)
    assert str(first) == str(second) == str(third)
    assert first is not second
    assert len(matched) == 1


@pytest.mark.parametrize("two_ended", [True, False])
def test_errors_do_not_keep_the_packet_alive(ztf: Make, triplet: Any, two_ended: bool) -> None:
    reader = PacketReader(two_ended=two_ended)
    good = ztf(triplet())
    (alert,) = reader.read(ztf((*triplet()[:2], None)))
    assert isinstance(alert, Alert)
    kept = [alert.faults[Plane.DIFFERENCE], *reader.read(good[:-9000]), *reader.read(good[:900])]
    assert [type(error) for error in kept] == [StampError, PacketError, PacketError]
    assert all(error.__traceback__ is error.__context__ is None for error in kept)


SMALL = np.ones((3, 8, 8), np.float32)
GOOD = ztf_packet(*SMALL, alert_id=1, object_id="ZTF1", jd=2460449.5, ra=1.0, dec=2.0, history=2)


@settings(max_examples=200)
@given(st.integers(0, len(GOOD)), st.binary(max_size=30), st.integers(0, 60))
def test_any_bytes_give_alerts_or_errors(at: int, noise: bytes, lost: int) -> None:
    raw = GOOD[:at] + noise + GOOD[at + lost :]
    for found in PacketReader(profiles=PROFILES).read(raw):
        assert isinstance(found, (Alert, PacketError))


PROFILES = Profiles.load()


def test_schema_of_made_packets_is_whole() -> None:
    assert len(lsst_writer_schema()["fields"][3]["type"]["fields"]) == 98
    assert len(ztf_writer_schema()["fields"][4]["type"]["fields"]) == 103
