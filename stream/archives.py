"""Packets in files: single ones, folders, globs, tar archives of a night, each plain or gzipped."""

from __future__ import annotations

import glob
import sys
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from space2vec.schemas.errors import ConfigError, PacketError, Reason
from space2vec.schemas.limits import Limits

PACKET_SUFFIXES: Final = (".avro", ".avro.gz")
ARCHIVE_SUFFIXES: Final = (".tar", ".tar.gz", ".tgz")
FILE_LIMIT: Final = Limits().packet_bytes
"""Most bytes of one packet file, inflated."""
_GZIP: Final = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class PacketFile:
    """One file of packets.

    Attributes
    ----------
    name : str
        Path, or ``archive!member``.
    raw : bytes
        The bytes, gunzipped; empty if they cannot be had.
    fault : PacketError or None
        Why they cannot.
    """

    name: str
    raw: bytes = field(repr=False, default=b"")
    fault: PacketError | None = None


def find_files(arguments: Sequence[str]) -> list[Path]:
    """Resolve what the user named into files, in a stable order.

    Parameters
    ----------
    arguments : sequence of str
        Files (taken whatever their suffix), folders (searched for packets and archives), globs, or ``-`` for
        names on stdin, one a line.

    Raises
    ------
    ConfigError
        Where a name leads to nothing.
    """
    found: list[Path] = []
    for argument in _with_stdin(arguments):
        path = Path(argument)
        if path.is_dir():
            inside = [p for p in path.rglob("*") if p.name.endswith(PACKET_SUFFIXES + ARCHIVE_SUFFIXES)]
            found += sorted(p for p in inside if p.is_file())
        elif path.exists():
            found.append(path)
        elif matches := sorted(glob.glob(argument, recursive=True)):  # noqa: PTH207  (absolute patterns, "**")
            found += find_files(matches)
        else:
            raise ConfigError(f"{argument}: no such file or folder")
    return list(dict.fromkeys(found))


def read_files(paths: Iterable[Path], limit: int = FILE_LIMIT) -> Iterator[PacketFile]:
    """Read files one after the other; archives are streamed, so a night need not fit in memory.

    A file that cannot be read becomes a :class:`PacketFile` with a fault; what follows is read all the same.
    """
    for path in paths:
        try:
            if path.name.endswith(ARCHIVE_SUFFIXES):
                yield from _members(path, limit)
            else:
                with path.open("rb") as file:
                    yield _packet_file(str(path), file, path.stat().st_size, limit)
        except OSError as error:
            yield _faulty(str(path), Reason.EMPTY, f"cannot be read: {error.strerror or error}")


def _with_stdin(arguments: Sequence[str]) -> Iterator[str]:
    for argument in arguments:
        if argument == "-":
            yield from (line.strip() for line in sys.stdin if line.strip())
        else:
            yield argument


def _members(path: Path, limit: int) -> Iterator[PacketFile]:
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                if not member.isfile() or not member.name.endswith(PACKET_SUFFIXES):
                    continue
                file = archive.extractfile(member)
                assert file is not None
                yield _packet_file(f"{path}!{member.name}", file, member.size, limit)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        yield _faulty(
            str(path), Reason.DAMAGED_CONTAINER, f"the archive is damaged: {error}; what came before is read"
        )


def _packet_file(name: str, file: IO[bytes], size: int, limit: int) -> PacketFile:
    raw = b"" if size > limit else file.read()
    try:
        raw = _gunzip(raw, limit) if raw.startswith(_GZIP) else raw
    except zlib.error as error:
        return _faulty(name, Reason.DAMAGED_CONTAINER, f"gzip: {error}")
    if max(size, len(raw)) > limit:
        return _faulty(name, Reason.TOO_LARGE, f"more than {limit} bytes")
    if not raw:
        return _faulty(name, Reason.EMPTY, "the file has no bytes")
    return PacketFile(name, raw)


def _gunzip(raw: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj(wbits=31)
    inflated = inflater.decompress(raw, limit + 1)
    if len(inflated) <= limit and not inflater.eof:
        raise zlib.error("the stream is cut short")
    return inflated


def _faulty(name: str, reason: Reason, detail: str) -> PacketFile:
    return PacketFile(name, fault=PacketError(reason, detail))
