"""What the page asks for, as JSON: how the stream does, the wall, one alert, the rejected.

Only numbers, strings, booleans and nulls go out, bounded in number and length; 64-bit ids go as strings, since a
browser's numbers end at 2**53.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from space2vec.schemas.reader import PacketReader
from space2vec.stream.dashboard.entries import Entry, annotations_of, open_alert, record_of
from space2vec.stream.dashboard.ring import Wanted, neighbours
from space2vec.stream.dashboard.store import BINS, SPAN_S, STEP_S, Store

SCORE_BINS: Final = 40
MOST_SHOWN: Final = 600
_NEIGHBOURS: Final = 8
_RATE_BINS: Final = 3
_MOST_FIELDS: Final = 1500
_LONGEST_VALUE: Final = 300
_STALE_S: Final = 6 * STEP_S

Json = dict[str, Any]


def state(store: Store) -> Json:
    """Give how the stream does: rate, lag, latency, scores, and what can be picked from."""
    newest = store.ring.newest()
    entries = [entry for _, entry in newest]
    rates, lags = store.rates.series(), list(store.lags)
    current = bool(lags) and time.time() - lags[-1][0] < _STALE_S
    return {
        "run": store.run,
        "where": store.where,
        "complaint": store.complaint,
        "span_s": SPAN_S,
        "held": len(entries),
        "held_bytes": store.ring.size_bytes,
        "unreadable": store.unreadable,
        "skipped": store.skipped,
        "rate": {"now": round(sum(rates[-_RATE_BINS:]) / _RATE_BINS, 1), "series": rates},
        "totals": store.rates.totals(),
        "lag": {
            "now": sum(lags[-1][1].values()) if current else None,
            "known": bool(lags),
            "series": [sum(lag.values()) for _, lag in lags],
            "partitions": {str(p): behind for p, behind in lags[-1][1].items()} if current else {},
        },
        "latency": _latency(entries),
        "scores": _histogram(entries),
        "classes": _counts(entry.label for entry in entries),
        "kinds": _counts(entry.kind for entry in entries if entry.kind),
        "surveys": _counts(entry.survey for entry in entries),
        "flags": _counts(flag for entry in entries for flag in entry.flags),
        "rejected": len(store.rejections),
    }


def wall(store: Store, wanted: Wanted, most: int) -> Json:
    """Give the alerts to show, at most so many, and how many there are."""
    newest = store.ring.newest()
    picked = wanted.pick(newest)
    return {
        "run": store.run,
        "held": len(newest),
        "matched": len(picked),
        "scores": _histogram([entry for _, entry in picked]),
        "alerts": [summary(*numbered) for numbered in picked[: min(most, MOST_SHOWN)]],
    }


def summary(number: int, entry: Entry) -> Json:
    """Give what stands below a triplet."""
    return {
        "number": number,
        "survey": entry.survey,
        "alert_id": str(entry.alert_id),
        "object_id": entry.object_id,
        "score": round(entry.score, 6),
        "label": entry.label,
        "kind": entry.kind,
        "flags": entry.flags,
        "negative": entry.negative,
        "written_ms": entry.written_ms,
        "planes": {str(plane): fault for plane, fault in entry.planes.items()},
        "truth": entry.truth,
    }


def detail(store: Store, number: int, reader: PacketReader) -> Json | None:
    """Give everything there is to say of one alert; ``None`` if it is not held any more.

    Raises
    ------
    UnreadableError
        If its packet cannot be built, which it could be when it came.
    """
    entry = store.ring.get(number)
    if entry is None:
        return None
    alert = open_alert(entry.value, reader)
    record = record_of(alert.packet)
    said = annotations_of(alert.packet)
    if said:
        del record[list(record)[-1]]
    near = neighbours(entry, store.ring.newest(), _NEIGHBOURS)
    return {
        **summary(number, entry),
        "ra": entry.ra,
        "dec": entry.dec,
        "mjd_tai": entry.mjd_tai,
        "logit": entry.logit,
        "spread": entry.spread,
        "classes": entry.classes,
        "kinds": entry.kinds,
        "classifier": entry.classifier,
        "latency_s": entry.latency_s,
        "source": entry.source,
        "output": entry.output,
        "bytes": len(entry.value),
        "schema_version": alert.schema_version,
        "shapes": {str(plane): list(stamp.shape) for plane, stamp in alert.stamps.items()},
        "missing_pixels": {
            str(plane): int(stamp.size - np.isfinite(stamp).sum()) for plane, stamp in alert.stamps.items()
        },
        "annotations": [_bounded(one) for one in reversed(said)],
        "fields": _bounded(record),
        "neighbours": [
            {**summary(other, found), "similarity": round(similarity, 4)} for similarity, other, found in near
        ],
    }


def rejected(store: Store) -> Json:
    """Give the newest dead letters, and how many there are of each reason."""
    letters = list(store.rejections)[::-1]
    return {
        "run": store.run,
        "reasons": _counts(letter.reason for letter in letters),
        "letters": [asdict(letter) for letter in letters],
    }


def _latency(entries: Sequence[Entry]) -> Json:
    """Give quantiles of the latency, of the newest alerts and in each interval of the span."""
    first = int(time.time() // STEP_S) - BINS
    bins: dict[int, list[float]] = {}
    for entry in entries:
        place = int(entry.written_ms / 1000 // STEP_S) - first
        if entry.latency_s is not None and 0 <= place <= BINS:
            bins.setdefault(place, []).append(entry.latency_s)
    recent = [entry.latency_s for entry in entries if entry.latency_s is not None]
    return {
        "p50": _quantile(recent, 0.5),
        "p99": _quantile(recent, 0.99),
        "series50": [_quantile(bins.get(place, []), 0.5) for place in range(BINS)],
        "series99": [_quantile(bins.get(place, []), 0.99) for place in range(BINS)],
    }


def _quantile(values: Sequence[float], q: float) -> float | None:
    return round(float(np.quantile(values, q)), 3) if values else None


def _histogram(entries: Sequence[Entry]) -> list[int]:
    counts, _ = np.histogram([entry.score for entry in entries], bins=SCORE_BINS, range=(0.0, 1.0))
    return [int(count) for count in counts]


def _counts(names: Iterator[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _bounded(record: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """Flatten a record to names and texts: nested names are dotted, lists and bytes are summed up."""
    rows: list[tuple[str, str | None]] = []
    for name, value in _leaves("", record):
        if len(rows) == _MOST_FIELDS:
            rows.append(("…", f"more than {_MOST_FIELDS} fields"))
            break
        rows.append((name[:_LONGEST_VALUE], value))
    return rows


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, str | None]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(f"{prefix}.{name}" if prefix else str(name), inner)
    else:
        yield prefix, _text(value)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, list | tuple):
        return _listed(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _number(value)
    text = str(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def _listed(values: Sequence[Any]) -> str:
    """Write short lists of numbers or words out; of others say how many there are."""
    if all(isinstance(value, float) for value in values) and len(values) > 4:
        return f"{len(values)} numbers: {', '.join(f'{value:.3g}' for value in values[:4])}, …"
    if all(isinstance(value, str | int | float) for value in values) and len(values) <= 16:
        return ", ".join(str(_text(value)) for value in values)[:_LONGEST_VALUE] or "none"
    records = values and all(isinstance(value, Mapping) for value in values)
    if records and len(values) <= 8 and all({"label", "probability"} <= value.keys() for value in values):
        return ", ".join(f"{value['label']} {_number(value['probability'])}" for value in values)
    return f"{len(values)} {'records' if records else 'values'}"


def _number(value: float) -> str:
    """Write a number as short as its precision allows; a 32-bit float has seven digits, not seventeen."""
    if not math.isfinite(value):
        return str(value)
    with np.errstate(over="ignore"):
        single = np.float32(value)
    return str(single) if float(single) == value else repr(value)
