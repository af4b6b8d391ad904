"""The manifest of an archive replayed into a folder: which part files there are, and how far they reach.

A part is there once the manifest names it. The manifest is replaced as a whole, after the part's files are on
disk under their names; so whatever moment the power fails at, it tells the truth.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from space2vec.schemas.errors import ConfigError

MANIFESTS: Final = "manifests"


@dataclass(frozen=True, slots=True)
class Part:
    """The answers to packets ``first`` to ``end`` (not included): file to SHA-256, and how they count."""

    first: int
    end: int
    counts: dict[str, Any]
    files: dict[str, str]


@dataclass(slots=True)
class Manifest:
    """What stands in ``manifests/<shard>.json``; see :class:`space2vec.stream.replay_standing.Standing`."""

    run: str
    archive: str
    digest: str
    size: int
    model: dict[str, str]
    began: str
    format: str
    done: bool = False
    faults: list[str] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)

    @property
    def next(self) -> int:
        """Number of the first packet that no part answers."""
        return self.parts[-1].end if self.parts else 0

    def save(self, folder: Path, shard: str) -> None:
        """Replace the manifest in the folder."""
        replace_file(_path(folder, shard), json.dumps(asdict(self), indent=1).encode())


def read_manifest(folder: Path, shard: str) -> Manifest | None:
    """Read an archive's manifest; ``None`` where there is none.

    Raises
    ------
    ConfigError
        If it is not one.
    """
    path = _path(folder, shard)
    try:
        told = json.loads(path.read_bytes())
        return Manifest(**told | {"parts": [Part(**part) for part in told["parts"]]})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path}: not a replay's manifest: {error}") from error


def read_manifests(folder: Path) -> list[Manifest]:
    """Read every manifest of a folder, by name."""
    paths = sorted((folder / MANIFESTS).glob("*.json"))
    return [manifest for path in paths if (manifest := read_manifest(folder, path.stem)) is not None]


def forget_manifest(folder: Path, shard: str) -> None:
    """Let the archive begin anew; part files are replaced as their like is written again."""
    path = _path(folder, shard)
    path.unlink(missing_ok=True)
    _sync(path.parent)


def write_files(folder: Path, files: Mapping[str, bytes]) -> dict[str, str]:
    """Write files under a folder, each whole or not at all; their SHA-256, by name."""
    for name, content in files.items():
        replace_file(folder / name, content)
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def replace_file(path: Path, content: bytes) -> None:
    """Put a file in place in one step, on disk before it has its name, and then that too."""
    _make(path.parent)
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    _sync(path.parent)


@contextmanager
def locked(folder: Path, shard: str) -> Iterator[None]:
    """Keep other replays of the archive out of the folder; a killed one lets go of itself.

    Raises
    ------
    ConfigError
        If there is another.
    """
    path = _path(folder, shard).with_suffix(".lock")
    _make(path.parent)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{folder}: another replay is writing {shard} here") from None
        yield


def _make(folder: Path) -> None:
    """Make a folder and those above it, and have their names on disk."""
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in new:
        _sync(each.parent)


def _sync(folder: Path) -> None:
    """Have a folder's entries on disk."""
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _path(folder: Path, shard: str) -> Path:
    return folder / MANIFESTS / f"{shard}.json"
