"""ZTF-like packets of a few fields, whose types and values a test chooses."""

from __future__ import annotations

from typing import Any

import numpy as np


def nullable(kind: Any) -> list[Any]:
    """Give the union of a type and null."""
    return [kind, "null"]


def fits(pixels: Any) -> bytes:
    """Write a plain FITS image."""
    pixels = np.asarray(pixels)
    rows, cols = pixels.shape
    bitpix = -8 * pixels.dtype.itemsize
    cards = [
        "SIMPLE  =  T",
        f"BITPIX  = {bitpix}",
        "NAXIS   = 2",
        f"NAXIS1  = {cols}",
        f"NAXIS2  = {rows}",
        "END",
    ]
    head = "".join(card.ljust(80) for card in cards).ljust(2880).encode()
    body = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    return head + body + bytes(-len(body) % 2880)


STAMP = fits(np.arange(63 * 63, dtype=np.float32).reshape(63, 63))
CANDIDATE = {"jd": 2460449.5, "isdiffpos": "t", "rcid": 21, "ra": 10.0, "dec": -5.0}
FORMS: dict[str, Any] = {
    "jd": "double",
    "isdiffpos": "string",
    "rcid": "int",
    "ra": "double",
    "dec": "double",
}


def ztf_like(alert: dict[str, Any], candidate: dict[str, Any] = CANDIDATE, **kinds: Any) -> tuple[Any, Any]:
    """Make schema and record of a packet with few fields; ``kinds`` are types of fields."""
    fields = [{"name": name, "type": kinds.get(name, FORMS.get(name))} for name in candidate]
    inner = {"type": "record", "name": "candidate", "fields": fields}
    alert = {"candid": 5, "objectId": "ZTF1", "candidate": candidate} | alert
    usual = {"candid": "long", "objectId": "string", "candidate": inner}
    usual |= dict.fromkeys(("cutoutScience", "cutoutTemplate", "cutoutDifference"), nullable("bytes"))
    fields = [{"name": name, "type": kinds.get(name, usual.get(name))} for name in alert]
    return {"type": "record", "name": "alert", "fields": fields}, alert
