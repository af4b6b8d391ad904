"""Waiting for something to hold; also for tests that run their own file as another process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping


def holds(what: Callable[[], bool], within_s: float, child: subprocess.Popen[bytes] | None = None) -> bool:
    """Whether it came to hold within so many seconds, and before the child ended."""
    deadline = time.monotonic() + within_s
    while not what():
        if time.monotonic() > deadline or (child is not None and child.poll() is not None):
            return False
        time.sleep(0.1)
    return True


def with_our_path() -> Mapping[str, str]:
    """The environment of a process that imports what the tests import."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
