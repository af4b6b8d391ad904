"""Finding one's way in a parsed Avro schema: named types, nullable unions, fields by dotted name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_DEEPEST_PATH = 4
_MOST_PATHS = 20_000


class SchemaTree:
    """A parsed schema whose named types can be looked up.

    Parameters
    ----------
    parsed : dict, list or str
        As fastavro parses it: full names throughout.
    """

    def __init__(self, parsed: Any) -> None:
        self.named: dict[str, dict[str, Any]] = {}
        self._collect(parsed)

    def _collect(self, kind: Any) -> None:
        if isinstance(kind, list):
            for branch in kind:
                self._collect(branch)
        elif isinstance(kind, dict):
            if "name" in kind:
                self.named[kind["name"]] = kind
            for inner in ("type", "items", "values"):
                self._collect(kind.get(inner))
            for field in kind.get("fields", ()):
                self._collect(field["type"])

    def resolve(self, kind: Any) -> Any:
        """Replace a name by the type it names, and ``{"type": "string"}`` by ``"string"``."""
        while True:
            if isinstance(kind, str):
                if kind not in self.named:
                    return kind
                return self.named[kind]
            if isinstance(kind, dict) and not isinstance(kind["type"], str):
                kind = kind["type"]
            elif isinstance(kind, dict) and kind["type"] in self.named:
                kind = self.named[kind["type"]]
            else:
                return kind

    def records(self, kind: Any) -> Iterator[dict[str, Any]]:
        """Give the records that a value of this type may be: itself, or branches of a union."""
        resolved = self.resolve(kind)
        for branch in resolved if isinstance(resolved, list) else [resolved]:
            branch = self.resolve(branch)
            if isinstance(branch, dict) and branch["type"] == "record":
                yield branch

    def paths(self, record: dict[str, Any]) -> dict[str, bool]:
        """Name every field of a record and of the records in it, dotted; arrays are not entered.

        Returns
        -------
        dict of str to bool
            By name, whether the field is always there: neither it nor a record that it is in may be null.
        """
        found: dict[str, bool] = {}
        level = [("", record, True)]
        for _ in range(_DEEPEST_PATH):
            below = []
            for prefix, one, always in level:
                for field in one["fields"]:
                    path, kind = prefix + field["name"], self.resolve(field["type"])
                    found[path] = always and not isinstance(kind, list) and kind != "null"
                    below += [(path + ".", inner, found[path]) for inner in self.records(kind)]
            # Records named over and over multiply with each level; real ones have a few hundred fields.
            level = below if len(found) < _MOST_PATHS else []
        return found


def type_name(kind: Any) -> str:
    """Name the sort of a resolved type: ``record``, ``union``, ``long`` ..."""
    return str(kind["type"]) if isinstance(kind, dict) else "union" if isinstance(kind, list) else str(kind)


def holds_bytes(schema: Any) -> bool:
    """Tell whether a datum of a schema can hold bytes anywhere."""
    if isinstance(schema, dict):
        return any(holds_bytes(schema.get(key)) for key in ("type", "items", "values", "fields"))
    if isinstance(schema, list):
        return any(map(holds_bytes, schema))
    return schema in ("bytes", "fixed")
