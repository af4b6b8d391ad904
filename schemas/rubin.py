"""Rubin's writer schemas from the ``lsst-alert-packet`` distribution, where that is installed.

It is under the GPL: it is never shipped with this project, and none of its code is imported; its schema
files are read where they lie.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from space2vec.schemas.errors import PacketError, Reason
from space2vec.schemas.folder import read_schema_file
from space2vec.schemas.packet import WriterSchema


class InstalledRubinSchemas:
    """Writer schemas by Rubin's rule for ids: version major.minor has id major * 100 + minor."""

    def __init__(self) -> None:
        self._root = _schema_root()
        self._read = cache(read_schema_file)

    @staticmethod
    def available() -> bool:
        """Tell whether ``lsst-alert-packet`` is installed (extra ``rubin``)."""
        return _schema_root() is not None

    def get(self, schema_id: int) -> WriterSchema:
        """Give the schema of an id.

        Raises
        ------
        PacketError
            ``UNKNOWN_SCHEMA`` or ``BAD_SCHEMA``.
        """
        major, minor = divmod(schema_id, 100)
        if self._root is not None:
            path = self._root / str(major) / str(minor) / f"lsst.v{major}_{minor}.alert.avsc"
            if path.is_file():
                return self._read(path)
        raise PacketError(Reason.UNKNOWN_SCHEMA, f"lsst-alert-packet has no schema {major}.{minor}")


@cache
def _schema_root() -> Path | None:
    try:
        spec = find_spec("lsst.alert.packet")
    except ModuleNotFoundError:
        return None
    locations = spec.submodule_search_locations if spec is not None else None
    for location in locations or ():
        root = Path(location) / "schema"
        if root.is_dir():
            return root
    return None
