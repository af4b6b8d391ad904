"""Writer schemas from a folder: ``<id>.avsc``."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from fastavro.repository.base import SchemaRepositoryError
from fastavro.schema import load_schema

from space2vec.schemas.errors import ConfigError, PacketError, Reason
from space2vec.schemas.packet import WriterSchema
from space2vec.schemas.writer_schema import writer_schema


class FolderSchemas:
    """Writer schemas in files.

    Parameters
    ----------
    folder : Path
        Holds ``<id>.avsc``; records that a schema names without defining are taken from ``<name>.avsc``
        beside it.

    Raises
    ------
    ConfigError
        If there is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder of writer schemas")
        self._folder = folder
        # One entry per file there is: a failure raises, and is not kept.
        self._read = cache(read_schema_file)

    def get(self, schema_id: int) -> WriterSchema:
        """Give the schema of an id.

        Raises
        ------
        PacketError
            ``UNKNOWN_SCHEMA`` or ``BAD_SCHEMA``.
        """
        path = self._folder / f"{schema_id}.avsc"
        if not path.is_file():
            raise PacketError(Reason.UNKNOWN_SCHEMA, f"no {path.name} in {self._folder}")
        return self._read(path)


def read_schema_file(path: Path) -> WriterSchema:
    """Read a schema and what it refers to in the files beside it.

    Raises
    ------
    PacketError
        ``BAD_SCHEMA``, naming the file.
    """
    try:
        loaded = load_schema(path, _write_hint=False)
        return writer_schema(_plain(loaded))
    except (OSError, ValueError, SchemaRepositoryError) as error:
        raise PacketError(Reason.BAD_SCHEMA, f"{path}: {type(error).__name__}: {error}") from None
    except PacketError as error:
        raise PacketError(error.reason, f"{path}: {error.detail}") from None


def _plain(schema: Any) -> Any:
    """Drop what fastavro adds to a schema when it parses it."""
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if isinstance(schema, dict):
        return {key: _plain(value) for key, value in schema.items() if not key.startswith("__")}
    return schema
