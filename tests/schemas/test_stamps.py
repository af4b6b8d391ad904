from __future__ import annotations

import gzip
import tracemalloc
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from space2vec.schemas import stamps
from space2vec.schemas.alert import Alert, Plane
from space2vec.schemas.errors import Reason, StampError
from space2vec.schemas.limits import Limits
from space2vec.schemas.reader import PacketReader
from space2vec.schemas.stamps import read_stamp

Pixels = NDArray[Any]


def written(*hdus: Any) -> bytes:
    buffer = BytesIO()
    fits.HDUList(
        [fits.PrimaryHDU(hdus[0]) if isinstance(hdus[0], np.ndarray) else hdus[0], *hdus[1:]]
    ).writeto(buffer)
    return buffer.getvalue()


def by_astropy(plain: bytes) -> Pixels:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(BytesIO(plain), ignore_missing_simple=True) as hdus:
            image = next(hdu for hdu in hdus if hdu.is_image and hdu.data is not None)
            return np.asarray(image.data).astype(np.float32)


def same(stamp: Pixels, other: Pixels) -> bool:
    return stamp.dtype == other.dtype and stamp.shape == other.shape and stamp.tobytes() == other.tobytes()


@pytest.fixture
def image() -> Pixels:
    pixels = np.random.default_rng(3).normal(0, 100, (41, 63)).astype(np.float32)
    pixels[:3] = np.nan
    pixels[5, 5] = np.inf
    return pixels


@pytest.fixture
def no_astropy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where the ordinary stamp takes the slow way."""

    def fail(*_: object) -> None:
        raise AssertionError("went to astropy")

    monkeypatch.setattr(stamps, "_read_with_astropy", fail)


def failure(cutout: bytes, limits: Limits = Limits()) -> StampError:  # noqa: B008
    with pytest.raises(StampError) as refused:
        read_stamp(cutout, "cutoutScience", limits)
    assert refused.value.field == "cutoutScience"
    return refused.value


@pytest.mark.usefixtures("no_astropy")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("zipped", [False, True])
def test_reads_floats_without_astropy(image: Pixels, dtype: Any, zipped: bool) -> None:
    plain = written(image.astype(dtype))
    stamp = read_stamp(gzip.compress(plain) if zipped else plain, "x")
    assert same(stamp, by_astropy(plain))
    assert stamp.dtype.isnative
    assert stamp.flags.c_contiguous
    assert stamp.flags.writeable


@pytest.mark.usefixtures("no_astropy")
def test_ztfs_malformed_first_card(image: Pixels) -> None:
    plain = b"SIMPLE  =  T".ljust(80) + written(image)[80:]
    assert same(read_stamp(plain, "x"), image)


@pytest.mark.usefixtures("no_astropy")
def test_what_follows_the_image_is_not_read(image: Pixels) -> None:
    psf = fits.ImageHDU(np.ones((45, 43)), name="PSFIMAGE")
    table = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=np.arange(9))])
    assert same(read_stamp(written(image, psf, table), "x"), image)
    assert same(read_stamp(written(image, psf)[:-2000], "x"), image)


@pytest.mark.usefixtures("no_astropy")
def test_long_headers_and_the_word_end_in_them(image: Pixels) -> None:
    hdu = fits.PrimaryHDU(image)
    hdu.header["COMMENT"] = "the END"
    for number in range(100):
        hdu.header.append(("", ""), end=True)
        hdu.header[f"KEY{number}"] = "END"
    assert same(read_stamp(written(hdu), "x"), image)


def test_headers_that_differ_from_the_one_before(image: Pixels) -> None:
    """A header is looked at once; the next is taken for the same only if it is, to the last card."""
    hdus = {side: fits.PrimaryHDU(image[:, :side]) for side in (63, 62)}
    hdus[0] = fits.PrimaryHDU(image)
    hdus[0].header["NOTE"] = "END"
    hdus[1] = fits.PrimaryHDU(image.astype(np.float64))
    hdus[2] = scaled(image)
    plain = {name: written(hdu) for name, hdu in hdus.items()}
    plain[3] = plain[63].replace(b"EXTEND  =                    T", b"BSCALE  =                    2")
    assert plain[3] != plain[63]
    for name in [*plain, *reversed(plain), 63, 3, 63, 0, 63]:
        assert same(read_stamp(plain[name], "x"), by_astropy(plain[name]))
        assert same(read_stamp(memoryview(gzip.compress(plain[name])), "x"), by_astropy(plain[name]))


@pytest.mark.usefixtures("no_astropy")
def test_padding_may_be_missing(image: Pixels) -> None:
    assert same(read_stamp(written(image)[: 2880 + image.nbytes], "x"), image)


def scaled(image: Pixels) -> Any:
    hdu = fits.PrimaryHDU((image[3:] * 10).round().clip(-9999, 9999).astype(np.int16))
    hdu.header["BLANK"] = int(hdu.data[0, 0])
    hdu.header["BSCALE"], hdu.header["BZERO"] = 0.1, 5.0
    return hdu


UNUSUAL: dict[str, Callable[[Pixels], bytes]] = {
    "bytes": lambda image: written(np.arange(600, dtype=np.uint8).reshape(20, 30)),
    "shorts": lambda image: written(np.arange(600, dtype=np.int16).reshape(20, 30)),
    "unsigned": lambda image: written(np.arange(600, dtype=np.uint16).reshape(20, 30)),
    "ints": lambda image: written(np.arange(600, dtype=np.int32).reshape(20, 30)),
    "longs": lambda image: written(np.arange(600, dtype=np.int64).reshape(20, 30)),
    "scaled, with blanks": lambda image: written(scaled(image)),
    "image in the first extension": lambda image: written(fits.PrimaryHDU(), fits.ImageHDU(image)),
    "compressed": lambda image: written(
        fits.PrimaryHDU(), fits.CompImageHDU(np.arange(600, dtype=np.int32).reshape(20, 30))
    ),
    "compressed floats": lambda image: written(fits.PrimaryHDU(), fits.CompImageHDU(image[6:])),
}


@pytest.mark.parametrize("make", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_reads_unusual_images_as_astropy_does(image: Pixels, make: Callable[[Pixels], bytes]) -> None:
    plain = make(image)
    assert same(read_stamp(plain, "x"), by_astropy(plain))
    assert same(read_stamp(gzip.compress(plain), "x"), by_astropy(plain))


def test_reads_an_image_with_an_axis_of_one() -> None:
    cube = np.arange(600, dtype=np.float32).reshape(1, 20, 30)
    assert same(read_stamp(written(cube), "x"), cube[0])


@pytest.mark.filterwarnings("error")
def test_doubles_beyond_a_float_become_infinite() -> None:
    assert np.isinf(read_stamp(written(np.full((3, 3), 1e300)), "x")).all()


NOT_FITS = {
    "JPEG": (b"\xff\xd8\xff\xe0" + bytes(99), Reason.STAMP_NOT_FITS, "JPEG, not FITS"),
    "JPEG in gzip": (gzip.compress(b"\xff\xd8\xff\xe0"), Reason.STAMP_NOT_FITS, "JPEG inside gzip, not FITS"),
    "PNG": (b"\x89PNG\r\n", Reason.STAMP_NOT_FITS, "PNG, not FITS"),
    "anything": (b"hello, world", Reason.STAMP_NOT_FITS, "not FITS: starts with 68656c6c6f2c2077"),
    "nothing": (b"", Reason.STAMP_MISSING, "no bytes"),
    "gzip of nothing": (gzip.compress(b""), Reason.STAMP_MISSING, "no bytes inside gzip"),
}


@pytest.mark.parametrize(("cutout", "reason", "detail"), NOT_FITS.values(), ids=NOT_FITS.keys())
def test_says_what_it_is_instead(cutout: bytes, reason: Reason, detail: str) -> None:
    error = failure(cutout)
    assert (error.reason, error.detail) == (reason, detail)


def test_gzip_damage(image: Pixels) -> None:
    zipped = bytearray(gzip.compress(written(image)))
    zipped[len(zipped) // 2] ^= 0xFF
    assert failure(bytes(zipped)).reason is Reason.STAMP_DAMAGED
    assert failure(bytes(zipped[:500])).reason is Reason.STAMP_DAMAGED


def test_pixels_cut_short(image: Pixels) -> None:
    error = failure(written(image)[:5000])
    assert (error.reason, error.detail) == (
        Reason.STAMP_DAMAGED,
        f"cut short: 2120 of {image.nbytes} bytes of pixels",
    )
    assert failure(written(image)[:2880]).reason is Reason.STAMP_DAMAGED


def test_header_cut_short(image: Pixels) -> None:
    assert failure(written(image)[:400]).reason is Reason.STAMP_DAMAGED


def test_no_image() -> None:
    error = failure(written(fits.PrimaryHDU()))
    assert (error.reason, error.detail) == (Reason.STAMP_NOT_FITS, "FITS without an image of two axes")


def with_side(side: str) -> bytes:
    plain = bytearray(written(np.zeros((3, 3), np.float32)))
    plain[240:320] = f"NAXIS1  = {side:>20}".ljust(80).encode()
    return bytes(plain)


@pytest.mark.parametrize("side", ["1025", "99999999999999999999"])
def test_more_pixels_than_the_limit(side: str) -> None:
    assert failure(with_side(side)).reason is Reason.STAMP_TOO_LARGE


@pytest.mark.parametrize("side", ["0", "-63", "63.5", "''"])
def test_sides_that_are_none(side: str) -> None:
    assert failure(with_side(side)).reason in (Reason.STAMP_DAMAGED, Reason.STAMP_NOT_FITS)


def test_compressed_images_are_measured_before_they_are_unpacked() -> None:
    wide = np.zeros((3, 5000), np.int32)
    assert failure(written(fits.PrimaryHDU(), fits.CompImageHDU(wide))).reason is Reason.STAMP_TOO_LARGE


@pytest.mark.parametrize("keyword", ["NAXIS", "naxis", "TFIELDS", "ZNAXIS"])
@pytest.mark.parametrize("number", ["1000000000", "+1000000000", "0001000"])
def test_cards_that_would_keep_astropy_busy_for_ever(keyword: str, number: str) -> None:
    """Found by fuzzing: astropy looks for NAXISn up to a n of what NAXIS says."""
    card = f"{keyword:<8}= {number:>20}".ljust(80).encode()
    plain = written(np.zeros((9, 9), np.float32))
    found = failure(plain[:160] + card + plain[240:])
    assert found.reason is Reason.STAMP_DAMAGED
    assert "refused" in found.detail


def test_more_bytes_than_the_limit() -> None:
    plain = written(np.zeros((63, 63), np.float32))
    limits = Limits(stamp_bytes=len(plain) - 1)
    assert failure(plain, limits).reason is Reason.STAMP_TOO_LARGE
    assert failure(gzip.compress(plain), limits).reason is Reason.STAMP_TOO_LARGE
    assert read_stamp(plain, "x", Limits(stamp_bytes=len(plain))).shape == (63, 63)


PLAIN = written(np.zeros((9, 9), np.float32))


@settings(max_examples=300)
@given(st.integers(0, 2880), st.binary(min_size=1, max_size=40))
def test_any_header_gives_a_stamp_or_a_stamp_error(at: int, noise: bytes) -> None:
    cutout = PLAIN[:at] + noise + PLAIN[at + len(noise) :]
    try:
        stamp = read_stamp(cutout, "x", Limits(stamp_side=100))
    except StampError as error:
        assert error.detail  # noqa: PT017 - either outcome is right
    else:
        assert stamp.dtype == np.float32
        assert stamp.ndim == 2


def test_every_real_stamp_equals_astropys(shared: Path) -> None:
    reader = PacketReader()
    compared = 0
    for path in sorted((shared / "packets").rglob("*.avro")):
        for alert in reader.read(path.read_bytes()):
            if not isinstance(alert, Alert) or not alert.stamps:
                continue
            for plane, stamp in alert.stamps.items():
                cutout = cutout_of(alert, plane)
                plain = gzip.decompress(cutout) if cutout.startswith(b"\x1f\x8b") else cutout
                assert same(stamp, by_astropy(plain)), (path.name, plane)
                compared += 1
    assert compared > 2000


def cutout_of(alert: Alert, plane: Plane) -> bytes:
    record = alert.packet.decode()
    names = [name for name in record if name.lower().replace("_", "") == f"cutout{plane}"]
    if not names:
        names = ["cutoutReference"]
    cutout = record[names[0]]
    return bytes(cutout["stampData"] if isinstance(cutout, dict) else cutout)


@pytest.mark.parametrize("card", ["GCOUNT", "PCOUNT", "NAXIS2"])
def test_a_size_that_is_a_string_is_not_multiplied(card: str) -> None:
    cards = {"XTENSION": "'IMAGE   '", "BITPIX": "64", "NAXIS": "2", "NAXIS1": "30000", "NAXIS2": "63"}
    cards |= {"PCOUNT": "0", "GCOUNT": "1", card: "'BINTABLE'"}
    primary = [
        "SIMPLE  =                    T",
        "BITPIX  =                    8",
        "NAXIS   =                    0",
    ]
    extension = [f"{name:<8}= {value:>20}" for name, value in cards.items()]
    content = b"".join(
        "".join(f"{line:<80}" for line in [*lines, "END"]).ljust(2880).encode()
        for lines in (primary, extension)
    )
    tracemalloc.start()
    with pytest.raises(StampError, match="refused for its card"):
        read_stamp(content, "cutout")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
