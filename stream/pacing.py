"""Pacing: when each alert of the past is due.

A pace says how long to wait before the next alert is handed out. It never makes up for lost time by rushing: what
is due goes out at once, and how far behind that is can be read from :attr:`behind`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from space2vec.schemas.alert import Alert
from space2vec.schemas.errors import SchemaUnavailable
from space2vec.schemas.reader import PacketReader
from space2vec.schemas.times import DAY_S

BEHIND_S: Final = 5.0
"""Behind by more than this, a pace is said not to be kept."""

_SAVED_S: Final = 1.0
"""How long a share of the processor that was not used can still be had."""

Clock = Callable[[], float]


class Pace(Protocol):
    """When the next alert is due."""

    @property
    def behind(self) -> float:
        """How late the last alert was handed out, in seconds."""

    def wait(self, packet: bytes) -> float:
        """Seconds until this packet is due, 0 when it is; asked again for the same packet until then."""

    def passed(self) -> None:
        """The packet asked for last has been handed out."""


class Unpaced:
    """As fast as possible."""

    behind = 0.0

    def wait(self, packet: bytes) -> float:
        """Nothing to wait for."""
        return 0.0

    def passed(self) -> None:
        """Nothing to note."""


class Rate:
    """So many alerts a second.

    Parameters
    ----------
    per_s : float
        Alerts per second.
    clock : callable
        Monotonic seconds.
    """

    def __init__(self, per_s: float, clock: Clock = time.monotonic) -> None:
        self._per_s, self._clock = per_s, clock
        self._began: float | None = None
        self._count = 0

    @property
    def behind(self) -> float:
        """How far behind the alerts so far are, in seconds."""
        if self._began is None:
            return 0.0
        return max(0.0, self._clock() - self._began - self._count / self._per_s)

    def wait(self, packet: bytes) -> float:
        """Seconds until one more is due."""
        if self._began is None:
            self._began = self._clock()
        return max(0.0, self._began + self._count / self._per_s - self._clock())

    def passed(self) -> None:
        """Count it."""
        self._count += 1


class OwnTimes:
    """The gaps between the alerts' own times, shortened by a factor.

    An alert whose time cannot be read, or that comes after a later one, is due at once.

    Parameters
    ----------
    speed : float
        1 as observed, 10 ten times as fast.
    time_of : callable
        Packet to its mid-exposure, MJD TAI in days; ``None`` where it cannot be read.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self, speed: float, time_of: Callable[[bytes], float | None], clock: Clock = time.monotonic
    ) -> None:
        self._speed, self._time_of, self._clock = speed, time_of, clock
        self._first: tuple[float, float] | None = None  # alert's time in days, and ours in seconds
        self._asked: tuple[bytes, float] | None = None
        self._due = 0.0
        self.behind = 0.0

    def wait(self, packet: bytes) -> float:
        """Seconds until as much time has passed here as did there, by the factor."""
        if self._asked is None or self._asked[0] is not packet:
            self._asked = packet, self._due_at(packet)
        return max(0.0, self._asked[1] - self._clock())

    def passed(self) -> None:
        """Note how late it was."""
        if self._asked is not None:
            self.behind = max(0.0, self._clock() - self._asked[1])
            self._asked = None

    def _due_at(self, packet: bytes) -> float:
        taken = self._time_of(packet)
        if taken is not None:
            if self._first is None:
                self._first = taken, self._clock()
            first, began = self._first
            self._due = max(self._due, began + (taken - first) * DAY_S / self._speed)
        return self._due


class CpuShare:
    """No more of the processor than a share: what a replay may take beside a running service.

    What it left unused, it does not take later: above a second's worth, that is gone.

    Parameters
    ----------
    cores : float
        CPU seconds of this process per second, 0.5 for half a core.
    clock, cpu_clock : callable
        Monotonic seconds, and CPU seconds of this process.
    """

    behind = 0.0

    def __init__(
        self, cores: float, clock: Clock = time.monotonic, cpu_clock: Clock = time.process_time
    ) -> None:
        self._cores, self._clock, self._cpu_clock = cores, clock, cpu_clock
        self._used = cpu_clock()
        self._paid_until = clock()  # moment at which the share comes to what was used

    def wait(self, packet: bytes) -> float:
        """Seconds until what was used is within the share."""
        now, used = self._clock(), self._cpu_clock()
        self._paid_until = max(self._paid_until, now - _SAVED_S) + (used - self._used) / self._cores
        self._used = used
        return max(0.0, self._paid_until - now)

    def passed(self) -> None:
        """Nothing to note: the clocks tell."""


@dataclass(frozen=True, slots=True)
class Pacing:
    """How a replay is paced, as the user asks for it; all empty: as fast as possible.

    Attributes
    ----------
    rate : float or None
        Alerts per second.
    speed : float or None
        By the alerts' own times, so many times as fast.
    cores : float or None
        Processor to be used at most.
    """

    rate: float | None = None
    speed: float | None = None
    cores: float | None = None

    def pace(self, reader: PacketReader) -> Pace:
        """Make the pace; where it goes by the alerts' times, ``reader`` finds them."""
        if self.rate is not None:
            return Rate(self.rate)
        if self.speed is not None:
            return OwnTimes(self.speed, lambda packet: _time_of(reader, packet))
        if self.cores is not None:
            return CpuShare(self.cores)
        return Unpaced()


def _time_of(reader: PacketReader, packet: bytes) -> float | None:
    try:
        first = next(iter(reader.read(packet)), None)
    except SchemaUnavailable:
        return None
    return first.mjd_tai if isinstance(first, Alert) else None
