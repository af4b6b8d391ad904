"""A scorer in this process: for jobs where one process is all there is."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet

import numpy as np
from numpy.typing import NDArray

from space2vec.stream.protocols import ScoringFailed
from space2vec.workers.backends import Backend
from space2vec.workers.scores import Scores


class LocalScorer:
    """Scores on a thread of its own, so that packets are opened meanwhile.

    Parameters
    ----------
    backend : Backend
        From :func:`space2vec.workers.backends.open_backend`.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scorer")

    def submit(self, stamps: NDArray[np.float32]) -> Future[Scores]:
        """Begin to score ``(N, 3, S, S)`` float32 stamps."""
        return self._thread.submit(self._backend.score, stamps)

    def wait(self, ticket: object, timeout: float) -> Scores | None:
        """The scores, or ``None`` if they are not there within ``timeout`` seconds."""
        assert isinstance(ticket, Future)
        try:
            scores: Scores = ticket.result(timeout)
        except NotYet:
            return None
        except Exception as error:
            raise ScoringFailed(str(error)) from error
        return scores
