"""Quality flags: what is unusual about the stamps of an alert that could still be scored."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum


class Flag(StrEnum):
    """What a consumer should know of the stamps behind a score. None of them on a clean alert."""

    NAN = "nan"
    """A plane has a pixel without a value inside the part that the network sees."""
    TRUNCATED = "truncated"
    """A plane is smaller than the survey's uncut stamp: it was cut at the chip edge."""
    OFF_CENTRE = "off_centre"
    """The source may not be where the network expects it: a plane was cut and the alert's position on
    the detector is unknown or contradicts the cut, or the planes differ in shape."""
    PLANE_MISSING = "plane_missing"
    """A plane that the network can do without is absent or unreadable; zeros stand in for it."""
    BLANK = "blank"
    """A plane that the network can do without has no finite pixel, or every pixel is the same; zeros
    stand in for it. (A required plane like that gets the alert rejected.)"""
    OUT_OF_RANGE = "out_of_range"
    """A plane has a pixel that is infinite or as good as that (1e30 and beyond; counted as having no
    value), or no measurable noise (more than half of its pixels are equal)."""


class Status(StrEnum):
    """What became of an alert."""

    SCORED = "scored"
    DEGRADED = "degraded"
    REJECTED = "rejected"


def flags_of(found: Iterable[Flag]) -> tuple[Flag, ...]:
    """Each flag once, in the order of :class:`Flag`, so that equal findings are equal tuples."""
    present = set(found)
    if not present:
        return ()
    return tuple(flag for flag in Flag if flag in present)


def status_of(flags: Collection[str] | None) -> Status:
    """Status of an alert, by its flags; ``None`` for an alert that could not be scored."""
    if flags is None:
        return Status.REJECTED
    return Status.DEGRADED if flags else Status.SCORED
