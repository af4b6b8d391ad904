"""A small storm of the chaos bench: it must find nothing lost and nothing doubled, and must have killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "chaos.py"


@pytest.mark.timeout(300)
def test_a_small_storm(apache_jars: Path) -> None:
    arguments = ["--alerts", "600", "--kills", "4", "--seed", "5", "--topology", "two", "--json"]
    done = subprocess.run(
        [sys.executable, str(BENCH), *arguments, "--settle", "120"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"RAY_AUTH_MODE": "disabled", "XDG_CACHE_HOME": str(apache_jars.parents[1])},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["alerts"], result["kills"]) == (600, 4)
    assert (result["lost"], result["duplicated"], result["balanced"]) == (0, 0, True)
