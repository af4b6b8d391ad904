"""The models of a stream worker, and what each of them sees of a batch and says of it.

Every alert is decoded once, prepared once per distinct input, and scored by every model. Which models there are
may change between two batches, never within one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from space2vec.schemas.alert import Alert
from space2vec.schemas.errors import PacketError
from space2vec.stream.isolate import score_singly
from space2vec.stream.protocols import Scorer, ScoringFailed, Ticket
from space2vec.workers.bundle import Bundle
from space2vec.workers.manifest import InputSpec
from space2vec.workers.preprocess import Preprocessor
from space2vec.workers.quality import Flag
from space2vec.workers.scores import Scores


@dataclass(eq=False, slots=True)
class Model:
    """A bundle and what scores by it; of a shadow nothing is published.

    ``late`` is a look of a shadow that was no longer waited for; until it is done, the shadow is left out.
    """

    bundle: Bundle
    scorer: Scorer
    shadow: bool = False
    late: Look | None = None

    @property
    def label(self) -> tuple[str, str]:
        """Name and version of the classifier, and the class that its scores are of."""
        manifest = self.bundle.manifest
        return f"{manifest.name} {manifest.version}", manifest.classes[0]


@dataclass(slots=True)
class Look:
    """One model's look at the alerts of a batch, which are known by their number in it.

    Attributes
    ----------
    model : Model
        Who looks.
    stamps : (N, P, S, S) float32
        What it sees.
    rows : dict of int to int
        Row of each alert that it can score.
    flags : list of tuple of Flag
        Per row.
    errors : dict of int to PacketError
        Why it has no score of each of the other alerts.
    scores : Scores or None
        What it says; ``None`` before :meth:`done`, and where it saw nothing.
    probability : (N,) float64
        The same as probabilities.
    """

    model: Model
    stamps: NDArray[np.float32] = field(repr=False)
    rows: dict[int, int]
    flags: list[tuple[Flag, ...]]
    errors: dict[int, PacketError]
    scores: Scores | None = None
    probability: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), repr=False)
    _ticket: Ticket | None = None

    def submit(self) -> None:
        """Begin to score."""
        if self.model.late is not None and self.model.late.done(0.0):
            self.model.late = None
        if self.model.late is not None:
            self.leave()
        elif len(self.stamps):
            self._ticket = self.model.scorer.submit(self.stamps)

    def done(self, timeout: float) -> bool:
        """Whether the scores are there, waiting at most ``timeout`` seconds.

        Alerts that spoil a batch are left out, where it is a shadow's with all others in it.
        """
        if self._ticket is None:
            return True
        try:
            self.scores = self.model.scorer.wait(self._ticket, timeout)
            if self.scores is None:
                return False
        except ScoringFailed:
            if self.model.shadow:
                self.leave()
                return True
            self.scores, failed = score_singly(self.model.scorer, self.stamps)
            self._leave_out(failed)
        if self.scores is not None:
            self.probability = self.scores.probability
        self._ticket = None
        return True

    def leave(self) -> None:
        """Wait no longer: there are no scores."""
        self._ticket, self.rows = None, {}

    def _leave_out(self, failed: Mapping[int, PacketError]) -> None:
        self.errors |= {number: failed[row] for number, row in self.rows.items() if row in failed}
        kept = [number for number, row in self.rows.items() if row not in failed]
        left = [self.rows[number] for number in kept]
        self.rows = {number: row for row, number in enumerate(kept)}
        self.flags, self.stamps = [self.flags[row] for row in left], self.stamps[left]


def looks(
    models: Sequence[Model], alerts: Sequence[Alert], preprocessor: Callable[[InputSpec], Preprocessor]
) -> list[Look]:
    """Prepare alerts for every model, once per distinct input."""
    inputs = {model.bundle.manifest.input for model in models}
    prepared = {spec: preprocessor(spec).prepare(alerts) for spec in inputs}
    return [
        Look(
            model,
            ready.stamps,
            {number: row for row, number in enumerate(ready.rows)},
            ready.flags,
            {**ready.rejects},
        )
        for model in models
        for ready in [prepared[model.bundle.manifest.input]]
    ]
