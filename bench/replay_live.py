"""The live path that bench/replay.py holds a replay against: from Kafka to Kafka, pipeline and scorer in this process.

Takes a file of settings and how many messages to answer; prints how many were, as one JSON line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from threading import Event

from space2vec.schemas.settings import Settings
from space2vec.stream.assembly import kafka_pipeline
from space2vec.stream.local_scorer import LocalScorer
from space2vec.stream.models import Model
from space2vec.stream.pipeline import Pipeline
from space2vec.workers.backends import open_backend
from space2vec.workers.bundle import load_bundle


class UntilAnswered(Event):
    """Set once so many messages are answered."""

    def __init__(self, pipeline: Pipeline, count: int) -> None:
        super().__init__()
        self.pipeline, self.count = pipeline, count

    def is_set(self) -> bool:
        """Whether to stop."""
        return self.pipeline.counts.messages >= self.count


def main(settings_file: str, count: str) -> None:
    """Answer so many."""
    settings = Settings.model_validate_json(Path(settings_file).read_text())
    bundle = load_bundle(settings.model.bundle)
    scorer = LocalScorer(open_backend(bundle, settings.model.device, settings.model.threads))
    pipeline = kafka_pipeline(settings, [Model(bundle, scorer)], "live.0")
    pipeline.run(UntilAnswered(pipeline, int(count)))
    print(json.dumps({"messages": pipeline.counts.messages}))


if __name__ == "__main__":
    main(*sys.argv[1:])
