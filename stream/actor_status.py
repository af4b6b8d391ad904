"""Asking actors how they are, again and again, without ever waiting for one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


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
