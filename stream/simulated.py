"""Simulated alerts as packets: the pictures of :mod:`space2vec.training.simulate` in the surveys' own framings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from space2vec.training.causes import CAUSES
from space2vec.training.events import KINDS
from space2vec.training.packet_schemas import lsst_writer_schema
from space2vec.training.packets import lsst_packet, ztf_packet
from space2vec.training.simulate import Candidates, simulate_fields
from space2vec.training.surveys import geometry_of

LSST_SCHEMA_ID: Final = 1100
SURVEYS: Final = ("ztf", "lsst")
_FIRST_ID: Final = {"ztf": 3_000_000_000_000_000_000, "lsst": 400_000_000_000_000_000}
_IDS_PER_SEED: Final = 10_000_000
_FIRST_JD: Final = 2461300.6
_FIELD_DAYS: Final = 40 / 86400
"""A visit every 40 s."""


@dataclass(frozen=True, slots=True)
class SimulatedAlert:
    """One simulated alert, packed, with what it truly is.

    Attributes
    ----------
    survey : str
        ``ztf`` or ``lsst``.
    alert_id : int
        Unique per survey, seed and place in the sequence.
    object_id : str
        As the survey writes it.
    packet : bytes
        An Avro container (ZTF) or Confluent framing (LSST).
    real : bool
        Whether an event was injected.
    kind, cause : str or None
        What kind of event, if real; what made it be detected, if bogus.
    snr : float
        Signal to noise of the detection.
    stamps : (3, S, S) float32
        What the packet shows.
    """

    survey: str
    alert_id: int
    object_id: str
    packet: bytes = field(repr=False)
    real: bool
    kind: str | None
    cause: str | None
    snr: float
    stamps: NDArray[np.float32] = field(repr=False)

    def truth(self) -> str:
        """Give the truth as JSON, for a Kafka header."""
        known = {"real": self.real, "kind": self.kind, "cause": self.cause, "snr": round(self.snr, 2)}
        return json.dumps(known)


def simulated_alerts(survey: str, count: int, seed: int, processes: int = 1) -> Iterator[SimulatedAlert]:
    """Simulate alerts of one survey, field by field, so that any number fits in memory.

    Parameters
    ----------
    survey : str
        ``ztf``, ``lsst``, or ``both``: half of each, field by field in turn.
    count : int
        How many.
    seed : int
        The same seed gives the same packets, byte for byte.
    processes : int
        That simulate the fields, as for `space2vec.training.simulate.generate`; packets are packed in this one.
    """
    surveys = SURVEYS if survey == "both" else (survey,)
    left = {name: (count + i) // len(surveys) for i, name in enumerate(surveys)}
    made = dict.fromkeys(surveys, 0)
    with ExitStack() as stack:
        fields = {
            name: stack.enter_context(
                closing(simulate_fields(name, seed, geometry_of(name).stamp, processes))
            )
            for name in surveys
        }
        while any(left.values()):
            for name in surveys:
                if left[name] == 0:
                    continue
                field_ = next(fields[name])
                for row in range(min(len(field_), left[name])):
                    yield _alert(field_, row, _FIRST_ID[name] + seed % 100_000 * _IDS_PER_SEED + made[name])
                    made[name] += 1
                    left[name] -= 1


def writer_schema_files() -> dict[str, str]:
    """Give the writer schemas that the LSST packets need, as file names and texts for ``--schemas FOLDER``."""
    version = f"{LSST_SCHEMA_ID // 100}.{LSST_SCHEMA_ID % 100}"
    return {f"{LSST_SCHEMA_ID}.avsc": json.dumps(lsst_writer_schema(version), indent=1)}


def _alert(candidates: Candidates, row: int, alert_id: int) -> SimulatedAlert:
    stamps = candidates.stamps[row]
    science, template, difference = stamps
    negative = bool(candidates.negative[row])
    days = int(candidates.field[row]) * _FIELD_DAYS
    ra, dec, x, y = (
        float(column[row]) for column in (candidates.ra, candidates.dec, candidates.x, candidates.y)
    )
    if candidates.survey == "ztf":
        object_id = _ztf_name(alert_id)
        upright = -difference if candidates.flipped[row] else difference
        packet = ztf_packet(
            science, template, upright,
            alert_id=alert_id, object_id=object_id, jd=_FIRST_JD + days, ra=ra, dec=dec, negative=negative,
            xpos=x + 1, ypos=y + 1,
        )  # fmt: skip
    else:
        object_id = str(alert_id + 7)
        packet = lsst_packet(
            science, template, difference,
            alert_id=alert_id, object_id=int(object_id), mjd_tai=_FIRST_JD - 2400000.5 + days, ra=ra, dec=dec,
            negative=negative, x=x, y=y, schema_id=LSST_SCHEMA_ID,
        )  # fmt: skip
    real = bool(candidates.real[row])
    return SimulatedAlert(
        survey=candidates.survey,
        alert_id=alert_id,
        object_id=object_id,
        packet=packet,
        real=real,
        kind=KINDS[candidates.kind[row]] if real else None,
        cause=None if real else _cause(int(candidates.cause[row])),
        snr=float(candidates.snr[row]),
        stamps=stamps,
    )


def _cause(index: int) -> str:
    return str(CAUSES[index])


def _ztf_name(alert_id: int) -> str:
    """Name an object as ZTF does: the year, and seven letters."""
    letters, rest = "", alert_id % 26**7
    for _ in range(7):
        rest, letter = divmod(rest, 26)
        letters = chr(ord("a") + letter) + letters
    return f"ZTF26{letters}"
