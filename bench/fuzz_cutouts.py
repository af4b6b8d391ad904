"""Cutouts that are no FITS image, or claim to be more than they are."""

from __future__ import annotations

import gzip
from functools import cache
from random import Random

import numpy as np
from fuzz_bytes import bomb, flip, gzipped, lying


def _card(keyword: str, value: object) -> str:
    text = {True: "T", False: "F"}.get(value, str(value)) if isinstance(value, bool) else str(value)
    return f"{keyword:<8}= {text:>20}".ljust(80)[:80]


def fits(rng: Random, *cards: str, side: int = 63, pixels: bytes | None = None, end: bool = True) -> bytes:
    """Make a FITS image of these cards, or of proper ones."""
    header = [_card("SIMPLE", True), _card("BITPIX", -32), _card("NAXIS", 2)]
    header += [_card("NAXIS1", side), _card("NAXIS2", side)]
    text = "".join((*(cards or header), *(("END".ljust(80),) if end else ()))).encode("latin-1")
    if pixels is None:
        pixels = np.frombuffer(rng.randbytes(side * side), np.uint8).astype(">f4").tobytes()
    return text.ljust(-(-len(text) // 2880) * 2880) + pixels + bytes(-len(pixels) % 2880)


_FITS_KEYS = (
    "SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "EXTEND", "BSCALE", "BZERO", "BLANK", "GROUPS", "PCOUNT",
    "GCOUNT", "XTENSION", "TFIELDS", "ZIMAGE", "ZBITPIX", "ZNAXIS", "ZNAXIS1", "ZNAXIS2", "THEAP", "CONTINUE",
    "HIERARCH", "COMMENT", "CHECKSUM", "DATASUM", "BLOCKED", "INHERIT", "EXTNAME", "PSCAL1",
)  # fmt: skip
_FITS_VALUES = (
    *(0, 1, 2, 3, 8, 16, 32, 64, -32, -64, -1, 63, 999, 1000, 30_000, 1 << 20, 10**6, 10**9, 10**12, 10**18),
    *(True, False, "1.5E30", "NaN", "1E400", "'IMAGE   '", "'BINTABLE'", "'unclosed", "", "1 / x", "\xff", "2.5"),
)  # fmt: skip


@cache
def _largest() -> bytes:
    """Compress the largest stamp that is let in."""
    return gzip.compress(fits(Random(0), side=256, pixels=bytes(4 * 256 * 256)), 9, mtime=0)


def cutout(rng: Random) -> bytes:
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
            lambda: fits(rng, *first, *axes),
            lambda: fits(rng, *some),
            lambda: fits(rng, *proper, *some),
            lambda: fits(rng, *proper, *some, end=False),
            lambda: fits(rng, *none) + fits(rng, *extension),
            lambda: fits(rng, *none) + fits(rng, *squeezed),
            lambda: fits(rng, *none) + fits(rng, *proper) * rng.randint(1, 50),
            lambda: fits(rng, pixels=pixels.tobytes()),
            lambda: fits(rng, side=rng.choice((1, 2, 255, 256, 257, 600)), pixels=bytes(4 * 256 * 256)),
            lambda: fits(rng)[: rng.randrange(20_000)],
            lambda: flip(rng, fits(rng)),
            lambda: (
                rng.choice((b"\xff\xd8\xff\xe0", b"\x89PNG", b"XTENSION= 'IMAGE   '", b""))
                + rng.randbytes(99)
            ),
            lambda: bomb("gzip"),
            lambda: lying(rng, bomb("gzip")),
            lambda: lying(rng, gzipped(fits(rng))),
            lambda: gzipped(gzipped(fits(rng))),
            lambda: gzipped(fits(rng)) * 2,
            lambda: gzipped(fits(rng)) + rng.randbytes(20),
            _largest,
        )
    )()
    return gzipped(made) if rng.random() < 0.4 and len(made) < 1 << 20 else made
