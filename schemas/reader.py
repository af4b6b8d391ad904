"""Opening packets: bytes in, alerts or the reasons why not out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from typing import Any, NamedTuple

import fastavro

from space2vec.schemas.alert import Alert
from space2vec.schemas.avro_types import SchemaTree, holds_bytes
from space2vec.schemas.container import MAGIC, Block, ContainerHeader, HeaderReader, read_blocks
from space2vec.schemas.errors import PacketError, Reason
from space2vec.schemas.extract import Extractor
from space2vec.schemas.limits import Limits
from space2vec.schemas.packet import Framing, Packet, WriterSchema
from space2vec.schemas.profiles import Profiles
from space2vec.schemas.settings import SchemaSettings
from space2vec.schemas.two_ended import TwoEndedReader
from space2vec.schemas.varint import decode_long
from space2vec.schemas.writers import WriterSchemas, writer_schemas

_CONFLUENT_HEADER = 5
_SCHEMAS_IN_USE = 16


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
    two_ended : bool
        Whether to leave out histories where the layout allows it. The alerts are the same without; it is
        there to show that.
    """

    def __init__(
        self,
        writers: WriterSchemas | None = None,
        profiles: Profiles | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        survey: str | None = None,
        *,
        two_ended: bool = True,
    ) -> None:
        self._writers = writers if writers is not None else writer_schemas(SchemaSettings())
        self._profiles = profiles if profiles is not None else Profiles.load()
        self._limits = limits
        self._survey = self._profiles[survey] if survey is not None else None
        self._headers = HeaderReader(limits)
        self._two_ended = two_ended
        self._layouts = lru_cache(_SCHEMAS_IN_USE)(self._work_out)

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
                yield from self._within_pixels(self._read_container(raw), len(raw))
            elif raw[0] == 0 and len(raw) > _CONFLUENT_HEADER:
                yield self._read_confluent(raw)
            else:
                raise PacketError(
                    Reason.BAD_FRAMING,
                    f"starts with {raw[:8].hex()}: neither an Avro container (4f626a01) nor Confluent "
                    "framing (00 and a schema id)",
                )
        except PacketError as error:
            yield error.detached()

    def _read_confluent(self, raw: bytes) -> Alert | PacketError:
        schema_id = int.from_bytes(raw[1:_CONFLUENT_HEADER], "big")
        writer = self._writers.get(schema_id)
        return self._read_datum(
            Packet(Framing.CONFLUENT, writer, raw, _CONFLUENT_HEADER, len(raw), schema_id)
        )

    def _read_container(self, raw: bytes) -> Iterator[Alert | PacketError]:
        header = self._headers.read(raw)
        records = 0
        for block in read_blocks(raw, header, self._limits):
            records += block.count
            if records > self._limits.records:
                raise PacketError(Reason.TOO_LARGE, f"more than {self._limits.records} records")
            if block.count == 1 and block.damage is None:
                yield self._read_datum(
                    Packet(Framing.CONTAINER, header.writer, block.source, block.start, block.stop)
                )
            else:
                yield from self._read_block(block, header)

    def _within_pixels(
        self, found: Iterator[Alert | PacketError], size: int
    ) -> Iterator[Alert | PacketError]:
        """Stop where the cutouts so far are out of proportion: bombs, small by themselves."""
        most = left = max(self._limits.pixel_bytes, 4 * size)
        for one in found:
            if isinstance(one, Alert):
                left -= sum(stamp.nbytes for stamp in one.stamps.values())
                if left < 0:
                    detail = f"cutouts of more than {most} bytes; the rest of the container is not read"
                    raise PacketError(Reason.TOO_LARGE, detail)
            yield one

    def _read_block(self, block: Block, header: ContainerHeader) -> Iterator[Alert | PacketError]:
        """Read a block of several records, or a damaged one: where each ends shows only by reading it."""
        start = block.start
        window = _Window(block, header.writer, self._most_bytes(header.writer))
        for number in range(block.count):
            try:
                record, length = window.decode(start)
            except PacketError as error:
                if block.damage is None:
                    lost = f"record {number + 1} of {block.count} in its block; the rest is lost with it"
                    yield PacketError(error.reason, f"{error.detail} ({lost})")
                break
            packet = Packet(Framing.CONTAINER, header.writer, block.source, start, start + length)
            start += length
            yield self._alert(record, packet)
        else:
            if start < block.stop and block.damage is None:
                left = block.stop - start
                yield PacketError(Reason.TRAILING_BYTES, f"{left} bytes after the block's last record")
        if block.damage is not None:
            raise PacketError(Reason.DAMAGED_CONTAINER, block.damage)

    def _most_bytes(self, writer: WriterSchema) -> int:
        """Bytes of the largest record of a schema that we are willing to decode."""
        return min(self._limits.record_bytes, writer.cost.largest(self._limits.record_memory))

    def _read_datum(self, packet: Packet) -> Alert | PacketError:
        """Read one datum that must take up all of its bytes."""
        size = packet.stop - packet.start
        if size > self._limits.record_bytes:
            detail = f"record of {size} bytes; the limit is {self._limits.record_bytes}"
            return PacketError(Reason.TOO_LARGE, detail)
        layout = None
        try:
            layout = self._layout(packet)
            values = layout.short_cut.read(packet) if layout.short_cut is not None else None
            if values is None:
                most = self._most_bytes(packet.writer)
                if size > most:
                    detail = f"record of {size} bytes; the limit for its schema is {most}"
                    raise PacketError(Reason.TOO_LARGE, detail)
                record, length = _decode(BytesIO(packet.body), packet.writer)
                if length != size:
                    detail = f"{size - length} of {size} bytes are left over"
                    raise PacketError(Reason.TRAILING_BYTES, detail)
                values = layout.extractor.values(record)
            return layout.extractor.alert(values, packet)
        except PacketError as error:
            if layout is not None:
                layout.identify(error, packet)
            return error.detached()

    def _alert(self, record: Any, packet: Packet) -> Alert | PacketError:
        try:
            extractor = self._layout(packet).extractor
            return extractor.alert(extractor.values(record), packet)
        except PacketError as error:
            return error.detached()

    def _layout(self, packet: Packet) -> _Layout:
        found = self._layouts(packet.writer, _branch(packet))
        if isinstance(found, PacketError):
            raise PacketError(found.reason, found.detail)
        return found

    def _work_out(self, writer: WriterSchema, branch: int | None) -> _Layout | PacketError:
        """Find the survey's profile, and what of it the schema has; or why that cannot be done."""
        tree = SchemaTree(writer.parsed)
        top = writer.parsed if branch is None else writer.parsed[branch]
        present: dict[str, bool] = {}
        for record in tree.records(top):
            present |= tree.paths(record)
        try:
            profile = self._survey if self._survey is not None else self._profiles.match(present)
        except PacketError as error:
            if not holds_bytes(writer.schema):
                error.detail += "; and no field could hold a cutout"
            return error.detached()
        extractor = Extractor(profile, present, self._limits)
        short_cut = TwoEndedReader.compile(writer, extractor) if self._two_ended else None
        return _Layout(extractor, short_cut)


class _Layout(NamedTuple):
    """How to read datums of one writer schema."""

    extractor: Extractor
    short_cut: TwoEndedReader | None

    def identify(self, error: PacketError, packet: Packet) -> None:
        """Add to an error what can be known of the alert."""
        error.survey = self.extractor.profile.survey
        if error.alert_id is None and self.short_cut is not None:
            front = self.short_cut.read_front(packet)
            error.alert_id = self.extractor.alert_id(front)
            error.object_id = self.extractor.object_id(front)


def _branch(packet: Packet) -> int | None:
    """Tell which branch of a union at the top a datum is of."""
    branches = packet.writer.parsed
    if not isinstance(branches, list):
        return None
    try:
        branch, _ = decode_long(packet.source, packet.start)
    except ValueError as error:
        raise PacketError(Reason.BAD_RECORD, str(error)) from None
    if not 0 <= branch < len(branches):
        raise PacketError(Reason.BAD_RECORD, f"branch {branch} of a union of {len(branches)}")
    return branch


class _Window:
    """The part of a block that is being decoded: no record can reach, or cost, beyond it.

    As large as the largest record may be, and moved along only when a record does not fit into what is left
    of it: so each byte of a block is copied twice at most.
    """

    def __init__(self, block: Block, writer: WriterSchema, most: int) -> None:
        self._block = block
        self._writer = writer
        self._most = most
        self._open(block.start)

    def decode(self, start: int) -> tuple[Any, int]:
        """Decode the record at a position, which follows the one before; its length comes back too.

        Raises
        ------
        PacketError
            ``BAD_RECORD`` or ``TOO_LARGE``.
        """
        if start == self._block.stop:
            raise PacketError(Reason.BAD_RECORD, "the block ends before it")
        try:
            return _decode(self._bytes, self._writer)
        except PacketError:
            if start == self._start:
                self._check_end()
                raise
        self._open(start)
        return self.decode(start)

    def _open(self, start: int) -> None:
        self._start = start
        self._stop = min(self._block.stop, start + self._most)
        self._bytes = BytesIO(self._block.source[start : self._stop])

    def _check_end(self) -> None:
        """Tell a record that runs beyond the window from one that is wrong."""
        if self._stop < self._block.stop and self._bytes.tell() == self._stop - self._start:
            detail = f"record of more than {self._most} bytes, the limit for its schema"
            raise PacketError(Reason.TOO_LARGE, detail) from None


def _decode(source: BytesIO, writer: WriterSchema) -> tuple[Any, int]:
    """Decode the record at a position of some bytes; its length comes back too.

    Raises
    ------
    PacketError
        ``BAD_RECORD``.
    """
    start = source.tell()
    try:
        return fastavro.schemaless_reader(source, writer.parsed, None), source.tell() - start
    except Exception as error:  # noqa: BLE001
        # IndexError, EOFError, UnicodeDecodeError, MemoryError ...: fastavro does not wrap them.
        detail = f"wrong at byte {source.tell() - start}: {type(error).__name__}: {error}"
        raise PacketError(Reason.BAD_RECORD, detail[:300]) from None
