"""The newest annotated alerts, bounded in number and bytes; picking among them, and finding like ones."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final

import numpy as np

from space2vec.stream.dashboard.entries import Entry

NO_FLAG: Final = "-"
ANY_FLAG: Final = "*"
_ORDERS: Final[Mapping[str, Callable[[Entry], float]]] = {
    "best": lambda entry: -entry.logit,
    "worst": lambda entry: entry.logit,
}

Numbered = tuple[int, Entry]


class Ring:
    """The newest alerts, each under a number that rises as they come.

    Parameters
    ----------
    most : int
        Alerts to hold.
    most_bytes : int
        Memory to hold them in.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._held: deque[Entry] = deque()
        self._first = 0
        self._bytes = 0
        self._lock = Lock()

    @property
    def size_bytes(self) -> int:
        """Memory that the alerts take."""
        return self._bytes

    def add(self, entry: Entry) -> None:
        """Take one in; the oldest make way."""
        with self._lock:
            self._held.append(entry)
            self._bytes += entry.size_bytes
            while len(self._held) > self._most or self._bytes > self._most_bytes:
                self._bytes -= self._held.popleft().size_bytes
                self._first += 1

    def newest(self) -> list[Numbered]:
        """All that are held, the newest first."""
        with self._lock:
            last = self._first + len(self._held) - 1
            return [(last - i, entry) for i, entry in enumerate(reversed(self._held))]

    def get(self, number: int) -> Entry | None:
        """One of them; ``None`` if it has made way, or never was."""
        with self._lock:
            place = number - self._first
            return self._held[place] if 0 <= place < len(self._held) else None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which alerts to show, and in which order.

    Attributes
    ----------
    label, survey : str
        The likeliest class, or kind or cause; the survey; empty: any.
    flag : str
        A flag, :data:`NO_FLAG`, :data:`ANY_FLAG`; empty: does not matter.
    low, high : float
        Bounds of the score, both included.
    text : str
        Part of the object's or alert's id, in lower case.
    order : str
        ``newest``, ``best`` or ``worst``.
    """

    label: str = ""
    survey: str = ""
    flag: str = ""
    low: float = 0.0
    high: float = 1.0
    text: str = ""
    order: str = "newest"

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Wanted:
        """Read the page's wish.

        Raises
        ------
        ValueError
            If a bound is no number, or there is no such order.
        """
        low, high = (float(query.get(name) or default) for name, default in (("low", 0), ("high", 1)))
        order = query.get("order") or "newest"
        if math.isnan(low) or math.isnan(high):
            raise ValueError("a score's bound is no number")
        if order != "newest" and order not in _ORDERS:
            raise ValueError(f"no such order: newest, {', '.join(_ORDERS)}")
        label, survey, flag, text = (query.get(name, "") for name in ("class", "survey", "flag", "text"))
        return cls(label, survey, flag, low, high, text.strip().lower(), order)

    def __call__(self, entry: Entry) -> bool:
        """Tell whether to show an alert."""
        return (
            self.low <= entry.score <= self.high
            and self.label in ("", entry.label, entry.kind)
            and self.survey in ("", entry.survey)
            and self._flagged(entry)
            and (not self.text or self.text in f"{entry.object_id or ''} {entry.alert_id}".lower())
        )

    def pick(self, newest: Sequence[Numbered]) -> list[Numbered]:
        """Those to show, in order; alerts that the order puts level stay with the newest first."""
        picked = [(number, entry) for number, entry in newest if self(entry)]
        if self.order in _ORDERS:
            rank = _ORDERS[self.order]
            picked.sort(key=lambda numbered: rank(numbered[1]))
        return picked

    def _flagged(self, entry: Entry) -> bool:
        match self.flag:
            case "":
                return True
            case "-":
                return not entry.flags
            case "*":
                return bool(entry.flags)
            case flag:
                return flag in entry.flags


def neighbours(entry: Entry, among: Sequence[Numbered], most: int) -> list[tuple[float, int, Entry]]:
    """The alerts whose embeddings point most nearly where this one's does.

    Parameters
    ----------
    entry : Entry
        The alert; it is not its own neighbour.
    among : sequence of (number, Entry)
        Those with an embedding of the same manifest are compared.
    most : int
        How many to give.

    Returns
    -------
    list of (similarity, number, Entry)
        Cosine similarity, -1 to 1, the highest first.
    """
    others = [
        (number, other)
        for number, other in among
        if other is not entry
        and other.sha256 == entry.sha256
        and other.embedding.size == entry.embedding.size
    ]
    if not others or not entry.embedding.size:
        return []
    similarity = np.stack([other.embedding for _, other in others]) @ entry.embedding
    nearest = np.argsort(-similarity, kind="stable")[:most]
    return [(float(similarity[i]), *others[i]) for i in nearest]
