"""Inflating compressed bytes under a hard cap, whatever they claim: container blocks and gzipped stamps."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable

import cramjam
import deflate

_XZ_MEMORY = 128 << 20
"""What liblzma may use for itself: preset 9 needs 65 MiB."""
_GZIP_TRAILER = 8
_FULL_BUFFER = "write whole buffer"
"""How cramjam says that the output is larger than the buffer; a test holds it to that."""


class TooLargeError(ValueError):
    """More comes out than the cap allows."""

    def __init__(self, cap: int) -> None:
        super().__init__(f"inflates to more than {cap} bytes")


def inflate_block(codec: str, block: bytes, cap: int) -> tuple[bytes, bool]:
    """Inflate one block of an Avro container.

    Parameters
    ----------
    codec : str
        A key of ``CODECS``.
    block : bytes
        As it stands in the file.
    cap : int
        Most bytes that may come out.

    Returns
    -------
    inflated : bytes
        What came out.
    whole : bool
        Whether that is all of it: false if the block is cut short, where the codec can tell.

    Raises
    ------
    TooLargeError
        If more than ``cap`` would come out.
    Exception
        Whatever the codec raises for bytes that are not its own.
    """
    return CODECS[codec](block, cap)


def gunzip(zipped: bytes | memoryview, cap: int) -> bytes | bytearray:
    """Inflate the first member of a gzip file, its checksum verified; what follows it is ignored.

    libdeflate needs the size beforehand, for which the last four bytes are taken at their word if that is
    within the cap. Where they were wrong (something follows the member), zlib does the work.

    Raises
    ------
    TooLargeError
        If more than ``cap`` would come out.
    ValueError, zlib.error
        If it is not gzip, damaged, or cut short.
    """
    size = int.from_bytes(zipped[-4:], "little")
    if size <= cap and len(zipped) > _GZIP_TRAILER:
        try:
            inflated: bytearray = deflate.gzip_decompress(zipped, size)
            return inflated
        except (deflate.DeflateError, ValueError):
            pass
    inflater = zlib.decompressobj(wbits=31)
    capped = _capped(inflater.decompress(zipped, cap + 1), cap)
    if not inflater.eof:
        raise ValueError("gzip is cut short")
    return capped


def _null(block: bytes, cap: int) -> tuple[bytes, bool]:
    return _capped(block, cap), True


def _deflate(block: bytes, cap: int) -> tuple[bytes, bool]:
    inflater = zlib.decompressobj(wbits=-15)
    inflated = inflater.decompress(block, cap + 1)
    return _capped(inflated, cap), inflater.eof


def _bzip2(block: bytes, cap: int) -> tuple[bytes, bool]:
    inflater = bz2.BZ2Decompressor()
    inflated = inflater.decompress(block, cap + 1)
    return _capped(inflated, cap), inflater.eof


def _xz(block: bytes, cap: int) -> tuple[bytes, bool]:
    inflater = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
    inflated = inflater.decompress(block, cap + 1)
    return _capped(inflated, cap), inflater.eof


def _snappy(block: bytes, cap: int) -> tuple[bytes, bool]:
    squeezed, checksum = block[:-4], block[-4:]
    if cramjam.snappy.decompress_raw_len(squeezed) > cap:
        raise TooLargeError(cap)
    inflated = bytes(cramjam.snappy.decompress_raw(squeezed))
    if zlib.crc32(inflated).to_bytes(4, "big") != checksum:
        raise ValueError("snappy checksum does not match")
    return inflated, True


def _zstandard(block: bytes, cap: int) -> tuple[bytes, bool]:
    # A frame need not say how large it is, so the buffer grows until it fits or the cap is reached.
    size = min(cap, max(1 << 20, 16 * len(block)))
    while True:
        buffer = bytearray(size)
        try:
            length = cramjam.zstd.decompress_into(block, buffer)
        except cramjam.DecompressionError as error:
            if _FULL_BUFFER not in str(error):
                raise
            if size == cap:
                raise TooLargeError(cap) from None
            size = min(cap, 8 * size)
        else:
            return bytes(buffer[:length]), True


def _lz4(block: bytes, cap: int) -> tuple[bytes, bool]:
    if int.from_bytes(block[:4], "little") > cap:
        raise TooLargeError(cap)
    return bytes(cramjam.lz4.decompress_block(block)), True


def _capped(inflated: bytes, cap: int) -> bytes:
    if len(inflated) > cap:
        raise TooLargeError(cap)
    return inflated


CODECS: dict[str, Callable[[bytes, int], tuple[bytes, bool]]] = {
    "null": _null,
    "deflate": _deflate,
    "bzip2": _bzip2,
    "xz": _xz,
    "snappy": _snappy,
    "zstandard": _zstandard,
    "lz4": _lz4,
}
"""Inflater by the name that stands in a container's ``avro.codec``: all that fastavro knows."""
