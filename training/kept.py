"""What takes long to make, kept in files for the next run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import JsonValue

Table = TypeVar("Table", bound=Any)


def kept_table(file: Path | None, kind: type[Table], make: Callable[[], Table]) -> Table:
    """Read a dataclass of arrays and text from ``file``, or make it and leave it there.

    Parameters
    ----------
    file : Path or None
        An ``.npz``; without one it is made.
    kind : type
        The dataclass.
    make : callable
        Makes it.
    """
    names = [column.name for column in fields(kind)]
    if file is not None and file.is_file():
        with np.load(file, allow_pickle=False) as arrays:
            columns = {name: arrays[name] for name in names}
        read: Table = kind(
            **{name: column if column.ndim else column.item() for name, column in columns.items()}
        )
        return read
    made = make()
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, allow_pickle=False, **{name: getattr(made, name) for name in names})
    return made


def kept_numbers(file: Path | None, make: Callable[[], JsonValue]) -> JsonValue:
    """Read JSON from ``file``, or make it and leave it there."""
    if file is not None and file.is_file():
        found: JsonValue = json.loads(file.read_text())
        return found
    made = make()
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(made))
    return made
