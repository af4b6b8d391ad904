"""How far an archive's replay is, and where a replay goes: what every destination has to say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from space2vec.schemas.settings import Settings
from space2vec.stream.counts import Counts
from space2vec.stream.ledger import Ledger
from space2vec.stream.protocols import Sink
from space2vec.stream.replay_archives import Archive
from space2vec.stream.replay_source import ArchiveSource


@dataclass(slots=True)
class Standing:
    """How far the replay of one archive is, as the destination itself says.

    Attributes
    ----------
    run : str
        Names the replay of this archive by this model; a run that is stopped and begun again keeps its name.
    next : int
        Number of the first packet that is not answered.
    size : int
        Of the archive when it was begun; 0 if it was not.
    done : bool
        Whether the archive is answered to its end.
    counts : Counts
        Of the packets before ``next``.
    faults : list of str
        What of the archive could not be read; known when it is done.
    """

    run: str
    next: int = 0
    size: int = 0
    done: bool = False
    counts: Counts = field(default_factory=Counts)
    faults: list[str] = field(default_factory=list)


class Destination(Protocol):
    """Where the answers of a replay go."""

    settings: Settings
    """Those of the pipeline, with this destination's topics."""

    def standing(self, archive: Archive) -> Standing:
        """How far this archive is."""

    def begin_again(self, archive: Archive) -> None:
        """Let an archive that is done be replayed once more."""

    def open(self, source: ArchiveSource) -> tuple[Sink, Ledger]:
        """Have what the pipeline writes to; from then on nobody else writes this archive's answers."""


def counted(line: Mapping[str, object]) -> Counts:
    """Counts as a ledger line or a manifest tells them."""
    known = {name: line[name] for name in ("messages", "empty", "scored", "degraded") if name in line}
    counts = Counts(**known)  # type: ignore[arg-type]
    rejected = line.get("rejected", {})
    assert isinstance(rejected, dict)
    counts.reasons.update(rejected)
    counts.rejected = sum(rejected.values())
    return counts
