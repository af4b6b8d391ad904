"""A night of our own making: ZTF-like packets, and among them every way in which real ones are irregular.

The ways are those of a survey of 4,300 real packets: framings, containers, schemas, versions, cutouts, pixels. Some
make a packet that cannot be scored, others one that can, with a flag or without: what becomes of each is the
classifier's to say, and that it is said once is what a replay must keep.
"""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
from astropy.io import fits

from space2vec.schemas.varint import encode_long
from space2vec.training.packet_schemas import lsst_writer_schema
from space2vec.training.packets import lsst_packet, ztf_packet

Spoil = Callable[[bytes, dict[str, Any], dict[str, Any]], bytes]
"""A good packet, its record and its schema (both copies) to the bytes that are archived instead."""

CUTOUTS = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
JD = 2461300.7
LSST_ID = 1100


def made_night(count: int, damaged: float, side: int = 63, seed: int = 1) -> Iterator[tuple[str, bytes]]:
    """Make the members of a night: file names and packets.

    Parameters
    ----------
    count : int
        How many packets.
    damaged : float
        Share of them that are irregular, each way in turn.
    side : int
        Of the stamps, pixels.
    """
    noise = np.random.default_rng(seed)
    versions = ("1.8", "3.0", "3.1", "3.3", "4.01", "4.02")
    every, ways = round(1 / damaged) if damaged else 0, list(WAYS.values())
    for number in range(count):
        packet = ztf_packet(
            *_triplet(noise, side),
            alert_id=10**15 + number,
            object_id=f"ZTF26{number % 5003:07d}",
            jd=JD + number // 500 * 40 / 86400,
            ra=150.0,
            dec=2.0,
            schema=versions[number // 50 % len(versions)] if number % 50 == 0 else "4.02",
        )
        name = f"{10**15 + number}.avro"
        if every and number % every == every - 1:
            way = ways[number // every % len(ways)]
            file = fastavro.reader(io.BytesIO(packet))
            schema = json.loads(file.metadata["avro.schema"])
            packet = way(packet, dict(next(file)), schema)
            name += ".gz" if packet.startswith(b"\x1f\x8b") else ""
        yield name, packet


def write_night(path: Path, members: Iterator[tuple[str, bytes]]) -> int:
    """Archive members as ``tar.gz``; how many bytes they come to."""
    size = 0
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, packet in members:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(packet), 1_790_000_000
            archive.addfile(member, io.BytesIO(packet))
            size += len(packet)
    return size


def write_schemas(folder: Path) -> None:
    """Put the writer schema of the night's LSST packets where `--schemas` finds it."""
    folder.mkdir(exist_ok=True)
    version = f"{LSST_ID // 100}.{LSST_ID % 100}"
    (folder / f"{LSST_ID}.avsc").write_text(json.dumps(lsst_writer_schema(version)))


def _triplet(noise: np.random.Generator, side: int) -> list[np.ndarray]:
    rows, cols = np.mgrid[:side, :side] - side // 2
    source = noise.uniform(0, 60) * np.exp(-(rows**2 + cols**2) / 1.6)
    stamps = noise.normal(size=(3, side, side))
    stamps[[0, 2]] += source
    return list(stamps.astype(np.float32))


def _container(record: dict[str, Any], schema: Any, codec: str = "null", count: int = 1) -> bytes:
    buffer = io.BytesIO()
    fastavro.writer(buffer, fastavro.parse_schema(schema), [record] * count, codec=codec)
    return buffer.getvalue()


def _lsst(record: dict[str, Any], schema_id: int = LSST_ID) -> bytes:
    stamps = _triplet(np.random.default_rng(record["candid"]), 30)
    packet = lsst_packet(
        *stamps,
        alert_id=record["candid"],
        object_id=record["candid"] // 7,
        mjd_tai=61300.2,
        ra=1.0,
        dec=2.0,
        history=2,
    )
    return b"\x00" + struct.pack(">I", schema_id) + packet[5:]


def _image(record: dict[str, Any], name: str) -> np.ndarray:
    return np.asarray(fits.getdata(io.BytesIO(gzip.decompress(record[name]["stampData"]))))


def _fits(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    fits.PrimaryHDU(image).writeto(buffer)
    return buffer.getvalue()


def _pixels(change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    """All three stamps changed, and written again as they were."""

    def spoil(packet: bytes, record: dict[str, Any], schema: dict[str, Any]) -> bytes:
        for name in CUTOUTS:
            image = change(_image(record, name).astype(">f4"))
            record[name] = record[name] | {"stampData": gzip.compress(_fits(image), 1, mtime=0)}
        return _container(record, schema)

    return spoil


def _stamps(change: Callable[[bytes], bytes], *names: str) -> Spoil:
    """Some stamps' bytes changed."""

    def spoil(packet: bytes, record: dict[str, Any], schema: dict[str, Any]) -> bytes:
        for name in names or CUTOUTS:
            record[name] = record[name] | {"stampData": change(record[name]["stampData"])}
        return _container(record, schema)

    return spoil


def _values(**values: Any) -> Spoil:
    """Some of the record's own or its candidate's fields with other values."""

    def spoil(packet: bytes, record: dict[str, Any], schema: dict[str, Any]) -> bytes:
        for name, value in values.items():
            (record if name in record else record["candidate"])[name] = value
        return _container(record, schema)

    return spoil


def _cut_off_second(packet: bytes, record: dict[str, Any], schema: dict[str, Any]) -> bytes:
    two = io.BytesIO()
    fastavro.writer(two, fastavro.parse_schema(schema), [record] * 2, sync_interval=1)
    return two.getvalue()[:-300]


def _bad_default(packet: bytes, record: dict[str, Any], schema: dict[str, Any]) -> bytes:
    """A default of null for an int, which the specification forbids and readers refuse."""
    whole = json.dumps(schema, separators=(",", ":"))
    schema["fields"][0]["default"] = None
    return _with_schema(packet, whole, json.dumps(schema, separators=(",", ":")))


def _redefined(packet: bytes, record: dict[str, Any], schema: dict[str, Any]) -> bytes:
    """A named type that is defined twice."""
    whole = json.dumps(schema, separators=(",", ":"))
    types = {field["name"]: field for field in schema["fields"]}
    types["cutoutTemplate"]["type"] = types["cutoutScience"]["type"]
    return _with_schema(packet, whole, json.dumps(schema, separators=(",", ":")))


def _with_schema(packet: bytes, before: str, after: str) -> bytes:
    old, new = before.encode(), after.encode()
    if encode_long(len(old)) + old not in packet:
        raise RuntimeError("the schema does not stand in the container as expected")
    return packet.replace(encode_long(len(old)) + old, encode_long(len(new)) + new, 1)


def _bare_bytes(packet: bytes, record: dict[str, Any], schema: dict[str, Any]) -> bytes:
    """Cutouts as bytes, not as records of a name and bytes."""
    for field in schema["fields"]:
        if field["name"] in CUTOUTS:
            field["type"] = ["null", "bytes"]
            record[field["name"]] = record[field["name"]]["stampData"]
    return _container(record, schema)


def _without(name: str) -> Spoil:
    def spoil(packet: bytes, record: dict[str, Any], schema: dict[str, Any]) -> bytes:
        kept = [field["name"] for field in schema["fields"] if field["name"] != name]
        types = {f["name"]: f for f in schema["fields"]}
        types["cutoutTemplate"] = {"name": "cutoutTemplate", "type": types["cutoutTemplate"]["type"]}
        schema["fields"] = [types[each] for each in kept]
        return _container({each: record[each] for each in kept}, schema)

    return spoil


def _renamed(packet: bytes, record: dict[str, Any], schema: dict[str, Any]) -> bytes:
    schema["name"], schema["namespace"] = "topLevelRecord", ""
    for field in schema["fields"]:
        if isinstance(field["type"], str):
            field["type"] = ["null", field["type"]]
    return _container(record, schema)


def _bad_sync(packet: bytes, record: dict[str, Any], schema: dict[str, Any]) -> bytes:
    return packet[:-16] + bytes(16)


def _nan_column(image: np.ndarray) -> np.ndarray:
    image[:, 20 % image.shape[1]] = np.nan
    return image


def _infinite(image: np.ndarray) -> np.ndarray:
    image[3, 3] = np.inf
    return image


JPEG = bytes.fromhex("ffd8ffe000104a46494600010100000100010000") + b"\x55" * 1300

WAYS: dict[str, Spoil] = {
    "1 wire framing, gzipped": lambda p, r, s: gzip.compress(_lsst(r), 1, mtime=0),
    "1 container of three records": lambda p, r, s: _container(r, s, count=3),
    "1 snappy": lambda p, r, s: _container(r, s, "snappy"),
    "1 deflate": lambda p, r, s: _container(r, s, "deflate"),
    "1 schema id that nobody knows": lambda p, r, s: _lsst(r, 12345),
    "1 bare datum": lambda p, r, s: _lsst(r)[5:],
    "2 container without records": lambda p, r, s: _container(r, s, count=0),
    "3 no sync marker at the end": _bad_sync,
    "3 text-mode fixers": lambda p, r, s: p.replace(b"\r", b"").replace(b"\n", b""),
    "3 cut in the middle": lambda p, r, s: p[: len(p) // 2],
    "3 cut in the second record": _cut_off_second,
    "3 no bytes": lambda p, r, s: b"",
    "3 not an alert": lambda p, r, s: b"<html>404 Not Found</html>",
    "4 default of another type": _bad_default,
    "4 type defined twice": _redefined,
    "5 union at the top": lambda p, r, s: _container(r, [s]),
    "6 topLevelRecord": _renamed,
    "7 version that is another": _values(schemavsn="3.2"),
    "8 negative id": _values(candid=-1_234_567_890),
    "8 sign as a digit": _values(isdiffpos="1"),
    "9 sentinels": _values(ssdistnr=-999.0, ssnamenr="null", drb=0.0, drbversion=""),
    "11 all cutouts null": _values(cutoutScience=None, cutoutTemplate=None, cutoutDifference=None),
    "11 template null": _values(cutoutTemplate=None),
    "12 no template field": _without("cutoutTemplate"),
    "13 cutouts as bytes": _bare_bytes,
    "14 JPEG": _stamps(lambda stamp: JPEG),
    "14 gzip of nothing": _stamps(lambda stamp: gzip.compress(b"", mtime=0)),
    "15 bad checksum": _stamps(
        lambda stamp: stamp[:-8] + b"\x01\x02\x03\x04" + stamp[-4:], "cutoutDifference"
    ),
    "15 not gzipped": _stamps(gzip.decompress),
    "17 doubles": lambda p, r, s: _stamps(
        lambda stamp: gzip.compress(
            _fits(np.asarray(fits.getdata(io.BytesIO(gzip.decompress(stamp)))).astype(">f8")), 1, mtime=0
        )
    )(p, r, s),
    "18 cut at the chip's edge": _pixels(lambda image: image[: image.shape[0] * 2 // 3]),
    "19 a dead column": _pixels(_nan_column),
    "19 nothing but NaN": _pixels(lambda image: np.full_like(image, np.nan)),
    "19 constant": _pixels(np.zeros_like),
    "19 infinite": _pixels(_infinite),
    "22 delivered twice": _values(candid=10**15),
    "23 not public": _values(programid=3),
}
"""By the number they have in the survey, and in words."""


def without_records(count: int, damaged: float) -> int:
    """How many packets of a night hold no record, so that there is nothing to answer."""
    every = round(1 / damaged) if damaged else count + 1
    place = list(WAYS).index("2 container without records")
    return sum(number // every % len(WAYS) == place for number in range(every - 1, count, every))
