"""Packets that went wrong on the way, or were made to do harm: what `bench/fuzz.py` feeds to the reader.

Each is drawn from a random generator, so that its number and the seed bring it back.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from typing import Any

import cramjam
import numpy as np

from space2vec.schemas.container import MAGIC, HeaderReader, compact_json, container_header
from space2vec.schemas.limits import Limits
from space2vec.schemas.varint import encode_long
from space2vec.training.packet_schemas import ZTF_VERSIONS
from space2vec.training.packets import lsst_packet, lsst_writer_schema, ztf_packet, ztf_writer_schema

_BOMB = 64 << 20
"""Bytes that bombs inflate to."""
_LIES = (-1, 0, 1, 2, 63, 64, 255, 1 << 14, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 40, 1 << 62, (1 << 63) - 1)
_KNOWN = {"ra": 150.0, "dec": 2.0}

Mutation = Callable[["Mutator", Random], bytes]


class Mutator:
    """Makes hostile packets out of good ones.

    Parameters
    ----------
    packets : sequence of bytes
        Whole packets, of any framing.
    """

    def __init__(self, packets: Sequence[bytes]) -> None:
        self._packets = packets
        self._containers = [raw for raw in packets if raw.startswith(MAGIC)]
        self._headers = HeaderReader(Limits())

    def draw(self, rng: Random) -> tuple[str, bytes]:
        """Make one packet; the name of what was done to it comes first."""
        (kind,) = rng.choices(list(_KINDS), [weight for weight, _ in _KINDS.values()])
        raw = _KINDS[kind][1](self, rng)
        if kind not in ("whole", "flipped", "cut") and rng.random() < 0.1:
            return f"{kind} and flipped", _flip(rng, raw)
        return kind, raw

    def _end_of_header(self, raw: bytes) -> int:
        return len(self._headers.read(raw).prefix) + 16

    def whole(self, rng: Random) -> bytes:
        return rng.choice(self._packets)

    def flipped(self, rng: Random) -> bytes:
        return _flip(rng, self.whole(rng))

    def cut(self, rng: Random) -> bytes:
        raw = self.whole(rng)
        return raw[: rng.randrange(len(raw))]

    def spliced(self, rng: Random) -> bytes:
        """Take pieces out, put them in again elsewhere, or exchange them for another packet's."""
        raw = self.whole(rng)
        for _ in range(rng.randint(1, 4)):
            a, b = sorted((rng.randrange(len(raw) + 1), rng.randrange(len(raw) + 1)))
            other = self.whole(rng)
            raw = (
                rng.choice(
                    (
                        raw[:a] + raw[b:],
                        raw[:b] + raw[a:],
                        raw[:a] + other[a:],
                        raw[:a] + other[a:b] + raw[b:],
                        raw[:a] + rng.randbytes(rng.randrange(64)) + raw[a:],
                    )
                )
                or raw
            )
        return raw

    def lengths(self, rng: Random) -> bytes:
        """Put wrong numbers where counts and lengths stand, or may."""
        raw = bytearray(self.whole(rng))
        places = [at for magic in (b"\x1f\x8b\x08", b"SIMPLE", b".fits") for at in _all(raw, magic)]
        if raw.startswith(MAGIC):
            start = self._end_of_header(bytes(raw))
            places += [4, 5, start, start + 1, start + 2, start + 3, start + 4]
        for _ in range(rng.randint(1, 3)):
            lie = encode_long(
                rng.choice(_LIES) + rng.choice((-1, 0, 0, 1)) if rng.random() < 0.8 else -(1 << 63)
            )
            at = rng.choice(places) - rng.randint(0, 4) if places else rng.randrange(len(raw))
            at = max(at, 0)
            replaced = rng.choice((0, 1, 2, 3, len(lie)))
            raw[at : at + replaced] = lie
        return bytes(raw)

    def blocks(self, rng: Random) -> bytes:
        """Say wrong things about a container's blocks, or repeat them."""
        raw = rng.choice(self._containers)
        end = self._end_of_header(raw)
        header, body, sync = raw[:end], raw[end:], raw[end - 16 : end]
        count, size = rng.choice((1, 2, 1000, *_LIES)), rng.choice((len(body), *_LIES))
        return rng.choice(
            (
                header + body * rng.randint(2, 200),
                header + encode_long(count) + encode_long(len(body)) + body + sync,
                header + encode_long(count) + encode_long(size) + body,
                header + (encode_long(count) + encode_long(0) + sync) * rng.randint(1, 1000),
                header + (encode_long(0) + encode_long(0) + sync) * rng.randint(1, 1000) + body,
                header[:-16] + rng.randbytes(16) + body,
            )
        )

    def codecs(self, rng: Random) -> bytes:
        """Compress a block to a bomb, or call it what it is not."""
        codec = rng.choice(list(_SQUEEZERS))
        schema = rng.choice((ztf_writer_schema("4.02"), _TINY))
        header = container_header(compact_json(schema), codec)
        if rng.random() < 0.5:
            block = _bomb(codec)
        else:
            block = _SQUEEZERS[rng.choice(list(_SQUEEZERS))](rng.randbytes(rng.randrange(2000)))
        count = rng.choice((1, 2, 25_000, *_LIES))
        return header + encode_long(count) + encode_long(len(block)) + block + header[-16:]

    def cutouts(self, rng: Random) -> bytes:
        """Put bombs and lies where the cutouts are."""
        chosen = [_fits(rng) if rng.random() < 0.3 else _cutout(rng) for _ in range(3)]
        if rng.random() < 0.5:
            header, body = _ztf_without_cutouts()
            parts = [b"\x02\x02x" + encode_long(len(cutout)) + cutout for cutout in chosen]
            datum = body + b"".join(parts)
            repeated = rng.choice((1, 1, 1, 1, rng.randint(2, 50)))
            return b"".join(
                (
                    header,
                    encode_long(repeated),
                    encode_long(len(datum) * repeated),
                    datum * repeated,
                    header[-16:],
                )
            )
        return _lsst_without_cutouts() + b"".join(
            b"\x02" + encode_long(len(cutout)) + cutout for cutout in chosen
        )

    def schemas(self, rng: Random) -> bytes:
        """Bring a schema that is meant to do harm, or one that was damaged."""
        schema = _hostile_schema(rng)
        text = schema if isinstance(schema, str) else json.dumps(schema)
        if rng.random() < 0.2:
            at = rng.randrange(len(text))
            text = (
                text[:at]
                + rng.choice(("", '"', "{", "}", "[", "null", "9" * 5000))
                + text[at + rng.randint(0, 9) :]
            )
        header = container_header(text, rng.choice(("null", "null", "deflate", "nonsense")))
        body = rng.choice(
            (
                bytes(rng.randrange(1, 100_000)),
                rng.randbytes(rng.randrange(1, 3000)),
                b"\x02" * rng.randrange(1, 100_000),
                encode_long(1 << 60) + bytes(1000),
                self.whole(rng),
            )
        )
        count = rng.choice((1, 1, 2, 1000, 25_000, 1 << 40))
        return header + encode_long(count) + encode_long(len(body)) + body + header[-16:]

    def framings(self, rng: Random) -> bytes:
        """Name the wrong writer schema, or none."""
        raw = rng.choice([packet for packet in self._packets if not packet.startswith(MAGIC)])
        wrong = rng.choice((800, 900, 1000, 1100, 1101, 0, 12345, 0xFFFFFFFF))
        return rng.choice(
            (
                b"\x00" + wrong.to_bytes(4, "big") + raw[5:],
                raw[5:],
                raw + raw,
                rng.randbytes(rng.randrange(300)),
                MAGIC + rng.randbytes(rng.randrange(300)),
                MAGIC + encode_long(rng.choice(_LIES)) + rng.randbytes(50),
                b"\x00" + rng.choice((b"", bytes(3), bytes(4), bytes(2000))),
            )
        )


_KINDS: dict[str, tuple[int, Mutation]] = {
    "whole": (3, Mutator.whole),
    "flipped": (22, Mutator.flipped),
    "cut": (10, Mutator.cut),
    "spliced": (15, Mutator.spliced),
    "lengths": (15, Mutator.lengths),
    "blocks": (7, Mutator.blocks),
    "codecs": (4, Mutator.codecs),
    "cutouts": (14, Mutator.cutouts),
    "schemas": (7, Mutator.schemas),
    "framings": (3, Mutator.framings),
}
"""How often each is drawn, in parts of a hundred."""


def good_packets(count: int, first: int = 0) -> list[bytes]:
    """Make packets of every layout that we can make, cut stamps and missing ones among them."""
    rng, packets = np.random.default_rng(first), []
    for number in range(first, first + count):
        rows = (63, 63, 63, 41, 30, 102)[number % 6]
        triplet: list[Any] = list(rng.normal(300, 12, (3, rows, max(rows, 63))).astype(np.float32))
        if number % 7 == 3:
            triplet[0][:9] = np.nan
        if number % 11 == 5:
            triplet[1] = None
        where: dict[str, Any] = _KNOWN | {
            "alert_id": 2695378462115010012 + number,
            "negative": number % 3 == 0,
        }
        where["history"] = (0, 0, 3, 30, 60)[number % 5]
        if number % 2:
            version = ZTF_VERSIONS[number // 2 % len(ZTF_VERSIONS)]
            codec = ("null", "null", "deflate", "snappy")[number % 4]
            packets.append(
                ztf_packet(*triplet, object_id="ZTF1", jd=2460449.9, schema=version, codec=codec, **where)
            )
        else:
            schema_id = (800, 900, 1000, 1100)[number // 2 % 4]
            packets.append(lsst_packet(*triplet, object_id=7, mjd_tai=61095.3, schema_id=schema_id, **where))
    return packets


# ---- parts of packets --------------------------------------------------------------------------------------


def _flip(rng: Random, raw: bytes) -> bytes:
    flipped = bytearray(raw or b"\x00")
    reach = rng.choice((64, len(flipped)))
    start = rng.randrange(max(1, len(flipped) - reach + 1))
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        flipped[min(start + rng.randrange(reach), len(flipped) - 1)] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def _all(raw: bytes | bytearray, magic: bytes) -> list[int]:
    places, at = [], raw.find(magic)
    while at >= 0 and len(places) < 8:
        places.append(at)
        at = raw.find(magic, at + 1)
    return places


@cache
def _ztf_without_cutouts() -> tuple[bytes, bytes]:
    raw = ztf_packet(None, None, None, alert_id=1, object_id="ZTF1", jd=2460449.9, **_KNOWN)
    end = len(HeaderReader(Limits()).read(raw).prefix) + 16
    size = len(raw) - end - 16
    # One record of a few hundred bytes: its count takes one byte, its size two.
    return raw[:end], raw[end + 3 : end + size - 3]


@cache
def _lsst_without_cutouts() -> bytes:
    return lsst_packet(None, None, None, alert_id=1, object_id=1, mjd_tai=61095.3, **_KNOWN)[:-3]


def _card(keyword: str, value: object) -> str:
    text = {True: "T", False: "F"}.get(value, str(value)) if isinstance(value, bool) else str(value)
    return f"{keyword:<8}= {text:>20}".ljust(80)[:80]


def _fits(rng: Random, *cards: str, side: int = 63, pixels: bytes | None = None, end: bool = True) -> bytes:
    header = [_card("SIMPLE", True), _card("BITPIX", -32), _card("NAXIS", 2)]
    header += [_card("NAXIS1", side), _card("NAXIS2", side)]
    text = "".join((*(cards or header), *(("END".ljust(80),) if end else ()))).encode("latin-1")
    if pixels is None:
        pixels = np.frombuffer(rng.randbytes(side * side), np.uint8).astype(">f4").tobytes()
    return text.ljust(-(-len(text) // 2880) * 2880) + pixels + bytes(-len(pixels) % 2880)


_FITS_KEYS = (
    *(
        "SIMPLE",
        "BITPIX",
        "NAXIS",
        "NAXIS1",
        "NAXIS2",
        "NAXIS3",
        "EXTEND",
        "BSCALE",
        "BZERO",
        "BLANK",
        "GROUPS",
    ),
    *(
        "PCOUNT",
        "GCOUNT",
        "XTENSION",
        "TFIELDS",
        "ZIMAGE",
        "ZBITPIX",
        "ZNAXIS",
        "ZNAXIS1",
        "ZNAXIS2",
        "THEAP",
    ),
    *("CONTINUE", "HIERARCH", "COMMENT", "CHECKSUM", "DATASUM", "BLOCKED", "INHERIT", "EXTNAME", "PSCAL1"),
)
_FITS_VALUES = (
    *(0, 1, 2, 3, 8, 16, 32, 64, -32, -64, -1, 63, 999, 1000, 30_000, 1 << 20, 10**6, 10**9, 10**12, 10**18),
    *(
        True,
        False,
        "1.5E30",
        "NaN",
        "1E400",
        "'IMAGE   '",
        "'BINTABLE'",
        "'unclosed",
        "",
        "1 / x",
        "\xff",
        "2.5",
    ),
)


def _cutout(rng: Random) -> bytes:
    """Make a cutout that is wrong in one way or another."""
    claim = rng.choice((64, 255, 1000, 30_000, 10**6, 10**9, 10**12, 10**30))
    axes = [_card("NAXIS", 2), _card("NAXIS1", claim), _card("NAXIS2", rng.choice((claim, 1, 0, 63)))]
    some = [_card(rng.choice(_FITS_KEYS), rng.choice(_FITS_VALUES)) for _ in range(rng.randint(1, 30))]
    first = [_card("SIMPLE", True), _card("BITPIX", rng.choice((8, 16, 32, 64, -32, -64)))]
    proper = [*first, _card("NAXIS", 2), _card("NAXIS1", 63), _card("NAXIS2", 63)]
    none = [*first, _card("NAXIS", 0), _card("EXTEND", True)]
    extension = [
        _card("XTENSION", rng.choice(("'IMAGE   '", "'BINTABLE'", "'TABLE   '"))),
        first[1],
        *axes,
        *some,
    ]
    squeezed = [
        *(_card("XTENSION", "'BINTABLE'"), _card("BITPIX", 8), _card("NAXIS", 2), _card("NAXIS1", 8)),
        *(_card("NAXIS2", 63), _card("PCOUNT", claim), _card("GCOUNT", 1), _card("TFIELDS", 1)),
        *(_card("TTYPE1", "'COMPRESSED_DATA'"), _card("TFORM1", "'1PB(99)'"), _card("ZIMAGE", True)),
        *(_card("ZBITPIX", -32), _card("ZNAXIS", 2), _card("ZNAXIS1", claim), _card("ZNAXIS2", claim)),
        *(_card("ZCMPTYPE", rng.choice(("'GZIP_1'", "'RICE_1'", "'HCOMPRESS_1'", "'PLIO_1'"))), *some),
    ]
    pixels = rng.choice((np.nan, np.inf, -np.inf, 0.0, 1e38, -3.4e38, 1e-45)) * np.ones((63, 63), ">f4")
    made = rng.choice(
        (
            lambda: _fits(rng, *first, *axes),
            lambda: _fits(rng, *some),
            lambda: _fits(rng, *proper, *some),
            lambda: _fits(rng, *proper, *some, end=False),
            lambda: _fits(rng, *none) + _fits(rng, *extension),
            lambda: _fits(rng, *none) + _fits(rng, *squeezed),
            lambda: _fits(rng, *none) + _fits(rng, *proper) * rng.randint(1, 50),
            lambda: _fits(rng, pixels=pixels.tobytes()),
            lambda: _fits(rng, side=rng.choice((1, 2, 255, 256, 257, 600)), pixels=bytes(4 * 256 * 256)),
            lambda: _fits(rng)[: rng.randrange(20_000)],
            lambda: _flip(rng, _fits(rng)),
            lambda: (
                rng.choice((b"\xff\xd8\xff\xe0", b"\x89PNG", b"XTENSION= 'IMAGE   '", b""))
                + rng.randbytes(99)
            ),
            lambda: _bomb("gzip"),
            lambda: _lying(rng, _bomb("gzip")),
            lambda: _lying(rng, _gzip(_fits(rng))),
            lambda: _gzip(_gzip(_fits(rng))),
            lambda: _gzip(_fits(rng)) * 2,
            lambda: _gzip(_fits(rng)) + rng.randbytes(20),
            lambda: _bomb("stamp"),
        )
    )()
    return _gzip(made) if rng.random() < 0.4 and len(made) < 1 << 20 else made


def _gzip(content: bytes) -> bytes:
    return gzip.compress(content, 1, mtime=0)


def _lying(rng: Random, zipped: bytes) -> bytes:
    """Change what a gzip file says of itself: its flags, or its size."""
    lying = bytearray(zipped)
    if rng.random() < 0.5:
        lying[3] = rng.randrange(256)
    else:
        lying[-4:] = rng.choice((0, 1, 19_000, 4 << 20, (1 << 32) - 1)).to_bytes(4, "little")
    return bytes(lying)


def _deflate(content: bytes) -> bytes:
    return zlib.compress(content, 9, wbits=-15)


def _snappy(content: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(content)) + zlib.crc32(content).to_bytes(4, "big")


_SQUEEZERS: dict[str, Callable[[bytes], bytes]] = {
    "null": bytes,
    "deflate": _deflate,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "snappy": _snappy,
    "zstandard": lambda content: bytes(cramjam.zstd.compress(content)),
    "lz4": lambda content: bytes(cramjam.lz4.compress_block(content)),
}


@cache
def _bomb(kind: str) -> bytes:
    """Compress very many zeros; a ``stamp`` is the largest that is let in."""
    if kind == "stamp":
        return gzip.compress(_fits(Random(0), side=256, pixels=bytes(4 * 256 * 256)), 9, mtime=0)
    if kind == "gzip":
        return gzip.compress(bytes(_BOMB), 9, mtime=0)
    return _SQUEEZERS[kind](bytes(_BOMB // 4 if kind in ("null", "bzip2", "xz") else _BOMB))


# ---- schemas -----------------------------------------------------------------------------------------------

_TINY: dict[str, Any] = {"type": "record", "name": "tiny", "fields": []}
_KINDS_OF_TYPE = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")


def _record(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields.items()]}


def _some_type(rng: Random, depth: int = 0) -> Any:
    if depth > 4 or rng.random() < 0.5:
        return rng.choice(_KINDS_OF_TYPE)
    inner = _some_type(rng, depth + 1)
    return rng.choice(
        (
            {"type": "array", "items": inner},
            {"type": "map", "values": inner},
            ["null", inner] if isinstance(inner, str) and inner != "null" else inner,
            {"type": "enum", "name": f"e{rng.randrange(10**9)}", "symbols": ["a", "b"]},
            {
                "type": "fixed",
                "name": f"f{rng.randrange(10**9)}",
                "size": rng.choice((0, 1, 1 << 20, 1 << 40)),
            },
            _record(
                f"r{rng.randrange(10**9)}",
                {f"x{i}": _some_type(rng, depth + 1) for i in range(rng.randint(0, 4))},
            ),
        )
    )


def _hostile_schema(rng: Random) -> Any:
    """A schema that costs more than its bytes."""
    wide = rng.choice((100, 1000, 3000, 8000))
    kind = rng.choice(_KINDS_OF_TYPE)
    survey = rng.choice((ztf_writer_schema(rng.choice(ZTF_VERSIONS)), lsst_writer_schema("11.0")))
    fields = survey["fields"]
    more = [{"name": f"more{i}", "type": rng.choice((kind, ["null", kind]))} for i in range(wide // 2)]
    at = rng.randrange(len(fields) + 1)
    doubling = {f"r{i}": _record(f"R{i}", dict.fromkeys("ab", f"R{i - 1}") if i else {}) for i in range(40)}
    return rng.choice(
        (
            lambda: _record("alert", {"next": ["null", "alert"]}),
            lambda: _record("alert", {"next": {"type": "array", "items": "alert"}}),
            lambda: _record("alert", doubling),
            lambda: _record("alert", {f"f{i}": kind for i in range(wide)}),
            lambda: _record(
                "alert", {"a": {"type": "array", "items": _record("i", {f"f{i}": kind for i in range(wide)})}}
            ),
            lambda: _record(
                "alert", {"a": {"type": "array", "items": _record("i", {"n": "null", "b": "boolean"})}}
            ),
            lambda: [_record(f"alert{i}", {"candid": "long"}) for i in range(wide // 10)],
            lambda: "[" * rng.randrange(10_000),
            lambda: survey | {"fields": [*fields[:at], *more, *fields[at:]]},
            lambda: (
                survey | {"fields": [*fields[:at], {"name": "more", "type": _some_type(rng)}, *fields[at:]]}
            ),
            lambda: survey | {"fields": rng.sample(fields, rng.randint(1, len(fields)))},
            lambda: _record("alert", {f"x{i}": _some_type(rng) for i in range(rng.randint(1, 30))}),
            lambda: _TINY,
        )
    )()
