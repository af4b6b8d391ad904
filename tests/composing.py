"""Docker Compose as it is found here: 2 or later as Docker's plug-in or alone, or Debian 12's own 1.29."""

from __future__ import annotations

import subprocess
from pathlib import Path

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
COMMANDS = (["docker", "compose"], ["docker-compose"])


def compose_command() -> list[str] | None:
    """Give what starts Compose; ``None`` where there is none."""
    for command in COMMANDS:
        try:
            told = subprocess.run([*command, "version"], capture_output=True, timeout=60, check=False)
        except FileNotFoundError:
            continue
        if told.returncode == 0:
            return command
    return None


def compose_file(command: list[str], folder: Path) -> Path:
    """Give the compose file as ``command`` takes it; 1.29 takes all that we use but ``name``.

    It is read as if it stood in deploy/: ``--project-directory``.
    """
    told = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, check=True)
    if not told.stdout.lstrip("v").startswith("1."):
        return DEPLOY / "compose.yaml"
    path = folder / "compose.yaml"
    path.write_text((DEPLOY / "compose.yaml").read_text().replace("\nname: space2vec\n", "\n"))
    return path
