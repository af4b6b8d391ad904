"""Scoring alert by alert a batch that fails as a whole, so that one bad alert takes none with it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from space2vec.schemas.errors import PacketError, Reason
from space2vec.stream.protocols import Scorer, ScoringFailed
from space2vec.workers.scores import Scores, joined


def score_singly(scorer: Scorer, stamps: NDArray[np.float32]) -> tuple[Scores | None, dict[int, PacketError]]:
    """Score every row of a batch by itself.

    Returns
    -------
    scores : Scores or None
        Of the rows that could be scored, in their order; ``None`` where there is no such row.
    errors : dict of int to PacketError
        Rows that fail even alone, and how.
    """
    parts: list[Scores] = []
    errors: dict[int, PacketError] = {}
    for row in range(len(stamps)):
        ticket = scorer.submit(stamps[row : row + 1])
        try:
            scores = None
            while scores is None:
                scores = scorer.wait(ticket, 1.0)
            parts.append(scores)
        except ScoringFailed as error:
            errors[row] = PacketError(Reason.SCORING_FAILED, str(error))
    return joined(parts) if parts else None, errors
