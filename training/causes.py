"""Why a detection may be bogus."""

from __future__ import annotations

from enum import IntEnum


class Cause(IntEnum):
    """Cause of a bogus candidate, by injected truth; ``NONE`` is what a real one has.

    ``GLINT`` is apart: a flash of a tumbling satellite is a true point of light in the sky, so that no
    stamp tells it from a transient. It is bogus to a supernova hunter and real to a detector, and is
    left out of training and of the headline figures.
    """

    NONE = 0
    NOISE = 1
    STAR_RESIDUAL = 2
    GALAXY_RESIDUAL = 3
    COSMIC_RAY = 4
    HOT_PIXEL = 5
    BAD_COLUMN = 6
    TRAIL = 7
    GLINT = 8
    GHOST = 9
    SPIKE = 10
    SATURATION = 11
    EDGE = 12
    TEMPLATE_DEFECT = 13


CAUSES = tuple(cause.name.lower() for cause in Cause)
"""Names by code."""

DETECTOR = (Cause.COSMIC_RAY, Cause.HOT_PIXEL, Cause.BAD_COLUMN, Cause.SATURATION, Cause.TEMPLATE_DEFECT)
"""Causes beneath which an injected event is lost: neither real nor bogus."""
