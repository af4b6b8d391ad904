"""Scoring alert by alert a batch that fails as a whole, so that one bad alert takes none with it."""

from __future__ import annotations

import numpy as np

from space2vec.schemas.errors import PacketError, Reason
from space2vec.stream.batch import Batch
from space2vec.stream.protocols import Scorer, ScoringFailed
from space2vec.workers.scores import Scores


def score_singly(scorer: Scorer, batch: Batch) -> Scores:
    """Score every row of a batch by itself; an alert that fails alone gets the error as its outcome.

    Returns
    -------
    Scores
        Of all rows, NaN where there is none.
    """
    rows = {o.row: o for of_message in batch.outcomes for o in of_message if o.row is not None}
    parts: dict[int, Scores] = {}
    for row, outcome in rows.items():
        ticket = scorer.submit(batch.stamps[row : row + 1])
        try:
            scores = None
            while scores is None:
                scores = scorer.wait(ticket, 1.0)
            parts[row] = scores
        except ScoringFailed as error:
            outcome.error = PacketError(Reason.SCORING_FAILED, str(error))
    dimensions = max((part.embedding.shape[1] for part in parts.values()), default=0)
    joined = Scores(
        np.full(len(batch.stamps), np.nan, np.float32),
        np.full((len(batch.stamps), dimensions), np.nan, np.float32),
    )
    for row, part in parts.items():
        joined.logit[row] = part.logit[0]
        joined.embedding[row] = part.embedding[0]
    return joined
