"""What does harm in any layout: flipped bits, false numbers, every compression, and bombs of each."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from functools import cache
from random import Random

import cramjam

LIES = (-1, 0, 1, 2, 63, 64, 255, 1 << 14, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 40, 1 << 62, (1 << 63) - 1)
"""What counts and lengths claim to be."""
_BOMB = 64 << 20
"""Bytes that bombs inflate to."""


def flip(rng: Random, raw: bytes) -> bytes:
    """Flip some bits, all within 64 bytes or anywhere."""
    flipped = bytearray(raw or b"\x00")
    reach = rng.choice((64, len(flipped)))
    start = rng.randrange(max(1, len(flipped) - reach + 1))
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        flipped[min(start + rng.randrange(reach), len(flipped) - 1)] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def gzipped(content: bytes) -> bytes:
    """Compress as a gzip file, the same each time."""
    return gzip.compress(content, 1, mtime=0)


def lying(rng: Random, zipped: bytes) -> bytes:
    """Change what a gzip file says of itself: its flags, or its size."""
    told = bytearray(zipped)
    if rng.random() < 0.5:
        told[3] = rng.randrange(256)
    else:
        told[-4:] = rng.choice((0, 1, 19_000, 4 << 20, (1 << 32) - 1)).to_bytes(4, "little")
    return bytes(told)


def _deflate(content: bytes) -> bytes:
    return zlib.compress(content, 9, wbits=-15)


def _snappy(content: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(content)) + zlib.crc32(content).to_bytes(4, "big")


SQUEEZERS: dict[str, Callable[[bytes], bytes]] = {
    "null": bytes,
    "deflate": _deflate,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "snappy": _snappy,
    "zstandard": lambda content: bytes(cramjam.zstd.compress(content)),
    "lz4": lambda content: bytes(cramjam.lz4.compress_block(content)),
}
"""What compresses, by the name of the codec in a container."""


@cache
def bomb(kind: str) -> bytes:
    """Compress very many zeros, with a container's codec or as a gzip file."""
    if kind == "gzip":
        return gzip.compress(bytes(_BOMB), 9, mtime=0)
    return SQUEEZERS[kind](bytes(_BOMB // 4 if kind in ("null", "bzip2", "xz") else _BOMB))
