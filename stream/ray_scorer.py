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
# With stamps, until all classifiers are asked whether they are there; and then, until another one gets them. A machine
# that falls silent (no power, no network) is Ray's to notice, which takes it half a minute to a minute.
_SILENCE_S = 3.0


@dataclass(slots=True)
class RayTicket:
    """Stamps under way; kept until they are scored, since the classifier that has them may die."""

    stamps: NDArray[np.float32] = field(repr=False)
    calls: dict[ray.ObjectRef, int] = field(default_factory=dict)
    """Which classifiers have them, the latest last: more than one after a silence."""
    sent: float = 0.0
    deaths: int = 0


@dataclass(slots=True)
class _Probe:
    """The question to a classifier whether it is ready, which any that lives answers at once, at work or not."""

    call: ray.ObjectRef
    asked: float
    trusted: bool
    """Whether it is used meanwhile."""
    missed: bool = False
    """Whether it died or fell silent, rather than being asked because another did."""


class RayScorer:
    """Sends batches to classifiers by turn, and again to another one where a classifier dies.

    After a death none is used until it has answered that it is ready: a node that is lost takes several at
    once. So a death is held against the stamps it happened with, and stamps that kill three healthy classifiers
    are given up (:class:`ScoringFailed`), while an outage of the classifiers is waited out.
    What is with one that neither scores nor answers goes to another one too: whichever scores first will do.

    Parameters
    ----------
    classifiers : sequence of actor handles
        Of :class:`space2vec.workers.classifier.Classifier`.
    """

    def __init__(self, classifiers: Sequence[Any]) -> None:
        self._classifiers = list(classifiers)
        self._turns = cycle(range(len(self._classifiers)))
        self._probes: dict[int, _Probe] = {}
        self._probed = 0.0

    def submit(self, stamps: NDArray[np.float32]) -> RayTicket:
        """Begin to score ``(N, 3, S, S)`` float32 stamps."""
        ticket = RayTicket(stamps)
        self._send(ticket)
        return ticket

    def wait(self, ticket: object, timeout: float) -> Scores | None:
        """The scores, or ``None`` if they are not there within ``timeout`` seconds."""
        assert isinstance(ticket, RayTicket)
        self._look_at_probes()
        if not ticket.calls:
            self._send(ticket)
        if not ticket.calls:
            time.sleep(timeout)
            return None
        done, _ = ray.wait(list(ticket.calls), timeout=timeout)
        if not done:
            self._look_for_silence(ticket)
            return None
        try:
            scores: Scores = ray.get(done[0])
        except RayTaskError as error:
            raise ScoringFailed(str(error.cause)) from error
        except RayError as error:
            self._on_death(ticket, ticket.calls.pop(done[0]), error)
            return None
        return scores

    def _send(self, ticket: RayTicket) -> None:
        """Give stamps to a classifier that does not have them, where one can be used."""
        for _ in self._classifiers:
            turn = next(self._turns)
            probe = self._probes.get(turn)
            if (probe is None or probe.trusted) and turn not in ticket.calls.values():
                ticket.calls[self._classifiers[turn].score.remote(ticket.stamps)] = turn
                ticket.sent = time.monotonic()
                return

    def _on_death(self, ticket: RayTicket, classifier: int, error: RayError) -> None:
        log.warning("classifier died", classifier=classifier, error=type(error).__name__)
        ticket.deaths += 1
        self._probe_all(trusting=False)
        self._probes[classifier].missed = True
        # Those that are silent too may well be lost with it: one death, not theirs besides.
        ticket.calls = {call: at for call, at in ticket.calls.items() if not self._probes[at].missed}
        if ticket.deaths >= _MOST_DEATHS:
            raise ScoringFailed(f"{ticket.deaths} healthy classifiers died with it") from error

    def _look_for_silence(self, ticket: RayTicket) -> None:
        """Where stamps take long, ask the classifiers whether they are there; if theirs does not say, try another."""
        now = time.monotonic()
        classifier = list(ticket.calls.values())[-1]
        probe = self._probes.get(classifier)
        if probe is None:
            if now - ticket.sent > _SILENCE_S:
                self._probe_all(trusting=True)
        elif now - max(probe.asked, ticket.sent) > _SILENCE_S:
            self._distrust_the_silent(now)
            self._send(ticket)

    def _distrust_the_silent(self, now: float) -> None:
        """Use none that has not answered for long: those of one machine fall silent together."""
        for classifier, probe in self._probes.items():
            if now - probe.asked > _SILENCE_S:
                if probe.trusted:
                    log.warning("classifier is silent", classifier=classifier)
                probe.trusted, probe.missed = False, True

    def _probe_all(self, *, trusting: bool) -> None:
        for classifier in range(len(self._classifiers)):
            if classifier not in self._probes:
                self._probe(classifier, trusting)
            self._probes[classifier].trusted &= trusting

    def _probe(self, classifier: int, trusting: bool, missed: bool = False) -> None:
        call = self._classifiers[classifier].ready.remote()
        self._probes[classifier] = _Probe(call, time.monotonic(), trusting, missed)

    def _look_at_probes(self) -> None:
        if not self._probes or time.monotonic() - self._probed < _PROBE_S:
            return
        self._probed = time.monotonic()
        for classifier, probe in list(self._probes.items()):
            done, _ = ray.wait([probe.call], timeout=0)
            if not done:
                continue
            try:
                ray.get(probe.call)
            except RayError:
                self._probe(classifier, trusting=False, missed=True)
                continue
            del self._probes[classifier]
            if probe.missed:
                log.info("classifier is back", classifier=classifier)
