"""Programs that a bench runs, to their end or until it kills them, and what each took."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Ended:
    """A process that has ended: what it said, and what it took."""

    said: str
    cpu_s: float
    wall_s: float
    peak_mib: float
    written_mib: float

    def summary(self) -> dict[str, Any]:
        """Give the JSON line that it wrote."""
        return json.loads(self.said.splitlines()[-1])


class Programs:
    """Runs programs one at a time, and tells what each said and took.

    Parameters
    ----------
    folder : Path
        Where what they say is kept meanwhile, and their temporary files.
    """

    def __init__(self, folder: Path) -> None:
        self._out, self._errors = folder / "said", folder / "errors"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self._env = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(self.temporary)}

    def start(self, program: list[str]) -> subprocess.Popen[bytes]:
        """Start one."""
        with self._out.open("wb") as out, self._errors.open("wb") as errors:
            return subprocess.Popen(program, env=self._env, stdout=out, stderr=errors)

    def ended(self, process: subprocess.Popen[bytes]) -> Ended:
        """Wait for the one that was started last."""
        began, peak = time.monotonic(), 0.0
        while not (waited := os.wait4(process.pid, os.WNOHANG))[0]:
            peak = peak_mib(process.pid) or peak
            time.sleep(0.05)
        _, status, used = waited
        process.returncode = os.waitstatus_to_exitcode(status)
        said = self._out.read_text()
        if process.returncode:
            raise RuntimeError(f"{process.args}: {process.returncode}\n{said}{self._errors.read_text()}")
        wall_s = time.monotonic() - began
        return Ended(said, used.ru_utime + used.ru_stime, wall_s, peak, used.ru_oublock / 2048)

    def run(self, *arguments: str) -> Ended:
        """Run ``space2vec`` to its end."""
        return self.ended(self.start([sys.executable, "-m", "space2vec.stream", *arguments]))


def kill(process: subprocess.Popen[bytes]) -> bool:
    """Kill it with SIGKILL; whether it was there to be killed."""
    there = process.poll() is None
    if there:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return there


def peak_mib(process: int) -> float | None:
    """Most memory that a process has held, as the kernel has it; what wait4 tells begins with what we hold ourselves."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024 if "VmHWM" in status else None
