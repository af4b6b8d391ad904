"""Everything the page shows, as it stands: filled by the feed, read by the server, bounded throughout."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from space2vec.stream.dashboard.entries import Rejection
from space2vec.stream.dashboard.ring import Ring
from space2vec.stream.lag import Lag

SPAN_S: Final = 600
"""How far back the charts go."""
STEP_S: Final = 5
BINS: Final = SPAN_S // STEP_S
REJECTIONS: Final = 500
_COUNTS: Final = ("scored", "degraded", "rejected")


class Rates:
    """Alerts answered per interval, by the ledger.

    Parameters
    ----------
    clock : callable
        Seconds since 1970; another one in tests.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._bins: dict[int, list[int]] = {}

    def add(self, line: Mapping[str, Any]) -> None:
        """Count a line of the ledger.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is none.
        """
        rejected = sum(int(count) for count in line["rejected"].values())
        counts = (int(line["scored"]), int(line["degraded"]), rejected)
        now = self._clock()
        at = datetime.fromisoformat(line["at"]).timestamp()
        if not now - SPAN_S < at < now + SPAN_S:
            return
        bin_ = self._bins.setdefault(int(at // STEP_S), [0] * len(_COUNTS))
        for i, count in enumerate(counts):
            bin_[i] += count
        for old in [key for key in self._bins if key <= int(now // STEP_S) - BINS]:
            del self._bins[old]

    def series(self) -> list[float]:
        """Alerts per second in each interval of the span, the oldest first; the one under way is left out."""
        last = int(self._clock() // STEP_S)
        return [sum(self._bins.get(key, ())) / STEP_S for key in range(last - BINS, last)]

    def totals(self) -> dict[str, int]:
        """How the alerts of the span were answered."""
        first = int(self._clock() // STEP_S) - BINS
        bins = [counts for key, counts in list(self._bins.items()) if key >= first]
        return {name: sum(counts[i] for counts in bins) for i, name in enumerate(_COUNTS)}


class Store:
    """The page's state.

    Parameters
    ----------
    keep : int
        Alerts to hold.
    keep_bytes : int
        Memory to hold them in.
    where : str
        Which stream this is, for the head of the page.

    Attributes
    ----------
    run : str
        Another one after each start, so that a page left open notices.
    complaint : str
        Why nothing can be read now; empty: all is well.
    unreadable, skipped : int
        Messages that could not be read, and alerts passed over to keep up.
    """

    def __init__(self, keep: int, keep_bytes: int, where: str = "") -> None:
        self.run = secrets.token_hex(4)
        self.where = where
        self.ring = Ring(keep, keep_bytes)
        self.rejections: deque[Rejection] = deque(maxlen=REJECTIONS)
        self.rates = Rates()
        self.lags: deque[tuple[float, Lag]] = deque(maxlen=BINS)
        self.complaint = ""
        self.unreadable = 0
        self.skipped = 0
