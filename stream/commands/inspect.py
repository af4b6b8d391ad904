"""``space2vec inspect``: what is in a packet."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cyclopts import App
from cyclopts.types import NonNegativeInt

from space2vec.schemas.errors import ConfigError
from space2vec.schemas.exit_codes import FAILED, OK
from space2vec.stream.commands.flags import Config, Json, PacketFlags

if TYPE_CHECKING:
    from space2vec.stream.inspection import Inspection

EXAMPLES: Final = """\
Examples:
  space2vec inspect 1234567890.avro --stamps triplet.png
  space2vec inspect part-00000.avro --record 12 --json
  space2vec inspect lsst.avro --schemas lsst-schemas/
"""

app = App(name="inspect", help_epilogue=EXAMPLES, help_format="plaintext")


@app.default
def inspect(
    file: Path,
    /,
    *,
    stamps: Path | None = None,
    record: NonNegativeInt = 0,
    json_: Json = False,
    packets: PacketFlags | None = None,
    model: str | None = None,
    config: Config = None,
) -> int:
    """Show what is in a packet: framing, schema, ids, stamps, faults.

    Parameters
    ----------
    file
        A packet file, plain or gzipped.
    stamps
        Draw the triplet into this picture; pixels that are not there are red.
    record
        Which record of a file with several, from 0.
    json_
        One JSON line instead of a listing.
    model
        Bundle whose manifest decides the quality flags.
    config
        Settings file, TOML or YAML.
    """
    found = _look(file, record, packets or PacketFlags(), model, config)
    if json_:
        fault = str(found.fault) if found.fault is not None else None
        sys.stdout.write(json.dumps({**found.facts, "fault": fault}, allow_nan=False) + "\n")
    else:
        _list(found)
    if stamps is not None and found.alert is not None:
        from space2vec.stream.pictures import triplet_picture

        try:
            triplet_picture(found.card(), title=file.name).save(stamps)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{stamps}: cannot be written: {error}") from error
    return OK if found.fault is None else FAILED


def _look(
    file: Path, record: int, packets: PacketFlags, model: str | None, config: Path | None
) -> Inspection:
    from space2vec.schemas.profiles import Profiles
    from space2vec.schemas.reader import PacketReader
    from space2vec.schemas.writers import writer_schemas
    from space2vec.stream.archives import find_files, read_files
    from space2vec.stream.config import load_settings
    from space2vec.stream.inspection import inspect_file
    from space2vec.workers.bundle import load_bundle
    from space2vec.workers.preprocess import Preprocessor

    settings = load_settings(config, {"schemas": packets.overrides(), "model": {"bundle": model}})
    profiles = Profiles.load(settings.schemas.profiles)
    reader = PacketReader(writer_schemas(settings.schemas), profiles, survey=settings.schemas.survey)
    paths = find_files([str(file)])
    if len(paths) != 1:
        raise ConfigError(f"{file}: inspect takes one file")
    return inspect_file(
        next(iter(read_files(paths))),
        record,
        reader,
        profiles,
        Preprocessor(load_bundle(settings.model.bundle).manifest.input),
    )


def _list(found: Inspection) -> None:
    for section, facts in found.facts.items():
        sys.stdout.write(f"{section}\n")
        width = max(map(len, facts), default=0)
        for name, value in facts.items():
            sys.stdout.write(f"  {name.replace('_', ' '):<{width}}  {_shown(value)}\n")
    if found.fault is not None:
        sys.stdout.write(f"fault\n  {found.fault}\n")


def _shown(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.10g}"
        case list():
            return " ".join(value) or "none"
        case _:
            return str(value)
