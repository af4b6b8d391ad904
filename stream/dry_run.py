"""A sink that keeps nothing: ``--dry-run`` scores, but neither produces nor commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from space2vec.stream.protocols import OutputRecord, Partition


class DrySink:
    """Takes everything and does nothing."""

    def write(self, records: Sequence[OutputRecord]) -> None:
        """Drop the records."""

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Commit nothing."""

    def abort(self) -> None:
        """Nothing to undo."""

    def close(self) -> None:
        """Nothing to release."""
