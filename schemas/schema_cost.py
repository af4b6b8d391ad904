"""Refuse schemas that make a decoder run away: what is built must be paid for by bytes read.

A container brings its own schema, so the schema is hostile input too. A recursive type makes fastavro
recurse until the process dies (no exception, a segmentation fault); records of nothing but nulls, nested, in
an array with a count of 2**60 or a hundred thousand to a container, build values for ever out of no bytes at
all; an array of records of one boolean takes 240 bytes of memory for each byte of the datum.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any, NamedTuple

_DEEPEST_JSON = 100
_TALLEST_TYPE = 60
_MOST_NODES = 15_000
_MOST_FIELDS = 15_000
_MOST_BRANCHES = 30
"""Of a union at the top, which fastavro looks through anew for each datum."""
_MOST_MEMORY_PER_BYTE = 2000
_MOST_MEMORY_FOR_NOTHING = 16 << 10
_SLOT = 9
"""Bytes of memory that a list takes for each of its values."""
_OWN_NAMES = frozenset(("union", "error", "record", "array", "map", "enum", "fixed"))


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


def check_cost(parsed: Any) -> Cost:
    """Bound what a datum of this schema can take by its number of bytes.

    Parameters
    ----------
    parsed : dict, list or str
        A schema as fastavro parses it: full names throughout.

    Raises
    ------
    CostlyError
        If it is recursive, too deep or too wide once every name is written out, has array items of no bytes,
        or a type that is named like one of Avro's own.
    """
    if isinstance(parsed, list) and len(parsed) > _MOST_BRANCHES:
        raise CostlyError(f"a union of {len(parsed)} types at the top")
    cost = _Costs().of(parsed)
    if cost.height > _TALLEST_TYPE:
        raise CostlyError(f"types nested deeper than {_TALLEST_TYPE}")
    if cost.fields > _MOST_FIELDS:
        raise CostlyError(f"{cost.fields} fields and branches once names are written out")
    if cost.rate > _MOST_MEMORY_PER_BYTE:
        raise CostlyError(f"each byte of a datum takes up to {cost.rate:.0f} bytes of memory")
    if cost.excess > _MOST_MEMORY_FOR_NOTHING:
        raise CostlyError(
            f"a datum takes up to {cost.excess:.0f} bytes of memory that no bytes of it pay for"
        )
    return cost


class Cost(NamedTuple):
    """What a datum may cost to who builds it of Python values.

    Attributes
    ----------
    least : int
        Bytes of the smallest datum.
    base, rate : float
        A datum of ``n`` bytes takes at most ``base + rate * n`` bytes of memory.
    excess : float
        Arrays and maps left out, the most that a datum takes beyond what each byte may cost: fields of no bytes.
    height : int
        Levels of types within types.
    fields : int
        Types in it, with every name written out.
    """

    least: int
    base: float
    rate: float
    excess: float
    height: int
    fields: int

    def largest(self, memory: int) -> int:
        """Give the size of the largest datum that is sure to fit into some memory, both in bytes."""
        return int((memory - self.base) / max(self.rate, 1))


def _one(least: int, base: float, rate: float) -> Cost:
    """Cost of a value that holds no others."""
    return Cost(least, base, rate, base - _MOST_MEMORY_PER_BYTE * least, 1, 1)


# Sizes of CPython's objects; a string's characters take four bytes each if one of them is beyond UCS-2.
_LEAVES = {
    "null": _one(0, 0, 0),
    "boolean": _one(1, 0, 0),
    "int": _one(1, 32, 0),
    "long": _one(1, 32, 0),
    "float": _one(4, 24, 0),
    "double": _one(8, 24, 0),
    "bytes": _one(1, 40, 1),
    "string": _one(1, 80, 4),
}


class _Costs:
    def __init__(self) -> None:
        self._named: dict[str, Cost] = {}
        self._open: set[str] = set()

    def of(self, kind: Any) -> Cost:
        if isinstance(kind, str):
            if kind in self._open:
                raise CostlyError(f"type {kind} contains itself")
            return self._named[kind] if kind in self._named else _LEAVES[kind]
        if isinstance(kind, list):
            return _union(self._branches(kind))
        match kind["type"]:
            case "record" | "error":
                self._named[kind["name"]] = cost = self._record(kind)
            case "array":
                cost = _repeated(self._branches(kind["items"]), 56, _one(0, _SLOT, 0))
            case "map":
                key = _LEAVES["string"]
                # A dictionary's entry: at most 5/3 of 24 bytes and an index.
                cost = _repeated(self._branches(kind["values"]), 64, key._replace(base=key.base + 100))
            case "fixed":
                size = int(kind["size"])
                self._named[_own_name(kind)] = cost = _one(size, 40, 1)
            case "enum":
                self._named[_own_name(kind)] = cost = _one(1, 0, 0)
            case inner:
                cost = self.of(inner)
        return cost

    def _branches(self, kind: Any) -> list[Cost]:
        """Give the cost of each form that a value may have, the byte that tells the branch included."""
        if not isinstance(kind, list):
            return [self.of(kind)]
        branches = [self.of(branch) for branch in kind]
        paid = _MOST_MEMORY_PER_BYTE
        return [
            cost._replace(least=1 + cost.least, excess=cost.excess - paid, height=1 + cost.height)
            for cost in branches
        ]

    def _record(self, kind: dict[str, Any]) -> Cost:
        name = _own_name(kind)
        self._open.add(name)
        fields = [self.of(field["type"]) for field in kind["fields"]]
        self._open.discard(name)
        own = _dict_bytes(len(fields))
        return Cost(
            sum(field.least for field in fields),
            own + sum(field.base for field in fields),
            max((field.rate for field in fields), default=0),
            own + sum(field.excess for field in fields),
            1 + max((field.height for field in fields), default=0),
            1 + sum(field.fields for field in fields),
        )


def _union(branches: list[Cost]) -> Cost:
    return Cost(
        min((branch.least for branch in branches), default=1),
        max((branch.base for branch in branches), default=0),
        max((branch.rate for branch in branches), default=0),
        max((branch.excess for branch in branches), default=0),
        max((branch.height for branch in branches), default=1),
        1 + sum(branch.fields for branch in branches),
    )


def _repeated(branches: list[Cost], empty: int, beside: Cost) -> Cost:
    """Cost of any number of values, each with something beside it: a place in the list, or a key."""
    value = _union(branches)
    if value.least + beside.least == 0:
        raise CostlyError("an array of values that take no bytes")
    dearest = max(
        ((one.base + beside.base) / (one.least + beside.least) for one in branches),
        default=0,
    )
    rate = dearest + max(value.rate, beside.rate)
    return Cost(1, empty, rate, empty - _MOST_MEMORY_PER_BYTE, 1 + value.height, 1 + value.fields)


def _own_name(kind: dict[str, Any]) -> str:
    name = str(kind["name"])
    if name in _LEAVES or name in _OWN_NAMES:
        raise CostlyError(f"a type named {name}")
    return name


@cache
def _dict_bytes(length: int) -> int:
    return sys.getsizeof(dict.fromkeys(range(length)))
