"""``space2vec score``: packets in files, scored without Kafka."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from space2vec.schemas.errors import ConfigError
from space2vec.stream.commands.flags import Config, Json, ModelFlags, PacketFlags

if TYPE_CHECKING:
    from space2vec.stream.archives import PacketFile
    from space2vec.stream.offline import OfflineScorer, Verdict
    from space2vec.workers.bundle import Bundle

EXAMPLES = """\
Examples:
  space2vec score 1234567890.avro
  space2vec score ztf_public_20261122.tar.gz --json > scores.jsonl
  space2vec score nights/ 'more/*.avro' --json | jq 'select(.score > 0.9)'
  find . -name '*.avro' | space2vec score - --schemas lsst-schemas/

Every alert gives one line: scored, degraded (scored, but see its flags) or
rejected (see its reason).
"""

app = App(name="score", help_epilogue=EXAMPLES, help_format="plaintext")


@app.default
def score(
    paths: Annotated[list[str], Parameter(name="PATH", allow_leading_hyphen=True, negative_iterable=())],
    /,
    *,
    json_: Json = False,
    packets: PacketFlags | None = None,
    model: ModelFlags | None = None,
    config: Config = None,
) -> None:
    """Score alert packets in files; no Kafka needed.

    Parameters
    ----------
    paths
        Packet files, folders, globs, or tar archives, each plain or gzipped; - reads their names from stdin.
    json_
        One JSON line per alert instead of a table.
    config
        Settings file, TOML or YAML.
    """
    from space2vec.stream.archives import find_files, read_files

    for path in paths:
        if path.startswith("-") and path != "-":  # taken as a path because "-" must be
            raise ConfigError(f"unknown option {path}; see space2vec score --help")
    files = find_files(paths)
    scorer, bundle = open_scorer(packets or PacketFlags(), model or ModelFlags(), config)
    write = _JsonLines(bundle) if json_ else _Table()
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    began = time.monotonic()
    with _progress(files) as shown:
        for verdict in scorer.score(_counted(read_files(shown), counts)):
            write(verdict)
            counts[verdict.status] += 1
            if verdict.reason:
                reasons[verdict.reason] += 1
    sys.stdout.flush()
    _summarise(counts, reasons, time.monotonic() - began)


def open_scorer(packets: PacketFlags, model: ModelFlags, config: Path | None) -> tuple[OfflineScorer, Bundle]:
    """Open reader and model as flags, environment and settings file say.

    Raises
    ------
    ConfigError, ModelError
        If a setting is wrong, or the bundle damaged.
    """
    from space2vec.schemas.profiles import Profiles
    from space2vec.schemas.reader import PacketReader
    from space2vec.schemas.writers import writer_schemas
    from space2vec.stream.config import load_settings
    from space2vec.stream.offline import OfflineScorer
    from space2vec.workers.backends import open_backend
    from space2vec.workers.bundle import load_bundle
    from space2vec.workers.preprocess import Preprocessor

    settings = load_settings(config, {"schemas": packets.overrides(), "model": model.overrides()})
    bundle = load_bundle(settings.model.bundle)
    reader = PacketReader(
        writer_schemas(settings.schemas),
        Profiles.load(settings.schemas.profiles),
        survey=settings.schemas.survey,
    )
    backend = open_backend(bundle, settings.model.device, settings.model.threads)
    return OfflineScorer(reader, Preprocessor(bundle.manifest.input), backend, bundle), bundle


class _JsonLines:
    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def __call__(self, verdict: Verdict) -> None:
        sys.stdout.write(json.dumps(verdict.as_json(self._bundle), allow_nan=False) + "\n")


class _Table:
    """A line per alert as it comes: a night does not fit into a table that must be measured first."""

    def __init__(self) -> None:
        self._row("STATUS", "SCORE", "SURVEY", "ALERT", "OBJECT", "FILE")

    def __call__(self, verdict: Verdict) -> None:
        shown = f"{verdict.score:.4f}" if verdict.score is not None else ""
        place = f"{verdict.file}#{verdict.record}" if verdict.record else verdict.file
        why = f"  ({verdict.reason}: {verdict.detail})" if verdict.reason else ""
        flags = f"  [{' '.join(verdict.flags)}]" if verdict.flags else ""
        alert_id = "" if verdict.alert_id is None else str(verdict.alert_id)
        self._row(
            verdict.status,
            shown,
            verdict.survey or "",
            alert_id,
            verdict.object_id or "",
            place + flags + why,
        )

    @staticmethod
    def _row(status: str, score: str, survey: str, alert_id: str, object_id: str, rest: str) -> None:
        sys.stdout.write(f"{status:<9} {score:>6}  {survey:<8} {alert_id:>19}  {object_id:<19}  {rest}\n")


@contextmanager
def _progress(files: list[Path]) -> Iterator[Iterable[Path]]:
    """Show a bar on stderr where a person watches it and it does not cut into the output."""
    if not sys.stderr.isatty() or sys.stdout.isatty():
        yield files
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        yield progress.track(files, description="files")


def _counted(files: Iterable[PacketFile], counts: Counter[str]) -> Iterator[PacketFile]:
    for file in files:
        counts["files"] += 1
        yield file


def _summarise(counts: Counter[str], reasons: Counter[str], took_s: float) -> None:
    alerts = counts["scored"] + counts["degraded"] + counts["rejected"]
    why = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    sys.stderr.write(
        f"{alerts} alerts in {counts['files']} files: {counts['scored']} scored, {counts['degraded']} degraded, "
        f"{counts['rejected']} rejected{f' ({why})' if why else ''}; {took_s:.1f} s\n"
    )
