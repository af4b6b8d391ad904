r"""Reading consecutive fields of a record by a regular expression made from their schema.

Avro is nearly a regular language: a nullable float is ``\x00|\x02.{4}``, a long ``[\x80-\xff]*[\x00-\x7f]``, and
a short string one of as many alternatives as it may have lengths. So the fields of a record, ten or a hundred,
are one expression, with a group for each value that is wanted. Where an array stands or bytes do, the
expression ends, Python steps over what they announce, and the next begins behind them. For 98 fields this
takes a tenth of fastavro's time, which builds a Python object for each.

What an expression does not match is not wrong, only unusual: the caller then reads the whole datum in the
ordinary way. What it does match, fastavro would have accepted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from struct import Struct
from typing import Any, NamedTuple

from space2vec.schemas.avro_types import SchemaTree, type_name
from space2vec.schemas.elements import Elements, Match
from space2vec.schemas.varint import decode_long, encode_long

_LONGEST_STRING = 127
"""Characters of the longest string that is matched, and that in ASCII."""
_LONGEST_EXPRESSION = 200_000
"""Characters of the longest expressions that are made for one reader: those of real schemas have a third."""
_TWO_BYTE_LENGTH = 64
"""Characters from which on a string's length takes two bytes."""

_Type = dict[str, Any]
_Values = dict[str, Any]


def _byte(value: int) -> str:
    return f"\\x{value:02x}"


def _counted(character: str) -> str:
    """Match a string of any length up to the longest, one alternative for each."""
    lengths = ("".join(map(_byte, encode_long(length))) for length in range(_LONGEST_STRING + 1))
    return f"(?:{'|'.join(f'{length}{character}{{{n}}}' for n, length in enumerate(lengths))})"


# Possessive, so that a mismatch is found at once. The alternatives of a union or string need not be atomic for
# that, as their first bytes differ; and four dots are matched faster than one dot four times.
_LONG = r"[\x80-\xff]{0,9}+[\x00-\x7f]"
_EXPRESSIONS = {
    "null": "",
    "boolean": r"[\x00\x01]",
    "int": _LONG,
    "long": _LONG,
    "float": r"....",
    "double": r"........",
    "string": _counted(r"[\x00-\x7f]"),
    "bytes": _counted("."),
}
_NUMBERS = frozenset(("boolean", "int", "long", "float", "double"))
_LONGEST_RUN = 8
"""Numbers that may be null, in a row, that are tried together."""
_FLOAT, _DOUBLE = Struct("<f"), Struct("<d")


def _long(encoded: bytes) -> int:
    return decode_long(encoded, 0)[0]


def _string(encoded: bytes) -> str:
    return encoded[1 if len(encoded) <= _TWO_BYTE_LENGTH else 2 :].decode("ascii")


_DECODERS: dict[str, Callable[[bytes], Any]] = {
    "boolean": lambda encoded: encoded == b"\x01",
    "int": _long,
    "long": _long,
    "float": lambda encoded: _FLOAT.unpack(encoded)[0],
    "double": lambda encoded: _DOUBLE.unpack(encoded)[0],
    "string": _string,
}


class _IrregularError(Exception):
    """The type has no regular expression."""


class _Nullable(NamedTuple):
    """A number in a union with null, of which nothing is wanted."""

    null: str
    value: str


_Part = str | _Nullable


class _Leaf(NamedTuple):
    """A wanted value, and where it goes."""

    group: int
    decode: Callable[[bytes], Any]
    name: str


class _Bytes(NamedTuple):
    """Wanted bytes; the last group of the expression before them is their length."""

    name: str

    def step_over(
        self, source: bytes, start: int, stop: int, announced: bytes | None, values: _Values
    ) -> int:
        """Take the bytes; give the position behind them, -1 if they run beyond the end."""
        if announced is None:
            values[self.name] = None
            return start
        end = start + _long(announced)
        if not start <= end <= stop:
            return -1
        values[self.name] = memoryview(source)[start:end]
        return end


class _Array(NamedTuple):
    """An array or map of which nothing is wanted; the group before it is empty."""

    elements: Elements

    def step_over(
        self, source: bytes, start: int, stop: int, announced: bytes | None, values: _Values
    ) -> int:
        """Walk over its blocks; give the position behind them, -1 if something in them does not match."""
        return start if announced is None else self.elements.step_over(source, start, stop)


class _Segment(NamedTuple):
    match: Match
    leaves: tuple[_Leaf, ...]
    groups: int
    then: _Bytes | _Array | None


class RegularReader:
    """Reads some consecutive fields of a record; made by :meth:`compile`."""

    def __init__(self, segments: list[_Segment]) -> None:
        self._segments = segments
        self.contents = tuple(one.then.name for one in segments if isinstance(one.then, _Bytes))
        """Names of the wanted bytes, in their order."""

    @classmethod
    def compile(
        cls, tree: SchemaTree, fields: list[dict[str, Any]], wanted: Collection[str]
    ) -> RegularReader | None:
        """Make the expressions; ``None`` if the fields have none.

        Parameters
        ----------
        tree : SchemaTree
            The whole schema, for named types.
        fields : list of dict
            Consecutive fields of the record.
        wanted : collection of str
            Dotted names of the values to give.
        """
        compiler = _Compiler(tree, wanted)
        try:
            for field in fields:
                compiler.add(field["type"], field["name"])
            compiler.close(None)
        except _IrregularError:
            return None
        return cls(compiler.segments)

    def may_begin(self, source: bytes, start: int, stop: int) -> bool:
        """Tell cheaply whether the fields could begin at a position."""
        return self._segments[0].match(source, start, stop) is not None

    def read(self, source: bytes, start: int, stop: int) -> tuple[_Values, int] | None:
        """Read the fields between two positions.

        Returns
        -------
        values : dict
            The wanted values by dotted name; bytes as views of the source.
        end : int
            Position after the last field.

        Raises
        ------
        ValueError
            If the bytes end early.
        """
        values: _Values = {}
        for match, leaves, groups, then in self._segments:
            found = match(source, start, stop)
            if found is None:
                return None
            start = found.end()
            for group, decode, name in leaves:
                encoded = found[group]
                values[name] = None if encoded is None else decode(encoded)
            if then is not None:
                start = then.step_over(source, start, stop, found[groups], values)
                if start < 0:
                    return None
        return values, start


class _Compiler:
    """Walks through the types in wire order, building expressions."""

    def __init__(self, tree: SchemaTree, wanted: Collection[str]) -> None:
        self.segments: list[_Segment] = []
        self._tree = tree
        self._wanted = wanted
        self._pattern: list[_Part] = []
        self._leaves: list[_Leaf] = []
        self._groups = 0
        self._length = 0

    def add(self, kind: Any, path: str) -> None:
        """Append one field's type: as it is, or in a union with null."""
        null, value, union = "", "", kind
        kind = self._tree.resolve(kind)
        if isinstance(kind, list) and len(kind) == 2 and kind.count("null") == 1:
            at = kind.index("null")
            null, value, kind = _byte(2 * at), _byte(2 - 2 * at), self._tree.resolve(kind[1 - at])
        name = type_name(kind)
        wanted = path in self._wanted
        if name == "record" and self._holds_wanted(path):
            # One that holds what is wanted must be there, or the datum is unusual.
            self._pattern.append(value)
            self._add_record(kind, path)
        elif name == "bytes" and wanted:
            self._add_group(_either(null, value, f"({_LONG})"))
            self.close(_Bytes(path))
        elif name in ("array", "map"):
            kinds = (kind["items"],) if name == "array" else ("string", kind["values"])
            match = self._compiled("".join(map(self._flat, kinds)))
            self._add_group(_either(null, value, "()"))
            self.close(_Array(Elements(self._tree, kinds, match)))
        elif wanted:
            if name not in _DECODERS:
                raise _IrregularError
            self._add_group(_either(null, value, f"({_EXPRESSIONS[name]})"))
            self._leaves.append(_Leaf(self._groups, _DECODERS[name], path))
        else:
            self._pattern += self._parts(union)

    def close(self, then: _Bytes | _Array | None) -> None:
        """End the segment."""
        match = self._compiled(_joined(self._pattern))
        self.segments.append(_Segment(match, tuple(self._leaves), self._groups, then))
        self._pattern, self._leaves, self._groups = [], [], 0

    def _compiled(self, pattern: str) -> Match:
        self._length += len(pattern)
        if self._length > _LONGEST_EXPRESSION:
            raise _IrregularError
        return re.compile(pattern.encode("ascii"), re.DOTALL).match

    def _add_record(self, kind: _Type, path: str) -> None:
        for field in kind["fields"]:
            self.add(field["type"], f"{path}.{field['name']}")

    def _add_group(self, pattern: str) -> None:
        self._pattern.append(pattern)
        self._groups += 1

    def _holds_wanted(self, path: str) -> bool:
        return any(one.startswith(f"{path}.") for one in self._wanted)

    def _flat(self, kind: Any) -> str:
        """Give the expression of a type of which nothing is wanted."""
        return _joined(self._parts(kind))

    def _parts(self, kind: Any) -> list[_Part]:
        kind = self._tree.resolve(kind)
        if isinstance(kind, list):
            branches = [_byte(2 * index) + self._flat(branch) for index, branch in enumerate(kind)]
            if len(kind) == 2 and "null" in kind and not _NUMBERS.isdisjoint(map(type_name, kind)):
                null = kind.index("null")
                return [_Nullable(branches[null], branches[1 - null])]
            return [f"(?:{'|'.join(branches)})"]
        name = type_name(kind)
        if name == "record":
            return [part for field in kind["fields"] for part in self._parts(field["type"])]
        if name in ("array", "map"):
            return [_byte(0)]
        if name == "fixed":
            return [f".{{{kind['size']}}}"]
        if name not in _EXPRESSIONS:
            raise _IrregularError
        return [_EXPRESSIONS[name]]


def _joined(parts: Iterable[_Part]) -> str:
    """Write parts as one expression.

    Of neighbours that may be null mostly all are there (a detection) or none is (an upper limit). So runs of them
    are first tried as that: one choice instead of many. No datum has two readings, so the first that matches is
    final, which atomic groups say.
    """
    whole: list[str] = []
    run: list[_Nullable] = []
    for part in (*parts, ""):
        if run and (isinstance(part, str) or len(run) == _LONGEST_RUN):
            nulls, values = ("".join(column) for column in zip(*run, strict=True))
            each = "".join(f"(?:{null}|{value})" for null, value in run)
            whole.append(f"(?>{values}|{nulls}|{each})")
            run = []
        if isinstance(part, str):
            whole.append(part)
        else:
            run.append(part)
    return "".join(whole)


def _either(null: str, value: str, pattern: str) -> str:
    """Put a type's expression into its union with null, which is told by the first byte."""
    return f"(?:{null}|{value}{pattern})" if value else pattern
