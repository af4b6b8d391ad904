from __future__ import annotations

import bz2
import gzip
import lzma
import os
import zlib

import cramjam
import pytest

from space2vec.schemas.inflate import CODECS, TooLargeError, gunzip, inflate_block

CAP = 1 << 20
TEXT = os.urandom(1000) * 20


def raw_deflate(content: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(content) + deflater.flush()


SQUEEZE = {
    "null": bytes,
    "deflate": raw_deflate,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "snappy": lambda b: bytes(cramjam.snappy.compress_raw(b)) + zlib.crc32(b).to_bytes(4, "big"),
    "zstandard": lambda b: bytes(cramjam.zstd.compress(b)),
    "lz4": lambda b: bytes(cramjam.lz4.compress_block(b)),
}


@pytest.mark.parametrize("codec", CODECS)
def test_inflates(codec: str) -> None:
    assert inflate_block(codec, SQUEEZE[codec](TEXT), CAP) == (TEXT, True)


@pytest.mark.parametrize("codec", CODECS)
def test_refuses_more_than_the_cap(codec: str) -> None:
    bomb = SQUEEZE[codec](bytes(CAP + 1))
    with pytest.raises(TooLargeError, match="more than 1048576 bytes"):
        inflate_block(codec, bomb, CAP)


@pytest.mark.parametrize("codec", CODECS)
def test_gives_exactly_the_cap(codec: str) -> None:
    assert inflate_block(codec, SQUEEZE[codec](bytes(CAP)), CAP) == (bytes(CAP), True)


@pytest.mark.parametrize("codec", ["deflate", "bzip2", "xz"])
def test_gives_what_is_there_of_a_block_cut_short(codec: str) -> None:
    content = os.urandom(300_000)
    inflated, whole = inflate_block(codec, SQUEEZE[codec](content)[:-1000], CAP)
    assert not whole
    assert content.startswith(inflated)


@pytest.mark.parametrize("codec", ["snappy", "zstandard", "lz4"])
def test_raises_for_a_block_cut_short(codec: str) -> None:
    with pytest.raises(Exception, match=r"."):
        inflate_block(codec, SQUEEZE[codec](TEXT)[:-10], CAP)


def test_checks_the_checksum_of_snappy() -> None:
    with pytest.raises(ValueError, match="checksum"):
        inflate_block("snappy", SQUEEZE["snappy"](TEXT)[:-1] + b"\x00", CAP)


def test_zstandard_frames_need_not_say_their_size() -> None:
    frames = cramjam.zstd.Compressor()
    frames.compress(bytes(CAP - 5))
    assert inflate_block("zstandard", bytes(frames.finish()), CAP) == (bytes(CAP - 5), True)


class TestGunzip:
    def test_inflates(self) -> None:
        assert gunzip(gzip.compress(TEXT), CAP) == TEXT

    def test_inflates_to_nothing(self) -> None:
        assert gunzip(gzip.compress(b""), CAP) == b""

    def test_a_bomb_is_refused_without_inflating_it(self) -> None:
        with pytest.raises(TooLargeError):
            gunzip(gzip.compress(bytes(50 * CAP)), CAP)

    def test_a_bomb_that_lies_about_its_size_is_refused(self) -> None:
        bomb = gzip.compress(bytes(50 * CAP))[:-4] + (100).to_bytes(4, "little")
        with pytest.raises(TooLargeError):
            gunzip(bomb, CAP)

    def test_bytes_behind_it_are_ignored(self) -> None:
        assert gunzip(gzip.compress(TEXT) + b"behind it", CAP) == TEXT

    @pytest.mark.parametrize("damage", [slice(0, -1), slice(0, 30), slice(0, 3)])
    def test_cut_short(self, damage: slice) -> None:
        with pytest.raises((ValueError, zlib.error)):
            gunzip(gzip.compress(TEXT)[damage], CAP)

    def test_checksum_is_checked(self) -> None:
        zipped = bytearray(gzip.compress(TEXT))
        zipped[-6] ^= 0xFF
        with pytest.raises(zlib.error):
            gunzip(bytes(zipped), CAP)
