"""A histogram as Prometheus has it, of plain numbers: cheap to fill, to send between processes and to add."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field


@dataclass(slots=True)
class Histogram:
    """Counts of values by upper bounds.

    Attributes
    ----------
    bounds : tuple of float
        Upper bounds, rising, each included in its bucket; above the last there is one more bucket.
    buckets : list of int
        Values per bucket (not cumulative), ``len(bounds) + 1`` of them.
    total : float
        Sum of the values.
    """

    bounds: tuple[float, ...]
    buckets: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        if not self.buckets:
            self.buckets = [0] * (len(self.bounds) + 1)

    @property
    def count(self) -> int:
        """How many values."""
        return sum(self.buckets)

    def observe(self, value: float) -> None:
        """Count one value."""
        self.buckets[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add(self, other: Histogram) -> None:
        """Add another's counts to these.

        Raises
        ------
        ValueError
            If it has other bounds.
        """
        if other.bounds != self.bounds:
            raise ValueError("histograms of different bounds cannot be added")
        self.buckets = [mine + theirs for mine, theirs in zip(self.buckets, other.buckets, strict=True)]
        self.total += other.total
