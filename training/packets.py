"""Packets of our own making, laid out as ZTF's and LSST's: for the demo, the tests and the benches.

Nothing in them is a survey's but the layout: field names, order and types, framing, and the form of the
cutouts. Every number that the caller does not give is a plausible constant.
"""

from __future__ import annotations

import struct
from functools import cache, lru_cache
from io import BytesIO
from typing import Any

import deflate
import fastavro
import numpy as np
from numpy.typing import NDArray

from space2vec.schemas.container import compact_json, container_header, write_container
from space2vec.schemas.varint import encode_long
from space2vec.training.packet_schemas import lsst_writer_schema, ztf_writer_schema

__all__ = ["lsst_packet", "lsst_writer_schema", "ztf_packet", "ztf_writer_schema"]

Stamp = NDArray[np.floating[Any]]

_BLOCK = 2880
_POOL = 64
"""Different past records that histories are drawn from."""


def ztf_packet(
    science: Stamp | None,
    template: Stamp | None,
    difference: Stamp | None,
    *,
    alert_id: int,
    object_id: str,
    jd: float,
    ra: float,
    dec: float,
    negative: bool = False,
    xpos: float = 1536.0,
    ypos: float = 1540.0,
    schema: str = "4.02",
    codec: str = "null",
    history: int = 0,
) -> bytes:
    """One alert as ZTF would send it: an Avro container with its schema inside and gzipped FITS stamps.

    Parameters
    ----------
    science, template, difference : (rows, cols) array or None
        The triplet, difference being science minus template; it is written with its sign turned when
        ``negative``, as ZTF does. ``None`` writes a null cutout.
    alert_id : int
        candid.
    object_id : str
        objectId.
    jd : float
        Start of the exposure, Julian date, UTC. The exposure is 30 s long.
    ra, dec : float
        Degrees.
    negative : bool
        Whether the source is fainter than in the template.
    xpos, ypos : float
        Position on the 3072 x 3080 detector quadrant, pixels.
    schema : str
        Version of the schema, one of ``packet_schemas.ZTF_VERSIONS``.
    codec : str
        Compression of the container's block: ``null``, ``deflate`` or ``snappy``.
    history : int
        Number of previous candidates.
    """
    parts = _parts("ztf", schema)
    branch, null = _branches(schema)
    candidate = _ZTF_CANDIDATE | {
        "jd": jd,
        "candid": alert_id,
        "isdiffpos": "f" if negative else "t",
        "ra": ra,
        "dec": dec,
        "xpos": xpos,
        "ypos": ypos,
        "ranr": ra,
        "decnr": dec,
        "pid": alert_id // 1_000_000,
    }
    body = BytesIO()
    if "schemavsn" in parts:
        body.write(_string(schema) + _string("space2vec"))
    body.write(_string(object_id) + encode_long(alert_id))
    fastavro.schemaless_writer(body, parts["candidate"], candidate)
    body.write(_array(_ztf_history(schema), alert_id, history, branch) if history else null)
    if "fp_hists" in parts:
        body.write(null)
    if negative and difference is not None:
        difference = -difference
    stem = f"candid{alert_id}_pid{candidate['pid']}_targ"
    for name, stamp in (
        (f"{stem}_sci.fits.gz", science),
        (f"candid{alert_id}_ref.fits.gz", template),
        (f"{stem}_{'refmsci' if negative else 'scimref'}.fits.gz", difference),
    ):
        body.write(null if stamp is None else branch + _ztf_cutout(name, stamp))
    return write_container(_ztf_header(schema, codec), body.getvalue(), codec=codec)


def lsst_packet(
    science: Stamp | None,
    template: Stamp | None,
    difference: Stamp | None,
    *,
    alert_id: int,
    object_id: int | None,
    mjd_tai: float,
    ra: float,
    dec: float,
    negative: bool = False,
    x: float = 2036.0,
    y: float = 2000.0,
    schema_id: int = 1100,
    history: int = 0,
    psf: int = 41,
) -> bytes:
    """One alert as Rubin would send it: Confluent framing and plain FITS of image, variance and PSF.

    Parameters
    ----------
    science, template, difference : (rows, cols) array or None
        The triplet, difference being science minus template whatever its sign; ``None`` writes a null
        cutout.
    alert_id, object_id : int
        diaSourceId and diaObjectId; the diaObject is null when ``object_id`` is ``None``.
    mjd_tai : float
        Middle of the exposure, MJD, TAI.
    ra, dec : float
        Degrees.
    negative : bool
        isNegative.
    x, y : float
        Position on the detector, pixels.
    schema_id : int
        Registry id, major * 100 + minor: 800, 900, 1000 or 1100.
    history : int
        Number of previous sources; each brings a forced source along. 0 writes nulls.
    psf : int
        Side of the PSF plane in pixels; 0 writes FITS of the image alone.
    """
    version = f"{schema_id // 100}.{schema_id % 100}"
    parts = _parts("lsst", version)
    source = _DIA_SOURCE | {
        "diaSourceId": alert_id,
        "diaObjectId": object_id,
        "midpointMjdTai": mjd_tai,
        "ra": ra,
        "dec": dec,
        "x": x,
        "y": y,
        "isNegative": negative,
        "bboxSize": len(difference) if difference is not None else 30,
    }
    body = BytesIO()
    body.write(b"\x00" + struct.pack(">I", schema_id))
    body.write(encode_long(alert_id) + b"\x00\x00")
    fastavro.schemaless_writer(body, parts["diaSource"], source)
    if history:
        for pool in _lsst_history(version):
            body.write(_array(pool, alert_id, history, b"\x02"))
    else:
        body.write(b"\x00\x00")
    if object_id is None:
        body.write(b"\x00")
    else:
        about = _DIA_OBJECT | {"diaObjectId": object_id, "ra": ra, "dec": dec, "nDiaSources": history + 1}
        body.write(b"\x02")
        fastavro.schemaless_writer(body, parts["diaObject"], about)
    body.write(b"\x00\x00")
    for stamp in (difference, science, template):
        body.write(_lsst_cutout(stamp, psf))
    return body.getvalue()


# Measurements that nearly every real alert has, so that ours are as long.
_ZTF_MEASURED = """
    chipsf magap sigmagap distnr magnr sigmagnr chinr sharpnr sky magdiff classtar mindtoedge
    magfromlim seeratio aimage bimage aimagerat bimagerat elong sumrat magapbig sigmagapbig sgmag1 srmag1
    simag1 szmag1 sgscore1 distpsnr1 scorr sgmag2 srmag2 simag2 szmag2 sgscore2 distpsnr2 sgmag3 srmag3
    simag3 szmag3 sgscore3 distpsnr3 dsnrms ssnrms dsdiff magzpsci magzpsciunc magzpscirms clrcoeff clrcounc
    zpclrcov zpmed clrmed clrrms neargaia neargaiabright maggaia maggaiabright
"""
_DIA_MEASURED = """
    raErr decErr ra_dec_Cov xErr yErr apFlux apFluxErr snr psfFlux psfFluxErr psfLnL psfChi2 trailFlux
    trailFluxErr trailRa trailRaErr trailDec trailDecErr trailLength trailLengthErr trailAngle trailAngleErr
    trailChi2 dipoleMeanFlux dipoleMeanFluxErr dipoleFluxDiff dipoleFluxDiffErr dipoleLength dipoleAngle
    dipoleChi2 scienceFlux scienceFluxErr templateFlux templateFluxErr ixx iyy ixy ixxPSF iyyPSF
    ixyPSF
"""

_ZTF_CANDIDATE: dict[str, Any] = {
    "fid": 2,
    "diffmaglim": 20.5,
    "pdiffimfilename": "ztf_20240519378449_000386_zr_c06_o_q2_scimrefdiffimg.fits",
    "programpi": "simulated",
    "programid": 1,
    "tblid": 12,
    "nid": 2695,
    "rcid": 21,
    "field": 386,
    "magpsf": 18.5,
    "sigmapsf": 0.08,
    "fwhm": 2.1,
    "rb": None,
    "ssdistnr": -999.0,
    "ssmagnr": -999.0,
    "ssnamenr": "null",
    "ndethist": 3,
    "ncovhist": 300,
    "jdstarthist": 2460000.5,
    "jdendhist": 2460400.5,
    "nmtchps": 5,
    "rfid": 386120221,
    "jdstartref": 2458246.956,
    "jdendref": 2458430.578,
    "nframesref": 30,
    "rbversion": "",
    "nmatches": 2077,
    "exptime": 30.0,
    "drb": None,
    "drbversion": "",
} | dict.fromkeys(_ZTF_MEASURED.split(), 1.25)

_DIA_SOURCE: dict[str, Any] = {
    "visit": 2026022400123,
    "detector": 94,
    "ssObjectId": 0,
    "parentDiaSourceId": 0,
    "psfNdata": 1681,
    "trailNdata": 1681,
    "dipoleNdata": 0,
    "bboxSize": 30,
    "band": "r",
    "timeProcessedMjdTai": 61095.25,
    "time_processed": 1_772_000_000_000,
    "extendedness": 0.0,
    "reliability": None,
} | dict.fromkeys(_DIA_MEASURED.split(), 1.25)

_DIA_OBJECT: dict[str, Any] = {
    "validityStartMjdTai": 61095.25,
    "validityStart": 1_772_000_000_000,
    "firstDiaSourceMjdTai": 60950.25,
    "lastDiaSourceMjdTai": 61095.25,
} | {f"{band}_psfFluxNdata": 3 for band in "ugrizy"}


def _branches(schema: str) -> tuple[bytes, bytes]:
    """Branch bytes of a value and of null in ZTF's unions: null stands first from 4.01 on."""
    return (b"\x02", b"\x00") if int(schema.partition(".")[0]) >= 4 else (b"\x00", b"\x02")


@cache
def _parts(survey: str, version: str) -> dict[str, Any]:
    """Every top-level field by name, with the parsed schema of the record in it, if there is one."""
    schema = ztf_writer_schema(version) if survey == "ztf" else lsst_writer_schema(version)
    parts: dict[str, Any] = {}
    for field in schema["fields"]:
        kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
        records = [kind.get("items", kind) for kind in kinds if isinstance(kind, dict)]
        inline = [record for record in records if isinstance(record, dict)]
        parts[field["name"]] = fastavro.parse_schema(inline[0]) if inline else None
    return parts


@cache
def _ztf_header(schema: str, codec: str) -> bytes:
    return container_header(compact_json(ztf_writer_schema(schema)), codec)


def _string(text: str) -> bytes:
    return encode_long(len(text)) + text.encode("ascii")


def _array(pool: tuple[bytes, ...], start: int, length: int, branch: bytes) -> bytes:
    """Encode a nullable array of ``length`` records out of the pool."""
    records = (pool[(start + i) % _POOL] for i in range(length))
    return b"".join((branch, encode_long(length), *records, b"\x00"))


@cache
def _ztf_history(schema: str) -> tuple[bytes, ...]:
    days = [_ZTF_CANDIDATE | {"jd": 2460000.5 + day, "pid": day, "candid": None} for day in range(_POOL)]
    return _pool(_parts("ztf", schema)["prv_candidates"], days)


@cache
def _lsst_history(version: str) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    past = _DIA_SOURCE | {"diaObjectId": 1, "ra": 150.0, "dec": 2.0, "x": 2036.0, "y": 2000.0}
    days = [
        past | {"diaSourceId": day, "diaForcedSourceId": day, "midpointMjdTai": 61000.0 + day}
        for day in range(_POOL)
    ]
    parts = _parts("lsst", version)
    return _pool(parts["diaSource"], days), _pool(parts["prvDiaForcedSources"], days)


def _pool(schema: Any, records: list[dict[str, Any]]) -> tuple[bytes, ...]:
    encoded = []
    for record in records:
        buffer = BytesIO()
        fastavro.schemaless_writer(buffer, schema, record)
        encoded.append(buffer.getvalue())
    return tuple(encoded)


def _ztf_cutout(name: str, stamp: Stamp) -> bytes:
    rows, cols = stamp.shape
    pixels = np.ascontiguousarray(stamp, ">f4").tobytes()
    zipped = bytes(deflate.gzip_compress(_padded(_ztf_cards(rows, cols) + pixels), 6))
    return _string(name) + encode_long(len(zipped)) + zipped


@lru_cache(maxsize=64)
def _ztf_cards(rows: int, cols: int) -> bytes:
    # ZTF's first card has its T in the wrong column.
    return _cards("SIMPLE  =  T", f"BITPIX  = {-32:20d}", *_axes(rows, cols), "BUNIT   = 'DN      '")


def _lsst_cutout(stamp: Stamp | None, psf: int) -> bytes:
    if stamp is None:
        return b"\x00"
    rows, cols = stamp.shape
    image = _padded(np.ascontiguousarray(stamp, ">f4").tobytes())
    fits = _lsst_cards(rows, cols) + image + (_lsst_planes(rows, cols, psf) if psf else b"")
    return b"\x02" + encode_long(len(fits)) + fits


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
