"""``space2vec model``: what a model bundle holds, and whether it still says what it said."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from cyclopts import App, Parameter

from space2vec.stream.commands.flags import Config, Json, PacketFlags
from space2vec.stream.exit_codes import MODEL, OK

if TYPE_CHECKING:
    from space2vec.schemas.alert import Alert
    from space2vec.schemas.reader import PacketReader
    from space2vec.stream.comparison import Comparison
    from space2vec.stream.replay_archives import Archive

EXAMPLES: Final = """\
Examples:
  space2vec model verify
  space2vec model verify my-bundle/ --device cuda --json
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


@app.command
def compare(
    first: str,
    second: str,
    sources: Annotated[list[str], Parameter(name="SOURCE", negative_iterable=())],
    /,
    *,
    threshold: float = 0.5,
    sheet: Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    packets: PacketFlags | None = None,
    config: Config = None,
    json_: Json = False,
) -> None:
    """Score the alerts of archives by two bundles, and say where they differ.

    Parameters
    ----------
    first, second
        A shipped bundle's name, or a bundle's folder, each.
    sources
        Tar archives, Avro containers, or folders of packets; paths, globs, or URLs.
    threshold
        Operating point: the score from which on an alert counts as real.
    sheet
        PNG of the alerts whose score changed most.
    device
        Where to score.
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
    from space2vec.stream.replay_archives import find_archives
    from space2vec.workers.bundle import load_bundle

    settings = load_settings(config, {"schemas": (packets or PacketFlags()).overrides()})
    reader = PacketReader(
        writer_schemas(settings.schemas),
        Profiles.load(settings.schemas.profiles),
        survey=settings.schemas.survey,
    )
    before, after = (
        BundleScorer(load_bundle(name), device, settings.model.threads) for name in (first, second)
    )
    compared = put_side_by_side(_alerts(find_archives(sources), reader), before, after, threshold)
    if sheet is not None:
        compared.sheet().save(sheet)
    bundles = [
        {"model": s.bundle.manifest.name, "version": s.bundle.manifest.version, "sha256": s.bundle.sha256}
        for s in (before, after)
    ]
    if json_:
        sys.stdout.write(json.dumps({"bundles": bundles} | compared.as_json()) + "\n")
    else:
        sys.stdout.write(_side_by_side(compared, bundles))


def _alerts(archives: Sequence[Archive], reader: PacketReader) -> Iterator[Alert]:
    """Every alert that can be opened; of what cannot, `space2vec replay` gives account."""
    from space2vec.schemas.alert import Alert
    from space2vec.schemas.errors import SchemaUnavailable
    from space2vec.stream.replay_members import ArchiveReader

    for archive in archives:
        stored = ArchiveReader(archive)
        for member in stored.members():
            try:
                yield from (record for record in reader.read(member.packet) if isinstance(record, Alert))
            except SchemaUnavailable as error:
                stored.faults.append(f"{member.name}: {error}")
        sys.stderr.writelines(f"{fault}\n" for fault in stored.faults)


def _side_by_side(compared: Comparison, bundles: Sequence[dict[str, str]]) -> str:
    told: dict[str, Any] = compared.as_json()
    names = [f"{bundle['model']} {bundle['version']} ({bundle['sha256'][:8]})" for bundle in bundles]
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
