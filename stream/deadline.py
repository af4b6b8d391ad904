"""One budget of time, shared by every step of a drain, so that their sum is bounded."""

from __future__ import annotations

import time


class Deadline:
    """A point in monotonic time.

    Parameters
    ----------
    seconds : float
        From now.
    """

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._at - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether it has passed."""
        return self.left == 0.0
