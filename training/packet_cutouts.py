"""Cutouts of the packets we make: FITS in the form that each survey sends."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import deflate
import numpy as np
from numpy.typing import NDArray

Stamp = NDArray[np.floating[Any]]

_BLOCK = 2880


def ztf_cutout(stamp: Stamp) -> bytes:
    """Gzipped FITS of a stamp, as ZTF's cutouts are.

    Parameters
    ----------
    stamp : (rows, cols) array
        DN.
    """
    rows, cols = stamp.shape
    pixels = np.ascontiguousarray(stamp, ">f4").tobytes()
    return bytes(deflate.gzip_compress(_padded(_ztf_cards(rows, cols) + pixels), 6))


@lru_cache(maxsize=64)
def _ztf_cards(rows: int, cols: int) -> bytes:
    # ZTF's first card has its T in the wrong column.
    return _cards("SIMPLE  =  T", f"BITPIX  = {-32:20d}", *_axes(rows, cols), "BUNIT   = 'DN      '")


def lsst_cutout(stamp: Stamp, psf: int) -> bytes:
    """Plain FITS of a stamp, its variance and the PSF, as Rubin's cutouts are.

    Parameters
    ----------
    stamp : (rows, cols) array
        nJy.
    psf : int
        Side of the PSF plane in pixels; 0 writes the image alone.
    """
    rows, cols = stamp.shape
    image = _padded(np.ascontiguousarray(stamp, ">f4").tobytes())
    return _lsst_cards(rows, cols) + image + (_lsst_planes(rows, cols, psf) if psf else b"")


@lru_cache(maxsize=64)
def _lsst_cards(rows: int, cols: int) -> bytes:
    value = "{:<8}= {:20.10G} / coordinates"
    wcs = {"CRPIX1": cols / 2, "CRPIX2": rows / 2, "PC1_1": -5.5e-05, "PC1_2": 0.0, "PC2_1": 0.0}
    wcs |= {"PC2_2": 5.5e-05, "CDELT1": 1.0, "CDELT2": 1.0, "CRVAL1": 150.0, "CRVAL2": 2.0}
    return _cards(
        f"SIMPLE  = {'T':>20} / conforms to FITS standard",
        f"BITPIX  = {-32:20d} / array data type",
        *_axes(rows, cols),
        f"EXTEND  = {'T':>20}",
        f"CUTMINX = {2020:20d}",
        f"CUTMINY = {1985:20d}",
        "BUNIT   = 'nJy     '",
        f"WCSAXES = {2:20d} / Number of coordinate axes",
        *(value.format(name, number) for name, number in wcs.items()),
    )


@lru_cache(maxsize=64)
def _lsst_planes(rows: int, cols: int, psf: int) -> bytes:
    """Make the variance and PSF extensions: the same for every alert, as nothing reads them."""
    variance = np.full((rows, cols), 400.0, ">f4").tobytes()
    r = np.arange(psf) - psf // 2
    gauss = np.exp(-(r**2) / 8.0)
    kernel = (np.outer(gauss, gauss) / gauss.sum() ** 2).astype(">f8").tobytes()

    def extension(name: str, bitpix: int, height: int, width: int) -> bytes:
        return _cards(
            "XTENSION= 'IMAGE   '           / Image extension",
            f"BITPIX  = {bitpix:20d}",
            *_axes(height, width),
            f"PCOUNT  = {0:20d}",
            f"GCOUNT  = {1:20d}",
            f"EXTNAME = '{name:<8}'",
        )

    return b"".join(
        (
            extension("UNCERT", -32, rows, cols),
            _padded(variance),
            extension("PSFIMAGE", -64, psf, psf),
            _padded(kernel),
        )
    )


def _axes(rows: int, cols: int) -> tuple[str, str, str]:
    return f"NAXIS   = {2:20d}", f"NAXIS1  = {cols:20d}", f"NAXIS2  = {rows:20d}"


def _cards(*cards: str) -> bytes:
    header = "".join(f"{card:<80}" for card in (*cards, "END"))
    return header.ljust(-(-len(header) // _BLOCK) * _BLOCK).encode("ascii")


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % _BLOCK)
