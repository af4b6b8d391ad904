"""``space2vec model``: what a model bundle holds, and whether it still says what it said."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from cyclopts import App, Parameter

from space2vec.schemas.errors import ConfigError
from space2vec.schemas.exit_codes import MODEL, OK
from space2vec.stream.commands.flags import Config, Json, KafkaFlags, PacketFlags, milliseconds

if TYPE_CHECKING:
    from space2vec.schemas.alert import Alert
    from space2vec.schemas.reader import PacketReader
    from space2vec.schemas.settings import Settings
    from space2vec.stream.comparison import Comparison
    from space2vec.stream.replay_archives import Archive
    from space2vec.stream.replay_fleet import Tell

EXAMPLES: Final = """\
Examples:
  space2vec model verify
  space2vec model verify my-bundle/ --device cuda --json
  space2vec model import braai.onnx braai/ --manifest braai.json --layout planes-last --output probability
  space2vec model compare core my-bundle/ ztf_public_20261122.tar.gz --sheet changes.png
"""

app = App(name="model", help_epilogue=EXAMPLES, help_format="plaintext")


@app.command
def verify(
    bundle: str = "core", /, *, device: Literal["auto", "cpu", "cuda"] = "auto", json_: Json = False
) -> int:
    """Check a bundle: every file's digest, and the scores of its golden vectors on this machine.

    Parameters
    ----------
    bundle
        A shipped bundle's name, or a bundle's folder.
    device
        Where to score.
    json_
        One JSON line instead of a list.
    """
    from space2vec.workers.bundle import load_bundle, verify_bundle

    loaded = load_bundle(bundle)
    checks = verify_bundle(loaded, device)
    sound = all(check.ok for check in checks)
    manifest = loaded.manifest
    if json_:
        told = {
            "model": manifest.name,
            "version": manifest.version,
            "sha256": loaded.sha256,
            "ok": sound,
            "checks": [{"name": c.name, "ok": c.ok, "detail": c.detail} for c in checks],
        }
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        sys.stdout.write(f"{manifest.name} {manifest.version}  {loaded.path}\nsha256 {loaded.sha256}\n")
        sys.stdout.writelines(f"{'ok  ' if c.ok else 'BAD '} {c.name}: {c.detail}\n" for c in checks)
    return OK if sound else MODEL


@app.command(name="import")
def import_(
    graph: Path,
    folder: Path,
    /,
    *,
    manifest: Path,
    layout: Literal["planes-first", "planes-last"] = "planes-first",
    output: Literal["log-odds", "probability"] = "log-odds",
    stamps: Path | None = None,
) -> None:
    """Make a bundle of an ONNX graph and a manifest.

    Parameters
    ----------
    graph
        ONNX file: one input of stamps, one score per stamp; weights inside.
    folder
        Where to write the bundle.
    manifest
        JSON as docs/bring-a-bundle.md tells, without files; its architecture.kind is graph.
    layout
        Axes of the graph's input: (N, planes, S, S), or (N, S, S, planes) as Keras has it.
    output
        What the graph's output is, of the manifest's first class.
    stamps
        Pixels of the golden vectors, (K, planes, H, W), a .npy file; none: made-up ones.
    """
    import numpy as np

    from space2vec.workers.bundle import verify_bundle
    from space2vec.workers.importing import import_graph, made_stamps
    from space2vec.workers.manifest import parse_manifest

    try:
        draft = parse_manifest(manifest.read_bytes(), str(manifest), draft=True)
        golden = np.load(stamps, allow_pickle=False) if stamps is not None else made_stamps(draft.input)
        content = graph.read_bytes()
    except (OSError, ValueError) as error:
        raise ConfigError(str(error)) from error
    bundle = import_graph(folder, draft, content, golden, layout, output)
    checks = verify_bundle(bundle, "cpu")
    sys.stdout.write(f"{bundle.path}\nsha256 {bundle.sha256}\n")
    sys.stdout.writelines(f"{'ok  ' if c.ok else 'BAD '} {c.name}: {c.detail}\n" for c in checks)


@app.command
def compare(
    first: str,
    second: str,
    sources: Annotated[list[str], Parameter(name="SOURCE", negative_iterable=())],
    /,
    *,
    threshold: float = 0.5,
    sheet: Path | None = None,
    crossed: Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    since: datetime | None = None,
    until: datetime | None = None,
    packets: PacketFlags | None = None,
    kafka: KafkaFlags | None = None,
    config: Config = None,
    json_: Json = False,
) -> None:
    """Score the alerts of archives or topics by two bundles, and say where they differ.

    Parameters
    ----------
    first, second
        A shipped bundle's name, or a bundle's folder, each.
    sources
        As of `space2vec replay`: archives, tables, folders, URLs; kafka:TOPIC with --since and --until.
    threshold
        Operating point: the score from which on an alert counts as real.
    sheet
        PNG of the alerts whose score changed most.
    crossed
        JSON lines: every alert that is real for one bundle only.
    device
        Where to score.
    since
        Of a topic, only messages from this time on, UTC.
    until
        Of a topic, only messages before this time, UTC.
    config
        Settings file, TOML or YAML.
    json_
        One JSON line instead of a table.
    """
    from space2vec.schemas.profiles import Profiles
    from space2vec.schemas.reader import PacketReader
    from space2vec.schemas.writers import writer_schemas
    from space2vec.stream.comparison import BundleScorer
    from space2vec.stream.comparison import compare as put_side_by_side
    from space2vec.stream.config import load_settings
    from space2vec.stream.replay_report import reporting
    from space2vec.stream.replay_topics import find_sources
    from space2vec.workers.bundle import load_bundle

    for path in (sheet, crossed):
        if path is not None and not path.parent.is_dir():
            raise ConfigError(f"{path}: no such folder")
    sections = {
        "source": (kafka or KafkaFlags()).overrides(),
        "schemas": (packets or PacketFlags()).overrides(),
    }
    settings = load_settings(config, sections)
    archives = find_sources(sources, settings, milliseconds(since), milliseconds(until))
    reader = PacketReader(
        writer_schemas(settings.schemas),
        Profiles.load(settings.schemas.profiles),
        survey=settings.schemas.survey,
    )
    before, after = (
        BundleScorer(load_bundle(name), device, settings.model.threads) for name in (first, second)
    )
    with reporting(archives) as tell, (crossed or Path(os.devnull)).open("w") as lines:
        compared = put_side_by_side(
            _alerts(archives, settings, reader, tell),
            before,
            after,
            threshold,
            lambda change: lines.write(json.dumps(change.as_json()) + "\n"),
        )
    bundles = [
        {"model": s.bundle.manifest.name, "version": s.bundle.manifest.version, "sha256": s.bundle.sha256}
        for s in (before, after)
    ]
    names = [f"{bundle['model']} {bundle['version']} ({bundle['sha256'][:8]})" for bundle in bundles]
    if sheet is not None:
        compared.sheet(*names).save(sheet, "PNG")
    if json_:
        sys.stdout.write(json.dumps({"bundles": bundles} | compared.as_json()) + "\n")
    else:
        sys.stdout.write(_side_by_side(compared, names))


def _alerts(
    archives: Sequence[Archive], settings: Settings, reader: PacketReader, tell: Tell
) -> Iterator[Alert]:
    """Every alert that can be opened; of what cannot, `space2vec replay` gives account."""
    from space2vec.schemas.alert import Alert
    from space2vec.schemas.errors import SchemaUnavailable
    from space2vec.stream.replay_report import watched
    from space2vec.stream.replay_topics import open_archive

    for archive in archives:
        stored = open_archive(archive, settings)
        for member in watched(archive, stored, tell):
            try:
                yield from (record for record in reader.read(member.packet) if isinstance(record, Alert))
            except SchemaUnavailable as error:
                stored.faults.append(f"{member.name}: {error}")
        sys.stderr.writelines(f"{fault}\n" for fault in stored.faults)


def _side_by_side(compared: Comparison, names: Sequence[str]) -> str:
    told: dict[str, Any] = compared.as_json()
    lines = [f"{'score':<12}{names[0]:>28}{names[1]:>28}"]
    edges = told["bin_edges"]
    for low, high, *counts in zip(edges[:-1], edges[1:], *told["histograms"], strict=True):
        lines.append(f"{low:.2f} - {high:.2f} {counts[0]:>28}{counts[1]:>28}")
    lines += [
        f"{told['alerts']} alerts, {told['scored_by_both']} scored by both",
        f"rejected: {told['rejected'][0]} by the first, {told['rejected'][1]} by the second",
        f"at {compared.threshold:g}: {told['rose_above']} rose above, {told['fell_below']} fell below",
        f"logit changed by {told['mean_logit_change']:+.3f} on average, {told['rms_logit_change']:.3f} rms",
        "changed most:",
    ]
    for each in told["largest"][:10]:
        lines.append(
            f"  {each['survey']:<8}{each['alert_id']:>20}  {each['before']:.4f} -> {each['after']:.4f}"
        )
    return "\n".join(lines) + "\n"
