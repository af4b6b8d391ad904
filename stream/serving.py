"""The models that serve while the stream runs: handed to the workers, replaced without a stop, ended when unused."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import structlog

from space2vec.schemas.settings import Settings
from space2vec.stream.actor_status import StatusCalls
from space2vec.stream.lineup import Served, start_lineup
from space2vec.stream.worker_seat import Seat

log = structlog.get_logger()


class Serving:
    """The line-up of models, and the changes of it that are under way.

    Parameters
    ----------
    settings : Settings
        ``model`` and ``ray`` say what serves first.

    Raises
    ------
    ModelError
        If a bundle is wrong or cannot be served.
    """

    def __init__(self, settings: Settings) -> None:
        self.lineup = start_lineup(settings)
        """What looks at the next batch."""
        self.status = StatusCalls(_classifiers(self.lineup))
        self._asked = settings
        self._retired: list[Served] = []
        self._surplus: list[tuple[Any, Any]] = []  # classifiers to end, and the calls that say when
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="lineup")
        self._starting: Future[list[Served]] | None = None

    @property
    def count(self) -> int:
        """Classifiers of each model."""
        return len(self.lineup[0].classifiers)

    @property
    def roles(self) -> tuple[tuple[str, bool, int], ...]:
        """Each model's digest, whether it is a shadow, and by how many it is served."""
        return tuple(served.role for served in self.lineup)

    @property
    def changing(self) -> bool:
        """Whether classifiers are coming or going."""
        return self._starting is not None or bool(self._surplus)

    @property
    def starting(self) -> bool:
        """Whether classifiers are coming."""
        return self._starting is not None

    def start(self, count: int, asked: Settings | None = None) -> None:
        """Begin to start so many classifiers of each model that is asked for, aside, while those before serve."""
        asked = asked or self._asked
        ray = asked.ray.model_copy(update={"classifiers": count})
        self._asked = asked.model_copy(update={"ray": ray})
        self._starting = self._starter.submit(start_lineup, self._asked, [*self.lineup, *self._retired])

    def look(self, seats: Sequence[Seat]) -> None:
        """Take over what has been started, hand it to the workers, and end what nobody uses any more."""
        if self._starting is not None and self._starting.done():
            self._take_over(self._starting)
            self._starting = None
        for seat in seats:
            if seat.models != self.roles:
                seat.worker.serve.remote(self.lineup)
        ready = all(seat.models == self.roles and seat.in_use is not None for seat in seats)
        if ready and self._starting is None:
            in_use = frozenset().union(*(seat.in_use or () for seat in seats))
            _end([served for served in self._retired if served.bundle.sha256 not in in_use])
            self._retired = [served for served in self._retired if served.bundle.sha256 in in_use]
            self._end_surplus()

    def end(self) -> None:
        """End every classifier."""
        import ray

        _end([*self.lineup, *self._retired])
        for classifier, _ in self._surplus:
            ray.kill(classifier)
        self._starter.shutdown(wait=False, cancel_futures=True)

    def _take_over(self, started: Future[list[Served]]) -> None:
        try:
            lineup = started.result()
            self.status.follow(_classifiers(lineup))
        except Exception as error:  # noqa: BLE001 - whatever it was, those that serve go on
            log.error("models not changed; those before go on", detail=str(error))
            return
        stay = {served.bundle.sha256 for served in lineup}
        former = [*self.lineup, *self._retired]
        self._retired = [served for served in former if served.bundle.sha256 not in stay]
        kept = set(_classifiers([*lineup, *self._retired]))
        self._surplus = [(c, None) for c in _classifiers(former) if c not in kept]
        self.lineup = lineup
        log.info("models changed", sha256=[served.bundle.sha256 for served in lineup])

    def _end_surplus(self) -> None:
        """End classifiers that no worker sends to any more, once they have answered what they have."""
        import ray

        self._surplus = [(c, call or c.drained.remote()) for c, call in self._surplus]
        for classifier, call in list(self._surplus):
            if ray.wait([call], timeout=0)[0]:
                ray.kill(classifier)
                self._surplus.remove((classifier, call))


def _classifiers(lineup: Sequence[Served]) -> list[Any]:
    return [classifier for served in lineup for classifier in served.classifiers]


def _end(lineup: Sequence[Served]) -> None:
    import ray

    for classifier in _classifiers(lineup):
        ray.kill(classifier)
