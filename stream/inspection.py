"""Looking at one alert of a file: everything there is to say about its packet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from space2vec.schemas.alert import Alert, Plane
from space2vec.schemas.container import MAGIC, HeaderReader, read_blocks
from space2vec.schemas.errors import ConfigError, PacketError
from space2vec.schemas.limits import Limits
from space2vec.schemas.packet import WriterSchema
from space2vec.schemas.profiles import Profile, Profiles
from space2vec.schemas.reader import PacketReader
from space2vec.stream.archives import PacketFile
from space2vec.stream.offline import read_records
from space2vec.stream.pictures import Card
from space2vec.workers.preprocess import Preprocessor


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found.

    Attributes
    ----------
    facts : dict of str to dict
        Section to name to value: numbers, strings, ``None``; nothing that JSON cannot hold.
    alert : Alert or None
        The alert, if it could be opened.
    fault : PacketError or None
        Why not.
    """

    facts: dict[str, dict[str, Any]]
    alert: Alert | None = field(default=None, repr=False)
    fault: PacketError | None = None

    def card(self) -> Card:
        """Give the alert as something to draw.

        Raises
        ------
        ConfigError
            If there is no alert.
        """
        if self.alert is None:
            raise ConfigError(f"there is nothing to draw: {self.fault}")
        alert = self.alert
        flags = self.facts["quality"]["flags"]
        caption = (
            f"{alert.survey} {alert.alert_id}   {alert.object_id or ''}\n{' '.join(flags) or 'no flags'}"
        )
        faults = {plane: f"{fault.reason}: {fault.detail}"[:60] for plane, fault in alert.faults.items()}
        return Card(caption, alert.stamps, faults)


def inspect_file(
    file: PacketFile, number: int, reader: PacketReader, profiles: Profiles, preprocessor: Preprocessor
) -> Inspection:
    """Look at record ``number`` of a file.

    Raises
    ------
    ConfigError
        If the file has no such record.
    """
    facts: dict[str, dict[str, Any]] = {"packet": _packet(file)}
    records = list(read_records(reader, file))
    if not 0 <= number < len(records):
        raise ConfigError(f"{file.name}: no record {number}; it holds {len(records)}")
    record = records[number]
    if isinstance(record, PacketError):
        return Inspection(facts, fault=record)
    prepared = preprocessor.prepare([record])
    facts["schema"] = _schema(record.packet.writer, record)
    facts["alert"] = _alert(record)
    for plane in Plane:
        facts[str(plane)] = _stamp(record, plane, profiles[record.survey])
    rejected = prepared.rejects.get(0)
    facts["quality"] = {
        "flags": [str(flag) for flag in prepared.flags[0]] if prepared.flags else [],
        "rejected": str(rejected) if rejected is not None else None,
    }
    return Inspection(facts, record)


def _packet(file: PacketFile) -> dict[str, Any]:
    """Say what stands around the records, as far as it can be read at all."""
    raw, limits = file.raw, Limits()
    facts: dict[str, Any] = {"file": file.name, "bytes": len(raw)}
    if raw.startswith(MAGIC):
        facts["framing"] = "Avro object container"
        try:
            header = HeaderReader(limits).read(raw)
            facts["codec"] = header.codec
            facts["records"] = sum(block.count for block in read_blocks(raw, header, limits))
        except PacketError as error:
            facts["damage"] = str(error)
    elif len(raw) > 5 and raw[0] == 0:
        facts["framing"] = "Confluent"
        facts["schema_id"] = int.from_bytes(raw[1:5], "big")
        facts["records"] = 1
    else:
        facts["framing"] = f"unknown (begins with {raw[:4].hex(' ') or 'nothing'})"
    return facts


def _schema(writer: WriterSchema, alert: Alert) -> dict[str, Any]:
    schema = writer.schema if isinstance(writer.schema, dict) else {}
    namespace, name = schema.get("namespace"), schema.get("name")
    return {
        "name": f"{namespace}.{name}" if namespace and "." not in str(name) else name,
        "version": schema.get("version"),
        "version_in_packet": alert.schema_version,
        "fields": len(schema.get("fields", ())) or None,
        "fingerprint": writer.fingerprint,
        "repaired": writer.repaired,
    }


def _alert(alert: Alert) -> dict[str, Any]:
    return {
        "survey": alert.survey,
        "alert_id": alert.alert_id,
        "object_id": alert.object_id,
        "ra": _finite(alert.ra),
        "dec": _finite(alert.dec),
        "mjd_tai": _finite(alert.mjd_tai),
        "negative": alert.negative,
        "difference_flipped": alert.flipped,
        "x": _finite(alert.x),
        "y": _finite(alert.y),
    }


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _stamp(alert: Alert, plane: Plane, profile: Profile) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    cutout = _cutout(alert.packet.decode(), getattr(profile.stamps, plane))
    if cutout is not None:
        facts |= {"bytes": len(cutout), "form": _form(cutout)}
    if plane in alert.faults:
        facts["fault"] = str(alert.faults[plane])
    if plane in alert.stamps:
        facts |= _pixels(alert.stamps[plane])
    return facts


def _pixels(stamp: NDArray[np.float32]) -> dict[str, Any]:
    there = stamp[np.isfinite(stamp)]
    facts: dict[str, Any] = {
        "rows": stamp.shape[0],
        "columns": stamp.shape[1],
        "missing": stamp.size - there.size,
    }
    if there.size:
        median = float(np.median(there))
        facts |= {
            "min": float(there.min()),
            "median": median,
            "noise": 1.4826 * float(np.median(np.abs(there - median))),
            "max": float(there.max()),
        }
    return facts


def _cutout(record: Mapping[str, Any], paths: tuple[str, ...]) -> bytes | None:
    """Find a cutout's bytes in a whole record, bare or in a record with ``stampData``."""
    for path in paths:
        value: Any = record
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, Mapping):
            value = value.get("stampData")
        if isinstance(value, bytes):
            return value
    return None


def _form(cutout: bytes) -> str:
    for magic, form in ((b"\x1f\x8b", "gzip"), (b"SIMPLE", "FITS"), (b"\xff\xd8\xff", "JPEG")):
        if cutout.startswith(magic):
            return form
    return "unknown" if cutout else "empty"
