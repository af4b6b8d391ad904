"""From alerts to the array that a network is fed, and what is wrong with those that cannot be."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from space2vec.schemas.alert import Alert, Plane
from space2vec.schemas.errors import PacketError, Reason
from space2vec.workers.manifest import InputSpec
from space2vec.workers.normalise import CHUNK_PIXELS, PlaneReport, normalise_planes, window
from space2vec.workers.quality import Flag, flags_of

Placement = tuple[tuple[int, int], tuple[int, int]]
"""Shape of a stamp, and the row and column of the source in it."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Alerts made ready for scoring; the first three have one entry per row, in the alerts' order.

    Attributes
    ----------
    stamps : (N, P, S, S) float32, C order
        Network inputs.
    rows : list of int
        Which alert each row is of: its index in what was given.
    flags : list of tuple of Flag
        Quality flags of each row.
    rejects : dict of int to PacketError
        Why each of the other alerts cannot be scored, by its index.
    """

    stamps: NDArray[np.float32] = field(repr=False)
    rows: list[int]
    flags: list[tuple[Flag, ...]]
    rejects: dict[int, PacketError]


class _Member(NamedTuple):
    """One plane on its way to the canvas ``slot``."""

    slot: int
    stamp: NDArray[np.float32]


class Preprocessor:
    """Prepares alerts as a bundle's manifest says.

    Parameters
    ----------
    spec : InputSpec
        The manifest's ``input``.
    """

    def __init__(self, spec: InputSpec) -> None:
        self.spec = spec

    def prepare(self, alerts: Sequence[Alert]) -> Prepared:
        """Prepare the stamps of those alerts that have what the network requires.

        Never raises for what an alert holds: an alert that cannot be scored is in ``rejects``, with the fault of
        the first required cutout that is missing or unreadable, or ``stamp_blank``.
        """
        rejects: dict[int, PacketError] = {}
        rows: list[int] = []
        for index, alert in enumerate(alerts):
            if all(plane in alert.stamps for plane in self.spec.required):
                rows.append(index)
            else:
                rejects[index] = self._without_cutouts(alert)
        size, depth = self.spec.size, len(self.spec.planes)
        stamps = np.zeros((len(rows), depth, size, size), np.float32)
        canvas = stamps.reshape(-1, size, size)
        found: list[set[Flag]] = [set() for _ in rows]
        blank: list[set[Plane]] = [set() for _ in rows]
        for placement, members in self._placements([alerts[index] for index in rows], found).items():
            for slot, report in _normalise(members, placement, self.spec, canvas):
                row, number = divmod(slot, depth)
                found[row] |= _noticed(report)
                if report.blank:
                    blank[row].add(self.spec.planes[number])
        self._turn([alerts[index] for index in rows], stamps)

        lost = [row for row, planes in enumerate(blank) if not planes.isdisjoint(self.spec.required)]
        if lost:
            rejects |= {rows[row]: _blank_cutouts(alerts[rows[row]], blank[row]) for row in lost}
            kept = [row for row in range(len(rows)) if rows[row] not in rejects]
            stamps, rows, found = stamps[kept], [rows[row] for row in kept], [found[row] for row in kept]
        return Prepared(stamps, rows, [flags_of(flags) for flags in found], rejects)

    def _placements(self, alerts: Sequence[Alert], found: list[set[Flag]]) -> dict[Placement, list[_Member]]:
        """Group every plane there is by shape and place of the source; flag what that shows."""
        groups: dict[Placement, list[_Member]] = {}
        depth = len(self.spec.planes)
        for row, alert in enumerate(alerts):
            shape: tuple[int, ...] = ()
            for number, plane in enumerate(self.spec.planes):
                stamp = alert.stamps.get(plane)
                if stamp is None:
                    found[row].add(Flag.PLANE_MISSING)
                    continue
                if stamp.shape != shape:
                    if shape:
                        found[row].add(Flag.OFF_CENTRE)
                    shape = stamp.shape
                    placement, flags = place(alert, (shape[0], shape[1]))
                    members = groups.setdefault(placement, [])
                    found[row] |= flags
                members.append(_Member(row * depth + number, stamp))
        return groups

    def _turn(self, alerts: Sequence[Alert], stamps: NDArray[np.float32]) -> None:
        """Turn the differences of negative alerts, where the survey has not, so that the source is positive.

        After normalising instead of before: both are odd in the pixel values, so it is the same to the bit.
        """
        if Plane.DIFFERENCE not in self.spec.planes:
            return
        number = self.spec.planes.index(Plane.DIFFERENCE)
        for row, alert in enumerate(alerts):
            if alert.negative and not alert.flipped:
                np.negative(stamps[row, number], out=stamps[row, number])

    def _without_cutouts(self, alert: Alert) -> PacketError:
        absent = [plane for plane in self.spec.planes if plane not in alert.stamps]
        faults = [(plane, alert.faults.get(plane)) for plane in absent]
        first = next(fault for plane, fault in faults if plane in self.spec.required)
        told = "; ".join(f"{plane}: {fault.detail}" for plane, fault in faults if fault is not None)
        return _reject(
            alert,
            first.reason if first else Reason.STAMP_MISSING,
            f"cutouts missing or unreadable: {_listed(absent)}" + (f" ({told})" if told else ""),
            first.field if first else None,
        )


def normalise_triplets(stamps: NDArray[np.float32], spec: InputSpec) -> NDArray[np.float32]:
    """Normalise stamps whose source is at the central pixel, as training and golden vectors have them.

    Parameters
    ----------
    stamps : (N, P, H, W) float32
        Planes in the order of ``spec.planes``, NaN where there is no pixel; the source lies at
        ``(H // 2, W // 2)``. A plane without any finite pixel counts as missing.
    spec : InputSpec
        The bundle's input.

    Returns
    -------
    (N, P, S, S) float32
        Network inputs, C order.
    """
    count, planes, height, width = stamps.shape
    out = np.zeros((count * planes, spec.size, spec.size), np.float32)
    lay = window((height, width), (height // 2, width // 2), spec.size)
    pixels = stamps.reshape(count * planes, height, width)
    step = max(1, CHUNK_PIXELS // (height * width))
    for start in range(0, len(pixels), step):
        chunk = pixels[start : start + step].astype(np.float32, order="C", copy=True)
        target = out[(slice(start, start + len(chunk)), *lay.canvas)]
        normalise_planes(chunk, lay, spec, target)
    return out.reshape(count, planes, spec.size, spec.size)


def place(alert: Alert, shape: tuple[int, int]) -> tuple[Placement, set[Flag]]:
    """Where the source is in a stamp, and what is to be said of that.

    Parameters
    ----------
    alert : Alert
        Its ``x`` and ``y`` are used where they are known, ``nominal_size`` tells whether the stamp was cut.
    shape : (int, int)
        Rows and columns of the stamp.

    Notes
    -----
    A survey cuts ``n`` pixels around the source, beginning at pixel ``round(x - (n - 1) / 2)`` of the detector (in
    packets of ZTF, and of LSST where CUTMINX tells, without exception). For odd ``n`` the source is thus in the middle
    pixel; for even ``n`` in either of the two middle ones, as its position within its pixel decides. At the
    edge ZTF leaves out the pixels that would lie off the detector: of a stamp that is too short, the
    low side was cut if it would have begun before pixel 0, else the high side.
    """
    row, row_known = _locate(shape[0], alert.nominal_size, alert.y)
    column, column_known = _locate(shape[1], alert.nominal_size, alert.x)
    flags: set[Flag] = set()
    if alert.nominal_size is not None and min(shape) < alert.nominal_size:
        flags.add(Flag.TRUNCATED)
    if not (row_known and column_known):
        flags.add(Flag.OFF_CENTRE)
    return (shape, (row, column)), flags


def _locate(length: int, nominal: int | None, position: float | None) -> tuple[int, bool]:
    """Pixel of the source along one axis of a stamp, and whether that is certain."""
    full = length if nominal is None else max(length, nominal)
    cut = full - length
    if position is None or not math.isfinite(position):
        return length // 2, cut == 0
    first = math.floor(position - (full - 1) / 2 + 0.5)
    source = math.floor(position + 0.5) - first
    if cut == 0 or first >= 0:
        return (source, True) if source < length else (length // 2, False)
    source -= cut
    # One pixel of grace: positions in packets are rounded, and counted from 0 or from 1.
    return (source, abs(first + cut) <= 1) if 0 <= source < length else (length // 2, False)


def _normalise(
    members: Sequence[_Member], placement: Placement, spec: InputSpec, canvas: NDArray[np.float32]
) -> Iterator[tuple[int, PlaneReport]]:
    """Normalise planes of one placement into their slots of the canvas, a cacheful at a time.

    Yields the slot and the report of each plane that there is something to tell of.
    """
    shape, source = placement
    lay = window(shape, source, spec.size)
    step = max(1, CHUNK_PIXELS // max(1, shape[0] * shape[1]))
    scratch = np.empty((min(step, len(members)), *shape), np.float32)
    for start in range(0, len(members), step):
        chunk = members[start : start + step]
        planes = scratch[: len(chunk)]
        for plane, member in zip(planes, chunk, strict=True):
            plane[:] = member.stamp
        slots = [member.slot for member in chunk]
        if slots[-1] - slots[0] + 1 == len(slots):
            target = canvas[(slice(slots[0], slots[-1] + 1), *lay.canvas)]
            reports = normalise_planes(planes, lay, spec, target)
        else:
            apart = np.empty((len(chunk), *(part.stop - part.start for part in lay.canvas)), np.float32)
            reports = normalise_planes(planes, lay, spec, apart)
            canvas[(slots, *lay.canvas)] = apart
        yield from ((slots[row], report) for row, report in reports.items())


def _noticed(report: PlaneReport) -> set[Flag]:
    told = {
        Flag.NAN: report.holes,
        Flag.BLANK: report.blank,
        Flag.OUT_OF_RANGE: report.infinite or (report.noiseless and not report.blank),
    }
    return {flag for flag, seen in told.items() if seen}


def _blank_cutouts(alert: Alert, planes: set[Plane]) -> PacketError:
    listed = _listed([plane for plane in Plane if plane in planes])
    return _reject(alert, Reason.STAMP_BLANK, f"no finite pixel, or all pixels the same: {listed}", None)


def _reject(alert: Alert, reason: Reason, detail: str, field_name: str | None) -> PacketError:
    return PacketError(
        reason,
        detail,
        field=field_name,
        survey=alert.survey,
        alert_id=alert.alert_id,
        object_id=alert.object_id,
    )


def _listed(planes: Sequence[Plane]) -> str:
    """``science, template and difference``."""
    *most, last = planes
    return f"{', '.join(most)} and {last}" if most else str(last)
