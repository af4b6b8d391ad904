"""Avro object containers: reading header and blocks under hard caps, and writing those of one record.

Source: Avro 1.12 specification, "Object Container Files". fastavro's reader parses the schema anew for every
file and gives no access to a record's bytes, which annotating needs; hence our own.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import cramjam

from space2vec.schemas.errors import PacketError, Reason
from space2vec.schemas.inflate import CODECS, TooLargeError, inflate_block
from space2vec.schemas.limits import Limits
from space2vec.schemas.packet import WriterSchema
from space2vec.schemas.varint import decode_long, encode_long
from space2vec.schemas.writer_schema import writer_schema

MAGIC = b"Obj\x01"
_SYNC_BYTES = 16
_RECENT_HEADERS = 16


@dataclass(frozen=True, eq=False)
class ContainerHeader:
    """What stands at the head of a container, the sync marker excepted: that is another in every file.

    Attributes
    ----------
    prefix : bytes
        From the magic to the end of the metadata.
    writer : WriterSchema
        The schema inside.
    codec : str
        How blocks are compressed.
    """

    prefix: bytes = field(repr=False)
    writer: WriterSchema
    codec: str


@dataclass(slots=True)
class Block:
    """One block of a container, inflated.

    Attributes
    ----------
    count : int
        Records it says it holds.
    source : bytes
        What the records' bytes are part of.
    start, stop : int
        Where in it they begin and end, one record after the other; not all of them if the block is damaged.
    damage : str or None
        What is wrong with it.
    """

    count: int
    source: bytes = field(repr=False)
    start: int
    stop: int
    damage: str | None


class HeaderReader:
    """Reads headers, and remembers the last few: a survey's packets have the same one for years.

    Recognising a known header is one comparison of bytes, against some milliseconds for parsing its schema.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._recent: deque[ContainerHeader] = deque(maxlen=_RECENT_HEADERS)

    def read(self, raw: bytes) -> ContainerHeader:
        """Read the header of a container.

        Raises
        ------
        PacketError
            ``DAMAGED_CONTAINER``, ``BAD_SCHEMA``, ``UNKNOWN_CODEC`` or ``TOO_LARGE``.
        """
        for header in self._recent:
            if raw.startswith(header.prefix):
                if header is not self._recent[0]:
                    self._recent.remove(header)
                    self._recent.appendleft(header)
                return header
        header = self._parse(raw)
        self._recent.appendleft(header)
        return header

    def _parse(self, raw: bytes) -> ContainerHeader:
        limit = self._limits.header_bytes
        try:
            meta, end = _read_metadata(raw[:limit])
        except ValueError as error:
            if len(raw) > limit:
                raise PacketError(Reason.TOO_LARGE, f"header of more than {limit} bytes") from None
            raise PacketError(Reason.DAMAGED_CONTAINER, f"header: {error}") from None
        codec = meta.get(b"avro.codec", b"null").decode("utf-8", "replace")
        if codec not in CODECS:
            known = ", ".join(CODECS)
            raise PacketError(Reason.UNKNOWN_CODEC, f"codec {codec[:50]!r}; known are {known}")
        if b"avro.schema" not in meta:
            raise PacketError(Reason.DAMAGED_CONTAINER, "header: no avro.schema in it")
        return ContainerHeader(raw[:end], writer_schema(meta[b"avro.schema"]), codec)


def _read_metadata(head: bytes) -> tuple[dict[bytes, bytes], int]:
    """Read the header's map of metadata; the position after it comes back too."""
    meta: dict[bytes, bytes] = {}
    position = len(MAGIC)
    while True:
        count, position = decode_long(head, position)
        if count == 0:
            return meta, position
        if count < 0:
            count = -count
            _, position = decode_long(head, position)
        for _ in range(count):
            key, position = _read_bytes(head, position)
            meta[key], position = _read_bytes(head, position)


def _read_bytes(source: bytes, position: int) -> tuple[bytes, int]:
    length, position = decode_long(source, position)
    if not 0 <= length <= len(source) - position:
        raise ValueError("a string or bytes field runs beyond the end")
    return source[position : position + length], position + length


def read_blocks(raw: bytes, header: ContainerHeader, limits: Limits) -> Iterator[Block]:
    """Walk through the blocks of a container; after a damaged one there is no other.

    Raises
    ------
    PacketError
        ``TOO_LARGE`` or ``DAMAGED_CONTAINER``, where a block gives nothing to read at all.
    """
    position = len(header.prefix) + _SYNC_BYTES
    sync = raw[len(header.prefix) : position]
    if len(sync) < _SYNC_BYTES:
        raise PacketError(Reason.DAMAGED_CONTAINER, "the file ends within its header")
    while position < len(raw):
        try:
            count, start = decode_long(raw, position)
            size, start = decode_long(raw, start)
        except ValueError as error:
            raise PacketError(Reason.DAMAGED_CONTAINER, f"block at byte {position}: {error}") from None
        if count < 0 or size < 0:
            raise PacketError(Reason.DAMAGED_CONTAINER, f"block at byte {position} of negative size")
        position = start + size
        damage = None
        if position > len(raw):
            damage = f"block of {size} bytes at byte {start}, of which {len(raw) - start} are there"
        elif raw[position : position + _SYNC_BYTES] != sync:
            damage = f"no sync marker at byte {position}"
        yield _inflated(header.codec, Block(count, raw, start, min(position, len(raw)), damage), limits)
        if damage is not None:
            return
        position += _SYNC_BYTES


def _inflated(codec: str, block: Block, limits: Limits) -> Block:
    try:
        if codec == "null":
            if block.stop - block.start > limits.block_bytes:
                raise TooLargeError(limits.block_bytes)
            return block
        datums, whole = inflate_block(codec, block.source[block.start : block.stop], limits.block_bytes)
    except TooLargeError as error:
        raise PacketError(Reason.TOO_LARGE, f"block {error}") from None
    except Exception as error:  # noqa: BLE001 - each codec has exceptions of its own
        detail = f"{codec} block: {type(error).__name__}: {error}"
        raise PacketError(Reason.DAMAGED_CONTAINER, detail[:500]) from None
    damage = block.damage or (None if whole else f"{codec} block is cut short")
    return Block(block.count, datums, 0, len(datums), damage)


def compact_json(schema: Any) -> str:
    """Write a schema as JSON without spaces, as it goes into a header."""
    return json.dumps(schema, separators=(",", ":"), ensure_ascii=False)


def container_header(schema: str, codec: str = "null") -> bytes:
    """Make the header of a container: magic, metadata, and a sync marker that follows from the schema.

    The same schema always gets the same header, so that what we emit can be compared byte for byte.
    """
    text = schema.encode()
    meta = b"".join(
        encode_long(len(part)) + part for part in (b"avro.codec", codec.encode("ascii"), b"avro.schema", text)
    )
    return MAGIC + encode_long(2) + meta + b"\x00" + hashlib.sha256(text).digest()[:_SYNC_BYTES]


def write_container(header: bytes, *body: bytes | memoryview, codec: str = "null") -> bytes:
    """Put one record into a container, under a header of :func:`container_header`.

    The record may be given in parts, which are then copied only once.
    """
    block = body if codec == "null" else (_DEFLATERS[codec](b"".join(body)),)
    size = encode_long(sum(map(len, block)))
    return b"".join((header, encode_long(1), size, *block, header[-_SYNC_BYTES:]))


def _deflate(block: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(block) + deflater.flush()


def _snappy(block: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(block)) + zlib.crc32(block).to_bytes(4, "big")


_DEFLATERS: dict[str, Callable[[bytes], bytes]] = {
    "deflate": _deflate,
    "snappy": _snappy,
}
