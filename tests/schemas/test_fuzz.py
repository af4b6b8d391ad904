"""Packets wrong in structure: whatever a container, a schema, a count or a cutout claims, there is an answer.

Bytes at random are the business of `bench/fuzz.py` and `bench/fuzz_atheris.py`; see docs/hostile-input.md.
"""

from __future__ import annotations

import gzip
import json
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from space2vec.schemas.alert import Alert
from space2vec.schemas.container import container_header
from space2vec.schemas.errors import PacketError
from space2vec.schemas.profiles import Profiles
from space2vec.schemas.reader import PacketReader
from space2vec.schemas.varint import encode_long
from space2vec.training.packet_schemas import lsst_writer_schema, ztf_writer_schema
from space2vec.training.packets import lsst_packet, ztf_packet
from space2vec.workers.manifest import InputSpec
from space2vec.workers.preprocess import Preprocessor

MOST_CPU_S = 10
READER = PacketReader(profiles=Profiles.load())
PREPROCESSOR = Preprocessor(InputSpec(size=63))
TINY = np.random.default_rng(1).normal(300, 12, (3, 8, 8)).astype(np.float32)
WHERE: dict[str, Any] = {"alert_id": 1, "ra": 1.0, "dec": 2.0}
ZTF = ztf_packet(*TINY, object_id="ZTF1", jd=2460449.9, history=2, **WHERE)
ZTF_HEADER = container_header(json.dumps(ztf_writer_schema("4.02")))
LSST = lsst_packet(*TINY, object_id=1, mjd_tai=61095.3, history=2, psf=0, **WHERE)[5:]

relaxed = settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
longs = st.sampled_from([0, 1, 2, 63, 64, 1 << 20, 1 << 31, 1 << 62, -1, -2, -(1 << 63)]) | st.integers(
    -(1 << 63), (1 << 63) - 1
)
leaves = st.sampled_from(["null", "boolean", "int", "long", "float", "double", "bytes", "string"])
names = st.sampled_from(
    ["candid", "objectId", "cutoutScience", "candidate", "jd", "rcid", "isdiffpos", "a", "b"]
)
kinds = st.recursive(
    leaves,
    lambda inner: (
        st.builds(lambda kind: {"type": "array", "items": kind}, inner)
        | st.builds(lambda kind: {"type": "map", "values": kind}, inner)
        | st.lists(inner, min_size=1, max_size=3)
        | st.builds(
            lambda name, fields: {
                "type": "record",
                "name": name,
                "fields": [{"name": n, "type": t} for n, t in fields.items()],
            },
            st.text("rst", min_size=1, max_size=6),
            st.dictionaries(names, inner, max_size=4),
        )
    ),
    max_leaves=12,
)


def answered(raw: bytes) -> list[Alert | PacketError]:
    """Read and prepare a packet; it must not raise, and not take for ever."""
    start = time.process_time()
    found = list(READER.read(raw))
    alerts = [one for one in found if isinstance(one, Alert)]
    prepared = PREPROCESSOR.prepare(alerts)
    assert len(prepared.rows) + len(prepared.rejects) == len(alerts)
    assert np.isfinite(prepared.stamps).all()
    assert all(isinstance(one, PacketError) and one.detail for one in found if not isinstance(one, Alert))
    assert time.process_time() - start < MOST_CPU_S
    return found


def block(header: bytes, count: int, size: int, body: bytes) -> bytes:
    return header + encode_long(count) + encode_long(size) + body + header[-16:]


@relaxed
@given(kinds, st.binary(max_size=300), longs, st.booleans())
def test_any_schema(kind: Any, body: bytes, count: int, alone: bool) -> None:
    header = container_header(json.dumps(kind))
    assert answered(block(header, 1 if alone else count, len(body), body)) or count == 0


@relaxed
@given(st.data())
def test_a_surveys_schema_with_other_fields(data: st.DataObject) -> None:
    schema = ztf_writer_schema("4.02") if data.draw(st.booleans()) else lsst_writer_schema("11.0")
    fields = list(schema["fields"])
    at = data.draw(st.integers(0, len(fields) - 1))
    fields[at] = {"name": data.draw(st.sampled_from([fields[at]["name"], "a"])), "type": data.draw(kinds)}
    body = data.draw(st.sampled_from([LSST, ZTF[len(ZTF_HEADER) :], bytes(500)]))
    assert answered(block(container_header(json.dumps(schema | {"fields": fields})), 1, len(body), body))


@relaxed
@given(
    longs,
    longs,
    st.binary(max_size=99),
    st.sampled_from(["null", "deflate", "snappy", "xz", "zstandard", "lz4", "bzip2"]),
)
def test_any_block(count: int, size: int, body: bytes, codec: str) -> None:
    header = container_header(json.dumps(ztf_writer_schema("4.02")), codec)
    answered(block(header, count, size, body))
    answered(block(header, count, len(body), body))


@relaxed
@given(st.integers(0, len(LSST) - 1), longs, st.integers(0, 9))
def test_lengths_that_lie(at: int, lie: int, replaced: int) -> None:
    schema = container_header(json.dumps(lsst_writer_schema("11.0")))
    body = LSST[:at] + encode_long(lie) + LSST[at + replaced :]
    assert answered(block(schema, 1, len(body), body))


keywords = st.sampled_from(["SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "PCOUNT", "GROUPS", "BSCALE",
                            "BLANK", "EXTEND", "XTENSION", "ZIMAGE", "TFIELDS", "END"])  # fmt: skip
cards = st.lists(
    st.tuples(keywords, longs | st.sampled_from(["T", "F", "-32", "NaN", "'IMAGE   '", "1E999", "'"])),
    max_size=12,
)


@relaxed
@given(cards, st.integers(0, 6000), st.booleans())
def test_any_fits(cards: list[tuple[str, Any]], pixels: int, zipped: bool) -> None:
    proper = [("SIMPLE", "T"), ("BITPIX", -32), ("NAXIS", 2), ("NAXIS1", 8), ("NAXIS2", 8)]
    text = "".join(f"{key:<8}= {value!s:>20}".ljust(80)[:80] for key, value in [*proper, *cards][-12:])
    cutout = (text + "END".ljust(80)).ljust(2880).encode() + bytes(pixels)
    cutout = gzip.compress(cutout, 1) if zipped else cutout
    body = ztf_body_with(cutout)
    (found,) = answered(block(ZTF_HEADER, 1, len(body), body))
    assert isinstance(found, Alert)
    assert len(found.stamps) + len(found.faults) == 3


@pytest.mark.parametrize("size", [1 << 20, 64 << 20])
def test_gzip_bombs(size: int) -> None:
    bomb = gzip.compress(bytes(size), 9)
    for claimed in (0, 100, size, (1 << 32) - 1):
        lying = bomb[:-4] + claimed.to_bytes(4, "little")
        body = ztf_body_with(lying)
        (found,) = answered(block(ZTF_HEADER, 1, len(body), body))
        assert isinstance(found, Alert)
        assert not found.stamps


def ztf_body_with(cutout: bytes) -> bytes:
    """A datum of which all cutouts are the same bytes."""
    (alert,) = READER.read(ztf_packet(None, None, None, object_id="ZTF1", jd=2460449.9, **WHERE))
    assert isinstance(alert, Alert)
    return alert.packet.body[:-3] + 3 * (b"\x02\x02x" + encode_long(len(cutout)) + cutout)
