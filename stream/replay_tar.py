"""Tar archives as a stream, strictly: what is damaged or cut off is said, and what comes after is found again.

``tarfile`` takes a damaged header in mid-archive for the end, without a word, and keeps every member's header in
memory. So headers are walked through here; it is ``tarfile`` that reads each of them.
Source: POSIX.1-2017, pax, "ustar Interchange Format".
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Final

_BLOCK: Final = tarfile.BLOCKSIZE
_NAME_BYTES: Final = 64 << 10
"""Most bytes of a header that only tells a long name."""
_PIECE_BYTES: Final = 1 << 20


@dataclass(slots=True)
class TarMember:
    """A file in a tar archive, to be read or skipped before the next one is asked for.

    ``mtime`` is in seconds since 1970; 0 where the archive does not say.
    """

    name: str
    size: int
    mtime: float
    _stream: IO[bytes] = field(repr=False)
    _taken: int = 0

    def read(self, most: int) -> bytes:
        """Read its bytes from the beginning, at most so many of them.

        Raises
        ------
        EOFError
            If the archive ends before.
        """
        content = _exactly(self._stream, min(most, self.size))
        self._taken += len(content)
        return content

    def skip(self) -> None:
        """Pass over what is left of it, padding included; once is enough."""
        while left := self.size + -self.size % _BLOCK - self._taken:
            self._taken += len(_exactly(self._stream, min(left, _PIECE_BYTES)))


def tar_members(stream: IO[bytes], damaged: Callable[[str], None]) -> Iterator[TarMember]:
    """Walk through the files of an archive, whatever its compression was: the stream is inflated.

    Parameters
    ----------
    stream : binary file
        Read forwards only.
    damaged : callable
        Told of every damaged header; reading goes on at the next whole one.

    Raises
    ------
    EOFError
        If the archive ends without its end mark, or within a member.
    """
    name: str | None = None
    while (header := _next_header(stream, damaged)) is not None:
        member = TarMember(name or header.name, header.size, float(header.mtime), stream)
        if header.type == tarfile.GNUTYPE_LONGNAME:
            name = member.read(_NAME_BYTES).rstrip(b"\0").decode("utf-8", "surrogateescape")
        elif header.type == tarfile.XHDTYPE:
            name = _pax_name(member.read(_NAME_BYTES))
        else:
            name = None
            if header.isreg():
                yield member
        member.skip()


def _next_header(stream: IO[bytes], damaged: Callable[[str], None]) -> tarfile.TarInfo | None:
    """Find the next whole header; ``None`` at the archive's end mark, two blocks of zeros."""
    lost = False
    block = _exactly(stream, _BLOCK)
    while True:
        if not any(block):
            block = stream.read(_BLOCK)
            if not any(block):
                return None
            fault = "zeros in its place"
        else:
            try:
                header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
                if header.size >= 0:
                    return header
                fault = f"size {header.size}"
            except tarfile.HeaderError as error:
                fault = str(error)
            block = _exactly(stream, _BLOCK)
        if not lost:
            damaged(f"damaged tar header ({fault}); reading on at the next whole one")
        lost = True


def _pax_name(records: bytes) -> str | None:
    """Find the path in a pax header: records of ``length key=value`` and a newline."""
    while records:
        length, _, _ = records.partition(b" ")
        if not length.isdigit() or int(length) <= len(length) + 1:
            return None
        key, _, value = records[len(length) + 1 : int(length) - 1].partition(b"=")
        if key == b"path":
            return value.decode("utf-8", "surrogateescape")
        records = records[int(length) :]
    return None


def _exactly(stream: IO[bytes], count: int) -> bytes:
    content = stream.read(count)
    while len(content) < count:
        more = stream.read(count - len(content))
        if not more:
            raise EOFError(f"the archive ends {count - len(content)} bytes early")
        content += more
    return content
