"""How a run stands: what the log, the metrics and the command line tell of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from space2vec.stream.counts import Counts
from space2vec.stream.measures import Load, Measures

if TYPE_CHECKING:
    from space2vec.workers.bundle import Bundle
    from space2vec.workers.classifier import ClassifierStatus


@dataclass(frozen=True, slots=True)
class Summary:
    """How the run stands, or ended.

    ``unanswered`` counts messages that a drain had to leave; they are not committed, so whoever
    comes next answers them. ``restarts`` counts stream workers that had to be replaced,
    ``classifier_restarts`` classifiers. ``loads`` and ``classifiers`` have an entry per actor, ``None`` while it
    does not serve. ``bundles`` are those that serve, each with whether it is a shadow.
    """

    counts: Counts
    unanswered: int = 0
    restarts: int = 0
    seconds: float = 0.0
    measures: Measures = field(default_factory=Measures)
    loads: tuple[Load | None, ...] = ()
    classifiers: tuple[ClassifierStatus | None, ...] = ()
    classifier_restarts: int = 0
    bundles: tuple[tuple[Bundle, bool], ...] = ()
