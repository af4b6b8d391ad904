from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from space2vec.schemas.container import (
    HeaderReader,
    compact_json,
    container_header,
    read_blocks,
    write_container,
)
from space2vec.schemas.errors import PacketError, Reason
from space2vec.schemas.inflate import CODECS
from space2vec.schemas.limits import Limits
from space2vec.schemas.varint import encode_long

SCHEMA = {"type": "record", "name": "alert", "fields": [{"name": "candid", "type": "long"}]}
HEADER = container_header(compact_json(SCHEMA))
Container = Callable[..., bytes]


def blocks(raw: bytes, limits: Limits = Limits()) -> list[tuple[int, bytes, str | None]]:  # noqa: B008
    header = HeaderReader(limits).read(raw)
    return [(b.count, b.source[b.start : b.stop], b.damage) for b in read_blocks(raw, header, limits)]


def reason(raw: bytes, limits: Limits = Limits()) -> tuple[Reason, str]:  # noqa: B008
    with pytest.raises(PacketError) as refused:
        blocks(raw, limits)
    return refused.value.reason, refused.value.detail


def header_of(meta: dict[str, bytes]) -> bytes:
    parts = [part for key, value in meta.items() for part in (key.encode(), value)]
    return b"Obj\x01" + encode_long(len(meta)) + b"".join(encode_long(len(p)) + p for p in parts) + b"\x00"


# cramjam, which the project has, gives fastavro snappy; the others of its codecs it may lack here.
@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz", "snappy"])
def test_reads_what_fastavro_writes(container: Container, codec: str) -> None:
    raw = container(SCHEMA, *({"candid": i} for i in range(3)), codec=codec)
    assert blocks(raw) == [(3, b"\x00\x02\x04", None)]


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy"])
def test_writes_what_fastavro_reads(codec: str) -> None:
    raw = write_container(container_header(compact_json(SCHEMA), codec), b"\x54", codec=codec)
    assert list(fastavro.reader(BytesIO(raw))) == [{"candid": 42}]


def test_writes_the_same_bytes_ever_after() -> None:
    sync = bytes.fromhex("280970a68f9adc09d46bfa4472fadecd")
    assert write_container(HEADER, b"\x54") == (
        b"Obj\x01\x04\x14avro.codec\x08null\x16avro.schema\x96\x01"
        b'{"type":"record","name":"alert","fields":[{"name":"candid","type":"long"}]}\x00'
        + (sync + b"\x02\x02\x54" + sync)
    )


def test_knows_a_header_again_whatever_its_sync_marker() -> None:
    headers = HeaderReader(Limits())
    first = headers.read(HEADER)
    again = headers.read(HEADER[:-16] + b"another marker !")
    other = headers.read(container_header(compact_json({**SCHEMA, "name": "other"})))
    assert again is first
    assert other is not first
    assert headers.read(HEADER) is first


def test_remembers_only_so_many_headers() -> None:
    headers = HeaderReader(Limits())
    first = headers.read(HEADER)
    for number in range(40):
        headers.read(container_header(compact_json({**SCHEMA, "name": f"alert{number}"})))
    assert len(headers._recent) <= 16
    assert headers.read(HEADER) is not first


def test_reads_several_blocks() -> None:
    raw = write_container(HEADER, b"\x02") + write_container(HEADER, b"\x04")[len(HEADER) :]
    assert blocks(raw) == [(1, b"\x02", None), (1, b"\x04", None)]


def test_no_block_is_no_error() -> None:
    assert blocks(HEADER) == []


def test_reads_metadata_in_blocks_with_sizes() -> None:
    pair = b"\x16avro.schema" + encode_long(len(json.dumps(SCHEMA))) + json.dumps(SCHEMA).encode()
    raw = b"Obj\x01\x01" + encode_long(len(pair)) + pair + b"\x00" + bytes(16)
    assert HeaderReader(Limits()).read(raw).codec == "null"


class TestDamage:
    def test_sync_marker_broken(self) -> None:
        raw = bytearray(write_container(HEADER, b"\x02"))
        raw[-1] ^= 1
        ((count, datums, damage),) = blocks(bytes(raw) + b"more")
        assert (count, datums) == (1, b"\x02")
        assert damage is not None
        assert "no sync marker at byte" in damage

    def test_block_cut_short(self) -> None:
        raw = write_container(HEADER, b"\x02\x04\x06\x08")
        ((_, datums, damage),) = blocks(raw[:-18])
        assert datums == b"\x02\x04"
        assert damage is not None
        assert "block of 4 bytes" in damage

    @pytest.mark.parametrize("end", range(4, len(HEADER)))
    def test_header_cut_short(self, end: int) -> None:
        assert reason(HEADER[:end])[0] is Reason.DAMAGED_CONTAINER

    @pytest.mark.parametrize("counts", [(-1, 1), (1, -1), (-(1 << 63), 1)])
    def test_negative_sizes(self, counts: tuple[int, int]) -> None:
        found, detail = reason(HEADER + b"".join(map(encode_long, counts)) + b"\x02")
        assert found is Reason.DAMAGED_CONTAINER
        assert "negative" in detail

    def test_a_block_that_claims_the_earth_allocates_nothing(self) -> None:
        ((count, datums, damage),) = blocks(HEADER + encode_long(1 << 60) + encode_long(1 << 60) + b"\x02")
        assert (count, datums) == (1 << 60, b"\x02")
        assert damage is not None

    def test_codec_bytes_broken(self) -> None:
        header = container_header(compact_json(SCHEMA), "deflate")
        raw = header + b"\x02\x06\xff\xff\xff" + header[-16:]
        found, detail = reason(raw)
        assert found is Reason.DAMAGED_CONTAINER
        assert detail.startswith("deflate block")

    def test_no_schema(self) -> None:
        assert reason(header_of({"avro.codec": b"null"}) + bytes(16)) == (
            Reason.DAMAGED_CONTAINER,
            "header: no avro.schema in it",
        )


def test_unknown_codec_is_named_with_the_known_ones() -> None:
    raw = header_of({"avro.codec": b"brotli", "avro.schema": json.dumps(SCHEMA).encode()}) + bytes(16)
    found, detail = reason(raw)
    assert found is Reason.UNKNOWN_CODEC
    assert "brotli" in detail
    assert all(codec in detail for codec in CODECS)


def test_header_larger_than_the_limit() -> None:
    raw = header_of({"avro.schema": b" " * 5000 + json.dumps(SCHEMA).encode()}) + bytes(16)
    assert reason(raw, Limits(header_bytes=4000)) == (Reason.TOO_LARGE, "header of more than 4000 bytes")


def test_block_larger_than_the_limit(container: Container) -> None:
    raw = container(SCHEMA, *({"candid": 0} for _ in range(5000)), codec="deflate")
    assert len(raw) < 1000
    found, detail = reason(raw, Limits(block_bytes=4000))
    assert found is Reason.TOO_LARGE
    assert "4000" in detail


@given(st.binary(max_size=200), st.integers(0, len(HEADER) - 1))
def test_any_bytes_give_blocks_or_a_packet_error(noise: bytes, at: int) -> None:
    raw: Any = HEADER[:at] + noise + HEADER[at + len(noise) :] + noise
    try:
        blocks(raw)
    except PacketError as error:
        assert error.detail  # noqa: PT017 - either outcome is right
