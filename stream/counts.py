"""Counting alerts: what was consumed must equal what was scored, degraded and rejected."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields


@dataclass(slots=True)
class Counts:
    """Alerts of one stream worker, counted when their answers are committed.

    A message holds one alert on every known stream; an Avro container may hold several or none,
    so messages are counted apart.
    """

    messages: int = 0
    empty: int = 0
    """Messages that hold no alert at all (a container without records)."""
    scored: int = 0
    degraded: int = 0
    rejected: int = 0
    duplicates: int = 0
    """Alerts seen before and therefore not answered again (where a window is kept)."""
    annotated: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)

    @property
    def alerts(self) -> int:
        """Alerts consumed."""
        return self.answered + self.duplicates

    @property
    def answered(self) -> int:
        """Alerts with an output."""
        return self.scored + self.degraded + self.rejected

    def add(self, other: Counts) -> None:
        """Add another's counts to these."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.reasons.update(other.reasons)
        self.flags.update(other.flags)


_NUMBERS = [column.name for column in fields(Counts) if column.default == 0]
