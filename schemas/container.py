"""Avro object containers: writing those of one record.

Source: Avro 1.12 specification, "Object Container Files".
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable

import cramjam

from space2vec.schemas.varint import encode_long

MAGIC = b"Obj\x01"


def container_header(schema: str, codec: str = "null") -> bytes:
    """Make the header of a container: magic, metadata, and a sync marker that follows from the schema.

    The same schema always gets the same header, so that what we emit can be compared byte for byte.
    """
    text = schema.encode()
    meta = b"".join(
        _length_and(part) for part in (b"avro.codec", codec.encode("ascii"), b"avro.schema", text)
    )
    return MAGIC + encode_long(2) + meta + b"\x00" + hashlib.sha256(text).digest()[:16]


def write_container(header: bytes, body: bytes, codec: str = "null") -> bytes:
    """Put one record into a container, under a header of :func:`container_header`."""
    block = _DEFLATERS[codec](body)
    return b"".join((header, encode_long(1), encode_long(len(block)), block, header[-16:]))


def _length_and(text: bytes) -> bytes:
    return encode_long(len(text)) + text


def _deflate(block: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(block) + deflater.flush()


def _snappy(block: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(block)) + zlib.crc32(block).to_bytes(4, "big")


_DEFLATERS: dict[str, Callable[[bytes], bytes]] = {
    "null": lambda block: block,
    "deflate": _deflate,
    "snappy": _snappy,
}
