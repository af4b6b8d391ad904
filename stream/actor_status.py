"""Asking actors how they are, again and again, without ever waiting for one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_FIRST_S = 10.0


class StatusCalls:
    """One status call under way per actor; whoever does not answer leaves its last answer standing.

    Parameters
    ----------
    actors : sequence of actor handles
        With a ``status`` method whose answer has a ``pid``.
    """

    def __init__(self, actors: Sequence[Any]) -> None:
        self._actors = list(actors)
        self._calls: list[Any] = [None] * len(self._actors)
        self._pids: list[int | None] = [None] * len(self._actors)
        self.latest: list[Any] = [None] * len(self._actors)
        """Per actor its last answer; ``None`` before the first one and while it is dead."""
        self.restarts = 0
        """How often an actor came back as another process."""

    def follow(self, actors: Sequence[Any]) -> None:
        """Ask these from now on; of those that are new, the first answer is waited for."""
        import ray

        known = {actor: i for i, actor in enumerate(self._actors)}
        new = [actor for actor in actors if actor not in known]
        told = dict(
            zip(new, ray.get([actor.status.remote() for actor in new], timeout=_FIRST_S), strict=True)
        )
        places = [known.get(actor) for actor in actors]
        self._calls = [None if i is None else self._calls[i] for i in places]
        self._pids = [None if i is None else self._pids[i] for i in places]
        self.latest = [
            told.get(actor) if i is None else self.latest[i] for actor, i in zip(actors, places, strict=True)
        ]
        self._actors = list(actors)

    def look(self) -> None:
        """Take the answers that are there, and ask again."""
        import ray
        from ray.exceptions import RayError

        for i, call in enumerate(self._calls):
            if call is not None:
                done, _ = ray.wait([call], timeout=0)
                if not done:
                    continue
                try:
                    self._note(i, ray.get(call))
                except RayError:
                    self.latest[i] = None
            self._calls[i] = self._actors[i].status.remote()

    def _note(self, i: int, status: Any) -> None:
        if self._pids[i] not in (None, status.pid):
            self.restarts += 1
        self._pids[i] = status.pid
        self.latest[i] = status
