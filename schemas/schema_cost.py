"""Refuse schemas that make a decoder run away: every value built must be paid for by bytes read.

A container brings its own schema, so the schema is hostile input too. A recursive type makes fastavro
recurse until the process dies (no exception, a segmentation fault); records of nothing but nulls, nested or
in an array with a count of 2**60, build values for ever out of no bytes at all.
"""

from __future__ import annotations

from typing import Any, NamedTuple

_SMALLEST = {"null": 0, "float": 4, "double": 8}
_VALUES_PER_BYTE = 16
_FREE_VALUES = 100_000
_DEEPEST_JSON = 100
_TALLEST_TYPE = 60
_MOST_NODES = 50_000


class CostlyError(ValueError):
    """The schema allows a small datum to cost unbounded time or memory."""


def check_shape(schema: Any) -> None:
    """Bound nesting and size of a schema's JSON, before anything walks it recursively.

    Raises
    ------
    CostlyError
        If it is nested deeper, or holds more, than any real schema.
    """
    nodes = 0
    level = [schema]
    for _ in range(_DEEPEST_JSON):
        below: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                below.extend(node.values())
            elif isinstance(node, list):
                below.extend(node)
        nodes += len(below)
        if nodes > _MOST_NODES:
            raise CostlyError(f"more than {_MOST_NODES} JSON values")
        if not below:
            return
        level = below
    raise CostlyError(f"nested deeper than {_DEEPEST_JSON} levels")


def check_cost(parsed: Any) -> None:
    """Bound the number of values that a datum of this schema can build by its number of bytes.

    Parameters
    ----------
    parsed : dict, list or str
        A schema as fastavro parses it: full names throughout.

    Raises
    ------
    CostlyError
        If it is recursive, too deep, or has records or array items of (nearly) no bytes.
    """
    cost = _Costs().of(parsed)
    if cost.height > _TALLEST_TYPE:
        raise CostlyError(f"types nested deeper than {_TALLEST_TYPE}")
    if cost.excess > _FREE_VALUES:
        raise CostlyError(f"a datum of no bytes holds up to {cost.excess} values")


class _Cost(NamedTuple):
    excess: int
    """The most by which the values of a datum can outnumber its bytes times ``_VALUES_PER_BYTE``."""
    height: int
    """Levels of types within types."""


class _Costs:
    def __init__(self) -> None:
        self._named: dict[str, _Cost] = {}
        self._open: set[str] = set()

    def of(self, kind: Any) -> _Cost:
        if isinstance(kind, str):
            return self._by_name(kind)
        if isinstance(kind, list):
            branches = [self.of(branch) for branch in kind] or [_Cost(0, 0)]
            excess = max(branch.excess for branch in branches) - _VALUES_PER_BYTE
            return _Cost(excess, 1 + max(branch.height for branch in branches))
        match kind["type"]:
            case "record" | "error":
                return self._record(kind)
            case "array" | "map" as container:
                return self._container(kind, container)
            case "fixed" | "enum" as leaf:
                size = int(kind["size"]) if leaf == "fixed" else 1
                self._named[kind["name"]] = _Cost(1 - _VALUES_PER_BYTE * size, 1)
                return self._named[kind["name"]]
            case inner:
                return self.of(inner)

    def _by_name(self, name: str) -> _Cost:
        if name in self._open:
            raise CostlyError(f"type {name} contains itself")
        leaf = _Cost(1 - _VALUES_PER_BYTE * _SMALLEST.get(name, 1), 1)
        return self._named.get(name, leaf)

    def _record(self, kind: dict[str, Any]) -> _Cost:
        name = kind["name"]
        self._open.add(name)
        fields = [self.of(field["type"]) for field in kind["fields"]]
        self._open.discard(name)
        height = 1 + max((field.height for field in fields), default=0)
        self._named[name] = _Cost(1 + sum(field.excess for field in fields), height)
        return self._named[name]

    def _container(self, kind: dict[str, Any], container: str) -> _Cost:
        items = self.of(kind["items" if container == "array" else "values"])
        # A map's key is a value more, and takes a byte of its own.
        allowance = 0 if container == "array" else _VALUES_PER_BYTE - 1
        if items.excess > allowance:
            raise CostlyError(f"{container} of values that take next to no bytes")
        return _Cost(1 - _VALUES_PER_BYTE, 1 + items.height)
