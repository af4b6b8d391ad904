"""From a decoded record to an :class:`Alert`: what a survey profile says, applied."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Mapping
from itertools import chain, takewhile
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from space2vec.schemas.alert import Alert, Plane
from space2vec.schemas.errors import PacketError, Reason, StampError
from space2vec.schemas.limits import Limits
from space2vec.schemas.packet import Packet
from space2vec.schemas.profiles import Paths, Profile
from space2vec.schemas.stamps import read_stamp
from space2vec.schemas.times import DAY_S, mjd_tai

_DECIMAL = re.compile("-?[0-9]{1,20}")
_INT64 = range(-(1 << 63), 1 << 63)
_YES = frozenset(("t", "true", "1", "y", "yes", "+", "p", "pos", "positive"))
_NO = frozenset(("f", "false", "0", "n", "no", "-", "-1", "neg", "negative"))

STAMP_DATA = "stampData"
"""Field of a cutout that is a record, with its content."""
_FILE_NAME = "fileName"

Values = dict[str, Any]
"""What we read of a record, by dotted name."""
Settling = tuple[Paths, ...]
"""Groups of fields of each of which one must be there for the rest of the record not to matter."""


def settles(values: Values, settling: Settling) -> bool:
    """Tell whether the rest of a record does not matter."""
    return all(any(map(values.get, paths)) for paths in settling)


class _Cutout(NamedTuple):
    """Where a cutout may be: a field that is its content, or a record of that and of a file name."""

    field: str
    content: str
    name: str


class Extractor:
    """Takes out of a record what a profile points at.

    Parameters
    ----------
    profile : Profile
        The survey's.
    present : mapping of str to bool
        Dotted names of the fields that the writer schema has, and whether they are always there. Others are
        not looked for, nor are those that come after one that is always there.
    limits : Limits
        For the stamps.
    """

    def __init__(self, profile: Profile, present: Mapping[str, bool], limits: Limits) -> None:
        def there(paths: Paths, *, even_if_zero: bool = True) -> Paths:
            known = tuple(path for path in paths if path in present)
            last = next((path for path in known if present[path]), None) if even_if_zero else None
            return known[: known.index(last) + 1] if last is not None else known

        self.profile = profile
        self._limits = limits
        self._alert_id = there(profile.alert_id)
        self._object_id = there(profile.object_id, even_if_zero=False)
        self._ra = there(profile.ra)
        self._dec = there(profile.dec)
        self._version = there(profile.schema_version)
        self._time = there(profile.time.fields) if profile.time else ()
        self._exposure = there(profile.time.exposure) if profile.time else ()
        self._positive = there(profile.sign.positive)
        self._negative = there(profile.sign.negative)
        self._flux = there(profile.sign.flux)
        self._x = there(profile.detector.x)
        self._y = there(profile.detector.y)
        self._groups = (
            *(self._alert_id, self._object_id, self._ra, self._dec, self._version, self._time),
            *(self._exposure, self._positive, self._negative, self._flux, self._x, self._y),
        )
        stamps = profile.stamps
        wanted = (stamps.science, stamps.template, stamps.difference)
        self._cutouts = tuple(
            (
                plane,
                paths,
                tuple(
                    _Cutout(field, f"{field}.{STAMP_DATA}", f"{field}.{_FILE_NAME}") for field in there(paths)
                ),
            )
            for plane, paths in zip(Plane, wanted, strict=True)
        )
        names = {*chain.from_iterable(self._groups)}
        names.update(*chain.from_iterable(there for _, _, there in self._cutouts))
        self.wanted = frozenset(names)
        self._paths = tuple((name, *_split(name)) for name in self.wanted)

    @property
    def cutout_fields(self) -> frozenset[str]:
        """Top-level fields that hold cutouts."""
        return frozenset(_top(cutout.field) for _, _, there in self._cutouts for cutout in there)

    @property
    def other_fields(self) -> frozenset[str]:
        """Top-level fields that hold anything else we read."""
        return frozenset(map(_top, chain.from_iterable(self._groups)))

    def settling(self, fields: Collection[str]) -> Settling | None:
        """Tell what must be found in some of the top-level fields so that the others need not be read.

        Parameters
        ----------
        fields : collection of str
            Those that are read.

        Returns
        -------
        Settling or None
            For each value that may also stand in another field: where it must be found instead. ``None`` if
            some value's first choice is in a field that is not read.
        """
        settling = []
        for paths in self._groups:
            if all(_top(path) in fields for path in paths):
                continue
            before = tuple(takewhile(lambda path: _top(path) in fields, paths))
            if not before:
                return None
            settling.append(before)
        return tuple(settling)

    def values(self, record: Any) -> Values:
        """Take what we read out of a whole record."""
        found = {}
        for name, parents, last in self._paths:
            parent = record
            for key in parents:
                parent = parent.get(key) if isinstance(parent, dict) else None
            if isinstance(parent, dict):
                found[name] = parent.get(last)
        return found

    def alert(self, values: Values, packet: Packet) -> Alert:
        """Make the alert.

        Raises
        ------
        PacketError
            ``MISSING_FIELD`` if the record has no alert id.
        """
        object_id = self.object_id(values)
        alert_id = self.alert_id(values)
        if alert_id is None:
            detail = f"no alert id: absent or null are {', '.join(self.profile.alert_id)}"
            raise PacketError(
                Reason.MISSING_FIELD,
                detail,
                field=self.profile.alert_id[0],
                survey=self.profile.survey,
                object_id=object_id,
            )
        stamps: dict[Plane, NDArray[np.float32]] = {}
        faults: dict[Plane, StampError] = {}
        difference_name = ""
        for plane, paths, there in self._cutouts:
            try:
                stamps[plane], name = self._stamp(values, paths, there)
            except StampError as error:
                error.survey, error.alert_id, error.object_id = self.profile.survey, alert_id, object_id
                faults[plane] = error.detached()
            else:
                if plane is Plane.DIFFERENCE:
                    difference_name = name
        negative, flipped = self._sign(values, difference_name)
        first_pixel = self.profile.detector.first_pixel
        version = _first(values, self._version)
        return Alert(
            survey=self.profile.survey,
            alert_id=alert_id,
            object_id=object_id,
            mjd_tai=self._mjd_tai(values),
            ra=_number(_first(values, self._ra)),
            dec=_number(_first(values, self._dec)),
            negative=negative,
            flipped=flipped,
            x=_minus(_number(_first(values, self._x)), first_pixel),
            y=_minus(_number(_first(values, self._y)), first_pixel),
            nominal_size=self.profile.stamps.side,
            stamps=stamps,
            faults=faults,
            schema_version=None if version is None else str(version),
            packet=packet,
        )

    def alert_id(self, values: Values) -> int | None:
        """Give the alert's id, or ``None``.

        An id that is no number (ATLAS) becomes the first 63 bits of its SHA-256.
        """
        raw = _first(values, self._alert_id)
        if isinstance(raw, str):
            if _DECIMAL.fullmatch(raw) and int(raw) in _INT64:
                return int(raw)
            return int.from_bytes(hashlib.sha256(raw.encode()).digest()[:8], "big") >> 1 if raw else None
        if isinstance(raw, float):
            return int(raw) if raw.is_integer() and int(raw) in _INT64 else None
        return raw if isinstance(raw, int) else None

    def object_id(self, values: Values) -> str | None:
        """Give the object's id, or ``None``; 0 and the empty string stand for none."""
        for path in self._object_id:
            raw = values.get(path)
            if raw:
                return str(raw)
        return None

    def _stamp(
        self, values: Values, paths: Paths, there: tuple[_Cutout, ...]
    ) -> tuple[NDArray[np.float32], str]:
        """Read one cutout; the file name comes back too, empty where there is none."""
        if not there:
            field = paths[0] if paths else "cutout"
            detail = f"the schema has no {' or '.join(paths)}" if paths else "the survey has no such cutout"
            raise StampError(Reason.STAMP_MISSING, detail, field=field)
        for field, content, file_name in there:
            if content in values:
                cutout, name = values[content], values.get(file_name)
                break
            if (cutout := values.get(field)) is not None:
                name = ""
                break
        else:
            raise StampError(Reason.STAMP_MISSING, "null", field=there[0].field)
        if cutout is None:
            raise StampError(Reason.STAMP_MISSING, f"no {STAMP_DATA} in it", field=field)
        if not isinstance(cutout, (bytes, memoryview)):
            raise StampError(Reason.STAMP_NOT_FITS, f"{type(cutout).__name__} instead of bytes", field=field)
        return read_stamp(cutout, field, self._limits), name if isinstance(name, str) else ""

    def _mjd_tai(self, values: Values) -> float | None:
        rule = self.profile.time
        time = _number(_first(values, self._time))
        if rule is None or time is None:
            return None
        mjd = mjd_tai(time, rule.scale)
        if rule.at == "start":
            exposure = _number(_first(values, self._exposure))
            mjd += (rule.default_exposure if exposure is None else exposure) / 2 / DAY_S
        return mjd

    def _sign(self, values: Values, difference_name: str) -> tuple[bool | None, bool]:
        """Tell whether the source is negative, and whether its difference stamp was turned over."""
        rule = self.profile.sign
        turned: bool | None = None
        if rule.flipped_name and rule.flipped_name in difference_name:
            turned = True
        elif rule.straight_name and rule.straight_name in difference_name:
            turned = False
        positive = _truth(_first(values, self._positive))
        negative = (not positive) if positive is not None else _truth(_first(values, self._negative))
        if negative is None:
            negative = turned
        if negative is None:
            flux = _number(_first(values, self._flux))
            negative = None if flux is None else flux < 0
        if turned is None:
            turned = rule.flipped == "negatives" and negative is True
        return negative, turned


def _split(path: str) -> tuple[list[str], str]:
    *parents, last = path.split(".")
    return parents, last


def _top(path: str) -> str:
    return path.partition(".")[0]


def _first(values: Values, paths: Paths) -> Any:
    """Give the first of some fields that is there and not null."""
    for path in paths:
        value = values.get(path)
        if value is not None:
            return value
    return None


def _number(value: Any) -> float | None:
    """Take a finite number as it is; anything else, NaN included, is as good as absent."""
    if isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    return None


def _minus(value: float | None, offset: float) -> float | None:
    return None if value is None else value - offset


def _truth(value: Any) -> bool | None:
    if isinstance(value, str):
        word = value.strip().lower()
        return True if word in _YES else False if word in _NO else None
    if isinstance(value, (bool, int, float)) and not math.isnan(value):
        return value > 0
    return None
