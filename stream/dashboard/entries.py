"""What the page holds of an annotated alert and of a dead letter, read from the messages of the output topics.

Both are hostile input: a survey's packet may say anything. What is not as it should be is refused with
:class:`UnreadableError`, and only counted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from space2vec.schemas.alert import Alert, Plane
from space2vec.schemas.errors import PacketError, Space2vecError
from space2vec.schemas.limits import Limits
from space2vec.schemas.packet import Packet
from space2vec.schemas.reader import PacketReader
from space2vec.stream.protocols import Message

_LONGEST_TEXT: Final = 300
_MOST_FLAGS: Final = 16
_MOST_CLASSES: Final = 32
_MOST_DIMENSIONS: Final = 4096
_OVERHEAD_BYTES: Final = 4096
"""What an entry takes besides its message and embedding, roughly."""


class UnreadableError(Space2vecError):
    """A message of an output topic is not what that topic should hold."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One annotated alert.

    Attributes
    ----------
    source, output : str
        Where the alert came from and where it is now: ``topic/partition/offset``.
    written_ms : int
        When it was written, milliseconds since 1970.
    latency_s : float or None
        From the source message's timestamp to then.
    alert_id : int
    object_id : str or None
    survey : str
    ra, dec, mjd_tai : float or None
    negative : bool or None
        As in :class:`~space2vec.schemas.alert.Alert`.
    score, logit : float
    spread : float or None
        Standard deviation of the logit over an ensemble.
    classes : dict of str to float
        Class label to probability.
    kinds : dict of str to float
        The same of the kinds of event where it is likelier real than not, else of the causes of an artefact;
        empty where the model tells none.
    flags : tuple of str
    classifier : str
        Its name and version.
    sha256 : str
        Of its manifest; embeddings of one manifest can be compared.
    embedding : (D,) float32
        Scaled to unit length; empty where none is published.
    planes : dict of Plane to str
        What is wrong with each plane; empty: it is there.
    truth : dict
        Of a simulated alert, what it truly is; else empty.
    value : bytes
        The message.
    """

    source: str
    output: str
    written_ms: int
    latency_s: float | None
    alert_id: int
    object_id: str | None
    survey: str
    ra: float | None
    dec: float | None
    mjd_tai: float | None
    negative: bool | None
    score: float
    logit: float
    spread: float | None
    classes: dict[str, float]
    kinds: dict[str, float]
    flags: tuple[str, ...]
    classifier: str
    sha256: str
    embedding: NDArray[np.float32] = field(repr=False)
    planes: dict[Plane, str]
    truth: dict[str, Any]
    value: bytes = field(repr=False)

    @property
    def label(self) -> str:
        """The likeliest class."""
        return _likeliest(self.classes)

    @property
    def kind(self) -> str:
        """The likeliest kind or cause; empty where none is told."""
        return _likeliest(self.kinds)

    @property
    def size_bytes(self) -> int:
        """Memory that it takes."""
        return len(self.value) + self.embedding.nbytes + _OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class Rejection:
    """One dead letter: why, and where its message stood. Texts as in the headers, cut to a sane length."""

    written_ms: int
    reason: str
    detail: str
    field: str
    survey: str
    alert_id: str
    source: str
    output: str
    size_bytes: int


def entry_of(message: Message, reader: PacketReader) -> Entry:
    """Read an annotated alert.

    Raises
    ------
    UnreadableError
        If it is none of ours.
    """
    alert = open_alert(message.value, reader)
    said = annotations_of(alert.packet)
    if not said:
        raise UnreadableError("no annotation")
    try:
        return _entry(message, alert, said)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # a field of our names, but not ours
        raise UnreadableError(f"{type(error).__name__}: {error}") from error


def _entry(message: Message, alert: Alert, said: list[dict[str, Any]]) -> Entry:
    headers = _headers(message)
    # A packet may come with annotations of others, and several of ours, of which the first counts: by the headers.
    ours = {(value or b"").decode("ascii", "replace") for name, value in message.headers if name == "sha256"}
    one = next((one for one in said if one["sha256"] in ours), said[-1])
    score, logit = _finite(one["score"]), _finite(one["logit"])
    written = message.timestamp_ms or 0
    began = _whole(headers.get("source_timestamp", ""))
    return Entry(
        source=_source(headers),
        output=_place(message),
        written_ms=written,
        latency_s=(written - began) / 1000 if began and written >= began else None,
        alert_id=alert.alert_id,
        object_id=_cut(alert.object_id) if alert.object_id is not None else None,
        survey=alert.survey,
        ra=alert.ra,
        dec=alert.dec,
        mjd_tai=alert.mjd_tai,
        negative=alert.negative,
        score=score,
        logit=logit,
        spread=_finite(spread) if (spread := one.get("spread")) is not None else None,
        classes=_shares(one["classifications"]),
        kinds=_shares(one.get("kinds" if logit >= 0 else "causes", [])),
        flags=tuple(_cut(flag) for flag in one["flags"][:_MOST_FLAGS]),
        classifier=_cut(f"{one['classifier']} {one['version']}"),
        sha256=_cut(one["sha256"]),
        embedding=_unit(one["embedding"]),
        planes={p: str(alert.faults[p].reason) if p in alert.faults else "" for p in Plane},
        truth=_truth(headers.get("truth", "")),
        value=message.value,
    )


def open_alert(value: bytes, reader: PacketReader) -> Alert:
    """Open the one alert of a message.

    Raises
    ------
    UnreadableError
        If it holds none, or several.
    """
    try:
        found = list(reader.read(value))
    except Space2vecError as error:
        raise UnreadableError(str(error)) from error
    if len(found) != 1 or isinstance(found[0], PacketError):
        raise UnreadableError(str(found[0]) if found else "no record")
    return found[0]


def annotations_of(packet: Packet) -> list[dict[str, Any]]:
    """Give the annotations of a packet, the oldest first; empty if its last field holds none of ours."""
    last = list(record_of(packet).values())[-1:]
    said = last[0] if last and isinstance(last[0], list) else []
    ours = {"classifier", "version", "sha256", "score", "logit", "classifications", "flags", "embedding"}
    return said if all(isinstance(one, dict) and ours <= one.keys() for one in said) else []


def record_of(packet: Packet) -> dict[str, Any]:
    """Build a packet's whole record, unless its schema lets it take more memory than we give it.

    Raises
    ------
    UnreadableError
        If it is too costly, damaged, or no record.
    """
    cost, limits = packet.writer.cost, Limits()
    if cost.base + cost.rate * (packet.stop - packet.start) > limits.record_memory:
        raise UnreadableError(f"a record of its schema may take more than {limits.record_memory} bytes")
    try:
        record = packet.decode()
    except Exception as error:  # fastavro raises of every kind
        raise UnreadableError(f"{type(error).__name__}: {error}") from error
    if not isinstance(record, dict):
        raise UnreadableError("no record")
    return record


def rejection_of(message: Message) -> Rejection:
    """Read a dead letter: its headers tell all that is shown."""
    headers = _headers(message)
    return Rejection(
        written_ms=message.timestamp_ms or 0,
        reason=headers.get("reason") or "unknown",
        detail=headers.get("detail", ""),
        field=headers.get("field", ""),
        survey=headers.get("survey", ""),
        alert_id=headers.get("alert_id", ""),
        source=_source(headers),
        output=_place(message),
        size_bytes=len(message.value),
    )


def _headers(message: Message) -> dict[str, str]:
    return {name: _cut((value or b"")[:1000].decode("utf-8", "replace")) for name, value in message.headers}


def _source(headers: Mapping[str, str]) -> str:
    return "/".join(headers.get(f"source_{part}", "?") for part in ("topic", "partition", "offset"))


def _place(message: Message) -> str:
    return f"{message.partition.topic}/{message.partition.number}/{message.offset}"


def _truth(text: str) -> dict[str, Any]:
    """Read the header that simulated alerts carry."""
    try:
        truth = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(truth, dict):
        return {}
    return {
        name: truth[name] for name in ("real", "kind", "cause") if isinstance(truth.get(name), bool | str)
    }


def _unit(vector: list[float]) -> NDArray[np.float32]:
    """Scale to unit length; what cannot be is as good as absent."""
    array = np.asarray(vector[:_MOST_DIMENSIONS], np.float32)
    length = float(np.linalg.norm(array)) if array.size else 0.0
    return array / np.float32(length) if length and math.isfinite(length) else np.empty(0, np.float32)


def _shares(told: list[dict[str, Any]]) -> dict[str, float]:
    return {_cut(one["label"]): _finite(one["probability"]) for one in told[:_MOST_CLASSES]}


def _likeliest(shares: Mapping[str, float]) -> str:
    return max(shares, key=lambda label: shares[label], default="")


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise UnreadableError(f"{value} is no score")
    return float(value)


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
