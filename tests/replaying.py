"""Replays, scored by a plain function or as the verb does, and what they have written and said."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from space2vec.schemas.exit_codes import OK
from space2vec.schemas.settings import Settings
from space2vec.stream.cli import run_command
from space2vec.stream.memory import MemoryScorer
from space2vec.stream.replay import Progress, Replay, replay_archive
from space2vec.stream.replay_archives import Archive, find_archives
from space2vec.workers.bundle import Bundle
from space2vec.workers.scores import Scores
from trial import tar_of

Score = Callable[[np.ndarray], np.ndarray]


def archive_of(path: Path, packets: Sequence[bytes]) -> Archive:
    """Write an archive whose members are numbered as the packets are."""
    tar_of(path, {f"{number}.avro": packet for number, packet in enumerate(packets)})
    (found,) = find_archives([str(path)])
    return found


def brightness(stamps: np.ndarray) -> np.ndarray:
    """Score by the sum of all pixels."""
    return stamps.reshape(len(stamps), -1).sum(1)


class Judge(MemoryScorer):
    """Scores by a plain function, in the shape that a bundle has."""

    def __init__(self, bundle: Bundle, score: Score) -> None:
        super().__init__(score)
        outputs = bundle.manifest.outputs
        self._groups = len(outputs.kinds) + len(outputs.causes)

    def wait(self, ticket: object, timeout: float) -> Scores | None:
        scores = super().wait(ticket, timeout)
        if scores is None:
            return None
        return Scores(scores.logit, scores.embedding, np.zeros((len(scores), self._groups), np.float32))


def replayed(
    archive: Archive, to: str, stop: Event | None = None, score: Score = brightness, **asked: Any
) -> Progress:
    """Replay an archive in batches of 16, committing whenever it can."""
    settings = Settings.model_validate({"stream": {"batch_alerts": 16, "commit_interval_s": 1e-9}})
    replay = Replay(settings, to, **asked)
    return replay_archive(replay, archive, lambda bundle: Judge(bundle, score), stop or Event())


def files_of(folder: Path, *kinds: str) -> dict[str, bytes]:
    """Give every file of a replay by name, drafts that a kill left among them."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for kind in kinds or ("alerts", "rejected")
        for path in sorted((folder / kind).rglob("*.*"))
        if path.is_file()
    }


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Give every row of a replay to Parquet, in the order of the packets."""
    rows = [
        row
        for path in sorted((folder / "alerts").rglob("*.parquet"))
        for row in pq.ParquetFile(path).read().to_pylist()
    ]
    return sorted(rows, key=lambda row: (row["archive"], row["member"]))


def told_by_replay(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Run the verb in this process, and give what it says at the end."""
    capsys.readouterr()
    assert run_command(["replay", *arguments, "--local", "--json"]) == OK
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told
