"""Giving way to other processes: what works off the past lets what serves the present go first."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def give_way(nice: int) -> None:
    """Lower this process's priority, all its threads with it, as nice(1) does; never raise it again.

    Parameters
    ----------
    nice : int
        Niceness that every thread shall have at least, 0 to 19.
    """
    for thread in Path("/proc/self/task").iterdir() if nice else ():
        with suppress(ProcessLookupError):  # it has just ended
            now = os.getpriority(os.PRIO_PROCESS, int(thread.name))
            os.setpriority(os.PRIO_PROCESS, int(thread.name), max(nice, now))
