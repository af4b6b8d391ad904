"""Packets of our own making, laid out as ZTF's and LSST's: for the demo, the tests and the benches.

Nothing in them is a survey's but the layout: field names, order and types, framing, and the form of the
cutouts. Every number that the caller does not give is a plausible constant.
"""

from __future__ import annotations

import struct
from functools import cache
from io import BytesIO
from typing import Any

import fastavro

from space2vec.schemas.container import compact_json, container_header, write_container
from space2vec.schemas.varint import encode_long
from space2vec.training.packet_cutouts import Stamp, lsst_cutout, ztf_cutout
from space2vec.training.packet_schemas import lsst_writer_schema, ztf_writer_schema
from space2vec.training.packet_values import DIA_OBJECT, DIA_SOURCE, ZTF_CANDIDATE

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
    candidate = ZTF_CANDIDATE | {
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
        body.write(null if stamp is None else branch + _string(name) + _bytes(ztf_cutout(stamp)))
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
    source = DIA_SOURCE | {
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
        about = DIA_OBJECT | {"diaObjectId": object_id, "ra": ra, "dec": dec, "nDiaSources": history + 1}
        body.write(b"\x02")
        fastavro.schemaless_writer(body, parts["diaObject"], about)
    body.write(b"\x00\x00")
    for stamp in (difference, science, template):
        body.write(b"\x00" if stamp is None else b"\x02" + _bytes(lsst_cutout(stamp, psf)))
    return body.getvalue()


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
    return _bytes(text.encode("ascii"))


def _bytes(content: bytes) -> bytes:
    return encode_long(len(content)) + content


def _array(pool: tuple[bytes, ...], start: int, length: int, branch: bytes) -> bytes:
    """Encode a nullable array of ``length`` records out of the pool."""
    records = (pool[(start + i) % _POOL] for i in range(length))
    return b"".join((branch, encode_long(length), *records, b"\x00"))


@cache
def _ztf_history(schema: str) -> tuple[bytes, ...]:
    days = [ZTF_CANDIDATE | {"jd": 2460000.5 + day, "pid": day, "candid": None} for day in range(_POOL)]
    return _pool(_parts("ztf", schema)["prv_candidates"], days)


@cache
def _lsst_history(version: str) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    past = DIA_SOURCE | {"diaObjectId": 1, "ra": 150.0, "dec": 2.0, "x": 2036.0, "y": 2000.0}
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
