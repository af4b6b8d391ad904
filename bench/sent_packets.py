"""Packets for a bench to send: made or found in a folder, the same over and over, or each with an id of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from space2vec.schemas.alert import Alert, Plane
from space2vec.schemas.reader import PacketReader
from space2vec.schemas.varint import decode_long, encode_long
from space2vec.training.packets import lsst_packet, ztf_packet

_FIRST_ID = 2695378462115010012


def made_packets(
    survey: str, count: int, history: int = 0, psf: int = 41, side: int | None = None
) -> list[bytes]:
    """Packets laid out as the survey's, of sky noise, every second one negative; stamps of the survey's size unless told."""
    rng = np.random.default_rng(1)
    side = side or (63 if survey == "ztf" else 30)
    packets = []
    for number in range(count):
        science, template = rng.normal(300, 12, (2, side, side)).astype(np.float32)
        triplet = (science, template, science - template)
        where: dict[str, Any] = {"alert_id": _FIRST_ID + number, "ra": 150.0, "dec": 2.0}
        where |= {"history": history, "negative": bool(number % 2)}
        if survey == "ztf":
            packets.append(ztf_packet(*triplet, object_id="ZTF18abudxnw", jd=2460449.88, **where))
        else:
            packets.append(lsst_packet(*triplet, object_id=number + 1, mjd_tai=61095.3, psf=psf, **where))
    return packets


def found_packets(folder: Path, count: int) -> list[bytes]:
    """Real packets of one alert each that have all three stamps."""
    reader, packets = PacketReader(), []
    for path in sorted(folder.rglob("*.avro")):
        raw = path.read_bytes()
        found = list(reader.read(raw))
        if len(found) == 1 and isinstance(found[0], Alert) and len(found[0].stamps) == len(Plane):
            packets.append(raw)
        if len(packets) == count:
            break
    if not packets:
        raise SystemExit(f"{folder}: no packet with three stamps in it")
    return packets


def with_new_id(packet: bytes, alert_id: int) -> bytes:
    """An LSST packet with another diaSourceId: its first field, after the five bytes of framing."""
    _, end = decode_long(packet, 5)
    return packet[:5] + encode_long(alert_id) + packet[end:]


def repeated(packets: Sequence[bytes], count: int) -> Iterator[bytes]:
    """``count`` packets, the given ones over and over."""
    for number in range(count):
        yield packets[number % len(packets)]
