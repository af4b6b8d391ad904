"""Packets that are damaged or too large: whole records are read, each of the others is an error that names its reason."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from io import BytesIO
from typing import Any

import fastavro
import numpy as np
import pytest
from few_fields import STAMP, fits, ztf_like
from hypothesis import given, settings
from hypothesis import strategies as st

from space2vec.schemas.alert import Alert, Plane
from space2vec.schemas.errors import PacketError, Reason, StampError
from space2vec.schemas.limits import Limits
from space2vec.schemas.profiles import Profiles
from space2vec.schemas.reader import PacketReader
from space2vec.schemas.varint import encode_long
from space2vec.training.packets import ztf_packet

Make = Callable[..., bytes]
Failure = Callable[[bytes], PacketError]


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


@pytest.mark.parametrize("two_ended", [True, False])
def test_errors_do_not_keep_the_packet_alive(ztf: Make, triplet: Any, two_ended: bool) -> None:
    reader = PacketReader(two_ended=two_ended)
    good = ztf(triplet())
    (alert,) = reader.read(ztf((*triplet()[:2], None)))
    assert isinstance(alert, Alert)
    kept = [alert.faults[Plane.DIFFERENCE], *reader.read(good[:-9000]), *reader.read(good[:900])]
    assert [type(error) for error in kept] == [StampError, PacketError, PacketError]
    assert all(error.__traceback__ is error.__context__ is None for error in kept)


PROFILES = Profiles.load()
SMALL = np.ones((3, 8, 8), np.float32)
GOOD = ztf_packet(*SMALL, alert_id=1, object_id="ZTF1", jd=2460449.5, ra=1.0, dec=2.0, history=2)


@settings(max_examples=200)
@given(st.integers(0, len(GOOD)), st.binary(max_size=30), st.integers(0, 60))
def test_any_bytes_give_alerts_or_errors(at: int, noise: bytes, lost: int) -> None:
    raw = GOOD[:at] + noise + GOOD[at + lost :]
    for found in PacketReader(profiles=PROFILES).read(raw):
        assert isinstance(found, (Alert, PacketError))
