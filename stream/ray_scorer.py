"""The scorer in production: Ray classifier actors, any of which may die at any time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import numpy as np
import ray
import structlog
from numpy.typing import NDArray
from ray.exceptions import RayError, RayTaskError

from space2vec.stream.protocols import ScoringFailed
from space2vec.workers.scores import Scores

log = structlog.get_logger()

_MOST_DEATHS = 3  # of classifiers known to be healthy, while they held the same stamps
_PROBE_S = 0.5  # between two looks whether a classifier is back


@dataclass(slots=True)
class RayTicket:
    """Stamps under way; kept until they are scored, since the classifier that has them may die."""

    stamps: NDArray[np.float32] = field(repr=False)
    classifier: int | None = None
    call: ray.ObjectRef | None = None
    deaths: int = 0


class RayScorer:
    """Sends batches to classifiers by turn, and again to another one where a classifier dies.

    After a death none is used until it has answered that it is ready: a node that is lost takes several at
    once. So a death is held against the stamps it happened with, and stamps that kill three healthy classifiers
    are given up (:class:`ScoringFailed`), while an outage of the classifiers is waited out.

    Parameters
    ----------
    classifiers : sequence of actor handles
        Of :class:`space2vec.workers.classifier.Classifier`.
    """

    def __init__(self, classifiers: Sequence[Any]) -> None:
        self._classifiers = list(classifiers)
        self._turns = cycle(range(len(self._classifiers)))
        self._probes: dict[int, ray.ObjectRef] = {}
        self._dead: set[int] = set()
        self._probed = 0.0

    def submit(self, stamps: NDArray[np.float32]) -> RayTicket:
        """Begin to score ``(N, 3, S, S)`` float32 stamps."""
        ticket = RayTicket(stamps)
        self._send(ticket)
        return ticket

    def wait(self, ticket: object, timeout: float) -> Scores | None:
        """The scores, or ``None`` if they are not there within ``timeout`` seconds."""
        assert isinstance(ticket, RayTicket)
        self._look_after_the_dead()
        if ticket.call is None:
            self._send(ticket)
        if ticket.call is None:
            time.sleep(timeout)
            return None
        done, _ = ray.wait([ticket.call], timeout=timeout)
        if not done:
            return None
        try:
            scores: Scores = ray.get(ticket.call)
        except RayTaskError as error:
            raise ScoringFailed(str(error.cause)) from error
        except RayError as error:
            self._on_death(ticket, error)
            return None
        return scores

    def _send(self, ticket: RayTicket) -> None:
        for _ in self._classifiers:
            turn = next(self._turns)
            if turn not in self._probes:
                ticket.classifier = turn
                ticket.call = self._classifiers[turn].score.remote(ticket.stamps)
                return

    def _on_death(self, ticket: RayTicket, error: RayError) -> None:
        assert ticket.classifier is not None
        log.warning("classifier died", classifier=ticket.classifier, error=type(error).__name__)
        ticket.deaths += 1
        ticket.call = None
        self._dead.add(ticket.classifier)
        for classifier in range(len(self._classifiers)):
            if classifier not in self._probes:
                self._probe(classifier)
        if ticket.deaths >= _MOST_DEATHS:
            raise ScoringFailed(f"{ticket.deaths} healthy classifiers died with it") from error

    def _probe(self, classifier: int) -> None:
        self._probes[classifier] = self._classifiers[classifier].ready.remote()

    def _look_after_the_dead(self) -> None:
        if not self._probes or time.monotonic() - self._probed < _PROBE_S:
            return
        self._probed = time.monotonic()
        for classifier, probe in list(self._probes.items()):
            done, _ = ray.wait([probe], timeout=0)
            if not done:
                continue
            try:
                ray.get(probe)
            except RayError:
                self._dead.add(classifier)
                self._probe(classifier)
                continue
            del self._probes[classifier]
            if classifier in self._dead:
                self._dead.remove(classifier)
                log.info("classifier is back", classifier=classifier)
