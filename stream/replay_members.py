"""The packets of an archive, one after the other, by their number in it."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Final, Protocol, cast

from space2vec.schemas.container import HeaderReader
from space2vec.schemas.errors import PacketError
from space2vec.schemas.limits import Limits
from space2vec.schemas.varint import encode_long
from space2vec.stream.archives import PACKET_SUFFIXES
from space2vec.stream.replay_archives import TABLE_SUFFIX, Archive, StoredFile, is_archive, is_large
from space2vec.stream.replay_tar import TarMember, tar_members

_GZIP: Final = b"\x1f\x8b"
_REFUSED_BYTES: Final = 1 << 20
"""How much is kept of a packet that is too large to be read: enough to see what it is."""
_SYNC_BYTES: Final = 16
_DAMAGE: Final = (gzip.BadGzipFile, EOFError, zlib.error, ValueError, PacketError)

Load = Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Member:
    """One packet of an archive; a block of one, where a container is large.

    ``number`` counts from 0; ``mtime`` is the file's time in seconds since 1970, 0 if it has none; ``key`` is that
    of a Kafka message.
    """

    number: int
    name: str
    packet: bytes = field(repr=False)
    mtime: float = 0.0
    key: bytes | None = None


class Reader(Protocol):
    """What reads an archive, wherever its packets are."""

    faults: list[str]
    """What could not be read."""

    @property
    def bytes_read(self) -> int:
        """How far it is, of the archive's ``size``."""

    def members(self, start: int = 0) -> Generator[Member]:
        """Yield the packets from number ``start`` on."""


class ArchiveReader:
    """Reads an archive from its beginning to its end; memory holds one packet at a time.

    Damage does not stop what can be read behind it: it is told in :attr:`faults`.

    Parameters
    ----------
    archive : Archive
        What to read.
    limits : Limits
        Packets above ``packet_bytes`` are not read whole.
    """

    def __init__(self, archive: Archive, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        self.archive = archive
        self.faults: list[str] = []
        self._limits = limits
        self._before = self._within = 0
        self._stored: IO[bytes] | None = None

    @property
    def bytes_read(self) -> int:
        """How far it is, in bytes as stored."""
        stored = self._stored
        return self._before + (stored.tell() if stored is not None and not stored.closed else self._within)

    def members(self, start: int = 0) -> Generator[Member]:
        """Yield the packets from number ``start`` on; those before are passed over.

        Raises
        ------
        OSError
            If storage fails: that is no damage, and may go better another time.
        """
        number = 0
        for file in self.archive.files:
            try:
                for name, mtime, load in self._packets(file):
                    if number >= start:
                        yield Member(number, name, load(), mtime)
                    number += 1
            except _DAMAGE as error:
                self.faults.append(f"{file.name}: {error or type(error).__name__}; what came before is read")
            self._before, self._within = self._before + file.size, 0

    def _packets(self, file: StoredFile) -> Iterator[tuple[str, float, Load]]:
        """What a file holds: names, times, and how to have the bytes before the next one is asked for."""
        if file.name.endswith(TABLE_SUFFIX):
            yield from self._rows(file)
            return
        if not is_archive(file.name) and not is_large(file):
            yield file.name, 0.0, partial(self._whole, file)
            return
        with self._opened(file) as stream:
            if is_archive(file.name):
                for member in tar_members(stream, lambda fault: self.faults.append(f"{file.name}: {fault}")):
                    if member.name.endswith(PACKET_SUFFIXES):
                        yield member.name, member.mtime, partial(self._of_tar, member)
            else:
                for block in _blocks(stream, self._limits):
                    yield file.name, 0.0, partial(bytes, block)

    def _rows(self, file: StoredFile) -> Iterator[tuple[str, float, Load]]:
        from space2vec.stream.replay_rows import packets_of  # Arrow is not needed for anything else here

        with self.archive.open(file) as stored:
            for row, (share, load) in enumerate(packets_of(stored)):
                self._within = int(share * file.size)
                yield f"{file.name}[{row}]", 0.0, load

    def _whole(self, file: StoredFile) -> bytes:
        limit = self._limits.packet_bytes
        with self.archive.open(file) as stored:
            return inflated(stored.read(file.size if file.size <= limit else _REFUSED_BYTES), limit)

    def _of_tar(self, member: TarMember) -> bytes:
        limit = self._limits.packet_bytes
        raw = member.read(member.size if member.size <= limit else _REFUSED_BYTES)
        member.skip()  # before the packet is handed out: it counts once it is there with its padding
        return inflated(raw, limit)

    @contextmanager
    def _opened(self, file: StoredFile) -> Iterator[IO[bytes]]:
        """A file's bytes, inflated as they are read."""
        with self.archive.open(file) as stored:
            self._stored = stored
            magic = stored.read(len(_GZIP))
            stored.seek(0)
            if magic == _GZIP:
                with gzip.GzipFile(fileobj=stored) as inflating:
                    yield cast("IO[bytes]", inflating)
            else:
                yield stored


def inflated(raw: bytes, limit: int) -> bytes:
    """Gunzip a packet that is gzipped; as it is, if it is not, or cannot be inflated within ``limit`` bytes.

    So a packet that cannot be opened is rejected with the bytes that were found.
    """
    if not raw.startswith(_GZIP):
        return raw
    inflater = zlib.decompressobj(wbits=31)
    try:
        packet = inflater.decompress(raw, limit)
    except zlib.error:
        return raw
    return packet if inflater.eof else raw


def _blocks(stream: IO[bytes], limits: Limits) -> Iterator[bytes]:
    """Take a container of many records apart, into a container per block.

    Raises
    ------
    PacketError, EOFError
        Where it is damaged: blocks can be told apart only as far as that.
    """
    head = stream.read(limits.header_bytes)
    prefix = HeaderReader(limits).read(head).prefix
    stream.seek(len(prefix))
    sync = stream.read(_SYNC_BYTES)
    while (count := _long(stream)) is not None:
        size = _long(stream)
        if size is None or not 0 <= size <= limits.packet_bytes:
            raise EOFError(f"a block of {size} bytes")
        block = stream.read(size)
        if stream.read(_SYNC_BYTES) != sync:
            raise EOFError("a block without its sync marker")
        yield b"".join((prefix, sync, encode_long(count), encode_long(size), block, sync))


def _long(stream: IO[bytes]) -> int | None:
    """Read one of Avro's zigzag numbers; ``None`` at the end of the file.

    Raises
    ------
    EOFError
        If the file ends within it, or it is longer than any number is.
    """
    number = shift = 0
    while byte := stream.read(1):
        number |= (byte[0] & 0x7F) << shift
        shift += 7
        if not byte[0] & 0x80:
            return (number >> 1) ^ -(number & 1)
        if shift > 63:
            raise EOFError("a block's length is damaged")
    if shift:
        raise EOFError("the file ends within a block")
    return None
