"""Messages that no classifier can score: what real streams hold now and then, for the demo."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from space2vec.stream.simulated import SimulatedAlert
from space2vec.training.packets import ztf_packet

Stamp = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Poison:
    """A message that must be rejected.

    Attributes
    ----------
    label : str
        What is wrong with it, in a few words.
    survey : str
        Whose topic it goes to.
    packet : bytes
        The message.
    stamps : sequence of (S, S) array
        What can be seen of it, in plane order; often nothing.
    """

    label: str
    survey: str
    packet: bytes = field(repr=False)
    stamps: Sequence[Stamp] = field(default=(), repr=False)


def poison(ztf: SimulatedAlert, lsst: SimulatedAlert) -> list[Poison]:
    """Spoil two good alerts in different ways.

    Parameters
    ----------
    ztf, lsst : SimulatedAlert
        One of each framing; they are not changed.
    """
    blank = np.zeros((63, 63), np.float32)
    return [
        Poison("no alert at all", "ztf", b"GET / HTTP/1.1\r\nHost: alerts\r\n\r\n"),
        Poison("a container cut short", "ztf", ztf.packet[: len(ztf.packet) // 2]),
        Poison("cutouts that are null", "ztf", _ztf(None)),
        Poison("stamps without contrast", "ztf", _ztf(blank), (blank, blank, blank)),
        Poison("a datum cut short", "lsst", lsst.packet[:-4000]),
        Poison("bytes after the datum", "lsst", lsst.packet + bytes(16)),
        Poison("a schema id nobody knows", "lsst", b"\x00" + struct.pack(">I", 99_999) + lsst.packet[5:]),
    ]


def _ztf(stamp: Stamp | None) -> bytes:
    return ztf_packet(
        stamp, stamp, stamp, alert_id=1, object_id="ZTF26poison", jd=2461300.6, ra=10.0, dec=20.0
    )
