"""Reading one cutout: FITS, gzipped or not, into an array.

Nearly every stamp is a primary image of 32-bit floats, for which looking at a few cards and one conversion
are enough: some 10 microseconds, against astropy's 2 ms. Whatever is not exactly that goes to astropy.

Source: FITS standard 4.0, fits.gsfc.nasa.gov.
"""

from __future__ import annotations

import re
import warnings
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from space2vec.schemas.errors import Reason, StampError
from space2vec.schemas.inflate import TooLargeError, gunzip
from space2vec.schemas.limits import Limits

_BLOCK = 2880
_MOST_HEADER_BYTES = 40 * _BLOCK
_MOST_HDUS = 8
# Of what these cards count astropy makes a list, before anything else is looked at; the standard allows 999. And it
# multiplies sizes as it finds them: a string times the sides of an image is a string of gigabytes.
_ENDLESS = re.compile(
    rb"(?:NAXIS|TFIELDS) *= *\+?0*[1-9][0-9]{3}|(?:NAXIS[0-9]*|BITPIX|[GP]COUNT) *= *'|GROUPS *= *T",
    re.IGNORECASE,
)
# The standard has these five first, in this order, with a number in any column; ZTF's SIMPLE has its T in the
# wrong one. Each lookahead reads a value, and 71 bytes lead to the next card.
_HEADER = re.compile(
    rb"SIMPLE  =(?= *T[ /]).{71}"
    rb"BITPIX  =(?= *(-32|-64)[ /]).{71}"
    rb"NAXIS   =(?= *2[ /]).{71}"
    rb"NAXIS1  =(?= *([0-9]+)[ /]).{71}"
    rb"NAXIS2  =(?= *([0-9]+)[ /]).{71}"
    rb"(?:(?!END {77}).{80})*+END {77}",
    re.DOTALL,
)
_RESCALED = (b"BSCALE", b"BZERO", b"BLANK", b"GROUPS")
_FLOATS: dict[bytes, np.dtype[np.floating[Any]]] = {b"-32": np.dtype(">f4"), b"-64": np.dtype(">f8")}
_OTHERS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"XTENSION": "a FITS extension without its primary header",
    b"\x93NUMPY": "a NumPy array",
}


def read_stamp(cutout: bytes | memoryview, field: str, limits: Limits = Limits()) -> NDArray[np.float32]:  # noqa: B008
    """Read a cutout.

    Parameters
    ----------
    cutout : bytes or memoryview
        As the packet holds it: FITS, or gzip of FITS. Its first image is read; what comes after (variance,
        PSF, tables) is not looked at.
    field : str
        Name of the cutout's field, for the error.
    limits : Limits
        Bounds on what it may inflate to and on its sides.

    Returns
    -------
    (rows, cols) float32 array
        In native byte order and C order; equal to ``astropy.io.fits``'s ``.data.astype(float32)``.

    Raises
    ------
    StampError
        ``STAMP_MISSING``, ``STAMP_NOT_FITS``, ``STAMP_DAMAGED`` or ``STAMP_TOO_LARGE``.
    """
    fits: bytes | bytearray | memoryview = cutout
    if cutout[:2] == b"\x1f\x8b":
        try:
            fits = gunzip(cutout, limits.stamp_bytes)
        except TooLargeError as error:
            raise StampError(Reason.STAMP_TOO_LARGE, f"gzip {error}", field=field) from None
        except Exception as error:  # noqa: BLE001 - zlib.error, ValueError, MemoryError ...
            raise StampError(Reason.STAMP_DAMAGED, f"gzip: {error}", field=field) from None
    if fits[:6] != b"SIMPLE":
        raise _not_fits(bytes(fits[:8]), gzipped=fits is not cutout, field=field)
    if len(fits) > limits.stamp_bytes:
        raise StampError(Reason.STAMP_TOO_LARGE, f"{len(fits)} bytes", field=field)
    image = _plain_image(fits)
    if image is None:
        return _read_with_astropy(bytes(fits), field, limits)
    rows, cols = image.shape
    _check_sides(rows, cols, field, limits)
    wanted = rows * cols * image.dtype.itemsize
    if len(fits) - image.start < wanted:
        detail = f"cut short: {max(len(fits) - image.start, 0)} of {wanted} bytes of pixels"
        raise StampError(Reason.STAMP_DAMAGED, detail, field=field)
    return _as_float32(np.ndarray(image.shape, image.dtype, fits, image.start))


class _Image(NamedTuple):
    """A primary image of floats that are what they say."""

    header: bytes
    """The cards that say so, whole blocks of them."""
    dtype: np.dtype[np.floating[Any]]
    shape: tuple[int, int]
    start: int
    """Byte at which the pixels begin."""


_last = _Image(b"not a header", np.dtype(">f4"), (0, 0), 0)
"""That of the stamp before: a packet's three mostly have the same header, and ZTF's of years do."""


def _plain_image(fits: bytes | bytearray | memoryview) -> _Image | None:
    """Describe a primary image of floats that are what they say; ``None`` for all else."""
    global _last
    last = _last  # replaced as a whole: whichever a thread sees is right
    if bytes(fits[: last.start]) == last.header:
        return last
    header = bytes(fits[:_MOST_HEADER_BYTES])
    cards = _HEADER.match(header)
    if cards is None or any(header.find(keyword, 0, cards.end()) >= 0 for keyword in _RESCALED):
        return None
    bitpix, cols, rows = cards.groups()
    start = -(-cards.end() // _BLOCK) * _BLOCK
    _last = _Image(header[:start], _FLOATS[bitpix], (int(rows), int(cols)), start)
    return _last


def _read_with_astropy(fits: bytes, field: str, limits: Limits) -> NDArray[np.float32]:
    """Read the first image that has two axes, wherever it is and however it is packed."""
    endless = _ENDLESS.search(fits)
    if endless is not None:
        told = endless[0].decode("ascii")
        raise StampError(Reason.STAMP_DAMAGED, f"FITS: refused for its card {told!r}", field=field)
    # Imported when first needed: it takes half a second, and most services never read such a stamp.
    from astropy.io import fits as astropy_fits

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with astropy_fits.open(
                BytesIO(fits), memmap=False, lazy_load_hdus=True, ignore_missing_simple=True
            ) as hdus:
                for index in range(_MOST_HDUS):
                    try:
                        hdu = hdus[index]
                    except IndexError:
                        break
                    shape: tuple[int, ...] = hdu.shape if hdu.is_image else ()
                    sides = shape if len(shape) == 2 else tuple(side for side in shape if side != 1)
                    if len(sides) == 2:
                        # Before .data, which allocates what the header claims.
                        rows, cols = sides
                        _check_sides(rows, cols, field, limits)
                        return _as_float32(np.asarray(hdu.data).reshape(rows, cols))
    except StampError:
        raise
    except Exception as error:  # noqa: BLE001 - astropy answers broken FITS with whatever it runs into
        detail = f"FITS: {type(error).__name__}: {error}"
        raise StampError(Reason.STAMP_DAMAGED, detail[:300], field=field) from None
    raise StampError(Reason.STAMP_NOT_FITS, "FITS without an image of two axes", field=field)


def _as_float32(pixels: NDArray[np.generic]) -> NDArray[np.float32]:
    if pixels.dtype.itemsize <= 4:
        return pixels.astype(np.float32, order="C")
    with np.errstate(over="ignore", invalid="ignore"):
        return pixels.astype(np.float32, order="C")


def _check_sides(rows: int, cols: int, field: str, limits: Limits) -> None:
    if rows < 1 or cols < 1:
        raise StampError(Reason.STAMP_DAMAGED, f"an image of {rows} x {cols} pixels", field=field)
    if max(rows, cols) > limits.stamp_side:
        detail = f"{rows} x {cols} pixels; the limit is {limits.stamp_side} a side"
        raise StampError(Reason.STAMP_TOO_LARGE, detail, field=field)


def _not_fits(start: bytes, *, gzipped: bool, field: str) -> StampError:
    inside = " inside gzip" if gzipped else ""
    if not start:
        return StampError(Reason.STAMP_MISSING, f"no bytes{inside}", field=field)
    for magic, name in _OTHERS.items():
        if start.startswith(magic):
            return StampError(Reason.STAMP_NOT_FITS, f"{name}{inside}, not FITS", field=field)
    return StampError(Reason.STAMP_NOT_FITS, f"not FITS{inside}: starts with {start.hex()}", field=field)
