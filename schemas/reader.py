"""Opening packets: bytes in, alerts or the reasons why not out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from typing import Any

import fastavro

from space2vec.schemas.alert import Alert
from space2vec.schemas.avro_types import SchemaTree
from space2vec.schemas.container import MAGIC, Block, ContainerHeader, HeaderReader, read_blocks
from space2vec.schemas.errors import PacketError, Reason
from space2vec.schemas.extract import Extractor
from space2vec.schemas.limits import Limits
from space2vec.schemas.packet import Framing, Packet, WriterSchema
from space2vec.schemas.profiles import Profiles
from space2vec.schemas.settings import SchemaSettings
from space2vec.schemas.varint import decode_long
from space2vec.schemas.writers import WriterSchemas, writer_schemas

_CONFLUENT_HEADER = 5
_SCHEMAS_IN_USE = 64


class PacketReader:
    """Opens messages of any framing and any known survey.

    Parameters
    ----------
    writers : WriterSchemas, optional
        Source of the writer schemas of Confluent framing; by default what is installed.
    profiles : Profiles, optional
        Survey profiles; by default the shipped ones.
    limits : Limits
        What we are willing to hold of one packet.
    survey : str, optional
        Take every packet to be of this survey instead of looking at its fields.
    """

    def __init__(
        self,
        writers: WriterSchemas | None = None,
        profiles: Profiles | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        survey: str | None = None,
    ) -> None:
        self._writers = writers if writers is not None else writer_schemas(SchemaSettings())
        self._profiles = profiles if profiles is not None else Profiles.load()
        self._limits = limits
        self._survey = self._profiles[survey] if survey is not None else None
        self._headers = HeaderReader(limits)
        self._extractor = lru_cache(_SCHEMAS_IN_USE)(self._make_extractor)

    def read(self, raw: bytes) -> Iterator[Alert | PacketError]:
        """Open one message, or a file's content.

        Parameters
        ----------
        raw : bytes
            An Avro container of any number of records, or a datum in Confluent framing.

        Yields
        ------
        Alert or PacketError
            One per record, in order. What is wrong with a container as a whole comes last, after the
            records that could be read.

        Raises
        ------
        SchemaUnavailable
            If the writer schema cannot be had now; the packet may be read later.
        """
        try:
            if not raw:
                raise PacketError(Reason.EMPTY, "no bytes")
            if len(raw) > self._limits.packet_bytes:
                detail = f"{len(raw)} bytes; the limit is {self._limits.packet_bytes}"
                raise PacketError(Reason.TOO_LARGE, detail)
            if raw.startswith(MAGIC):
                yield from self._read_container(raw)
            elif raw[0] == 0 and len(raw) > _CONFLUENT_HEADER:
                yield self._read_confluent(raw)
            else:
                raise PacketError(
                    Reason.BAD_FRAMING,
                    f"starts with {raw[:8].hex()}: neither an Avro container (4f626a01) nor Confluent "
                    "framing (00 and a schema id)",
                )
        except PacketError as error:
            yield error

    def _read_confluent(self, raw: bytes) -> Alert | PacketError:
        schema_id = int.from_bytes(raw[1:_CONFLUENT_HEADER], "big")
        writer = self._writers.get(schema_id)
        return self._read_datum(Packet(Framing.CONFLUENT, writer, raw[_CONFLUENT_HEADER:], schema_id))

    def _read_container(self, raw: bytes) -> Iterator[Alert | PacketError]:
        header = self._headers.read(raw)
        records = 0
        for block in read_blocks(raw, header, self._limits):
            records += block.count
            if records > self._limits.records:
                raise PacketError(Reason.TOO_LARGE, f"more than {self._limits.records} records")
            if block.count == 1 and block.damage is None:
                yield self._read_datum(Packet(Framing.CONTAINER, header.writer, block.datums))
            else:
                yield from self._read_block(block, header)

    def _read_block(self, block: Block, header: ContainerHeader) -> Iterator[Alert | PacketError]:
        """Read a block of several records, or a damaged one: where each ends shows only by reading it."""
        start = 0
        for number in range(block.count):
            try:
                if start == len(block.datums):
                    raise PacketError(Reason.BAD_RECORD, "the block ends before it")
                window = block.datums[start : start + self._limits.record_bytes]
                record, length = _decode(window, header.writer)
            except PacketError as error:
                if block.damage is None:
                    lost = f"record {number + 1} of {block.count} in its block; the rest is lost with it"
                    yield PacketError(error.reason, f"{error.detail} ({lost})")
                break
            packet = Packet(Framing.CONTAINER, header.writer, block.datums[start : start + length])
            start += length
            yield self._alert(record, packet)
        else:
            if start < len(block.datums) and block.damage is None:
                left = len(block.datums) - start
                yield PacketError(Reason.TRAILING_BYTES, f"{left} bytes after the block's last record")
        if block.damage is not None:
            raise PacketError(Reason.DAMAGED_CONTAINER, block.damage)

    def _read_datum(self, packet: Packet) -> Alert | PacketError:
        """Read one datum that must take up all of its bytes."""
        size = len(packet.body)
        if size > self._limits.record_bytes:
            detail = f"record of {size} bytes; the limit is {self._limits.record_bytes}"
            return PacketError(Reason.TOO_LARGE, detail)
        try:
            record, length = _decode(packet.body, packet.writer)
        except PacketError as error:
            return error
        alert = self._alert(record, packet)
        if length == size:
            return alert
        known = {"survey": alert.survey, "alert_id": alert.alert_id, "object_id": alert.object_id}
        detail = f"{size - length} of {size} bytes are left over"
        return PacketError(Reason.TRAILING_BYTES, detail, **known)  # type: ignore[arg-type]

    def _alert(self, record: Any, packet: Packet) -> Alert | PacketError:
        try:
            branch = _branch(packet)
            return self._extractor(packet.writer, branch).alert(record, packet)
        except PacketError as error:
            return error

    def _make_extractor(self, writer: WriterSchema, branch: int | None) -> Extractor:
        tree = SchemaTree(writer.parsed)
        top = writer.parsed if branch is None else writer.parsed[branch]
        present: set[str] = set()
        for record in tree.records(top):
            present |= tree.paths(record)
        profile = self._survey if self._survey is not None else self._profiles.match(present)
        return Extractor(profile, present, self._limits)


def _branch(packet: Packet) -> int | None:
    """Tell which branch of a union at the top a datum is of."""
    if isinstance(packet.writer.parsed, list):
        return decode_long(packet.body, 0)[0]
    return None


def _decode(datums: bytes, writer: WriterSchema) -> tuple[Any, int]:
    """Decode the record at the start of some bytes; its length comes back too.

    Raises
    ------
    PacketError
        ``BAD_RECORD``.
    """
    source = BytesIO(datums)
    try:
        return fastavro.schemaless_reader(source, writer.parsed, None), source.tell()
    except Exception as error:  # noqa: BLE001
        # IndexError, EOFError, UnicodeDecodeError, MemoryError ...: fastavro does not wrap them.
        detail = f"{type(error).__name__}: {error}"
        raise PacketError(Reason.BAD_RECORD, detail[:300]) from None
