r"""Reading consecutive fields of a record by regular expressions made from their schema.

Avro without arrays is nearly a regular language: a nullable float is ``\x00|\x02.{4}``, a long is
``[\x80-\xff]*[\x00-\x7f]``. So the fields of a record, ten or a hundred, are one expression with a group for
each value that is wanted. Where a length decides (bytes, arrays, strings of any length) the expression ends,
Python steps over what it announced, and the next one begins behind it. For 98 fields this takes a tenth of
fastavro's time, which builds a Python object for each.

What an expression does not match is not wrong, only unusual: the caller then reads the whole datum in the
ordinary way. What it does match, fastavro would have accepted.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from space2vec.schemas.avro_types import SchemaTree
from space2vec.schemas.varint import decode_long, encode_long

# Possessive and atomic, so that a mismatch is found at once instead of by backtracking.
_LONG = r"[\x80-\xff]{0,9}+[\x00-\x7f]"
_SCALARS = {
    "null": "",
    "boolean": r"[\x00\x01]",
    "int": _LONG,
    "long": _LONG,
    "float": r".{4}",
    "double": r".{8}",
}
_LONGEST_INLINE = 127
"""Characters of the longest string that is matched inside an expression, and that in ASCII."""

_Path = tuple[str, ...]
_Record = dict[str, Any]


def _long(encoded: bytes) -> int:
    return decode_long(encoded, 0)[0]


_DECODERS: dict[str, Callable[[bytes], Any]] = {
    "boolean": lambda encoded: encoded == b"\x01",
    "int": _long,
    "long": _long,
    "float": lambda encoded: struct.unpack("<f", encoded)[0],
    "double": lambda encoded: struct.unpack("<d", encoded)[0],
}


class _IrregularError(Exception):
    """The type has no regular expression."""


class _Leaf(NamedTuple):
    """A wanted value, and where it goes."""

    group: int
    decode: Callable[[bytes], Any]
    parent: int
    name: str


class _Text(NamedTuple):
    """A string or bytes, the last group of its expression being the length."""

    is_string: bool
    parent: int
    name: str | None
    """``None`` if it is not wanted."""


class _Array(NamedTuple):
    """An array or map of which nothing is wanted; the last group of its expression is empty, or missing."""

    match_record: Callable[..., re.Match[bytes] | None]


class _Segment(NamedTuple):
    match: Callable[..., re.Match[bytes] | None]
    leaves: tuple[_Leaf, ...]
    groups: int
    then: _Text | _Array | None


class RegularReader:
    """Reads some consecutive fields of a record; made by :meth:`compile`."""

    def __init__(self, segments: list[_Segment], records: list[tuple[int, str]]) -> None:
        self._segments = segments
        self._records = records

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
                compiler.add(field["type"], (field["name"],), 0)
        except _IrregularError:
            return None
        compiler.close(None)
        return cls(compiler.segments, compiler.records)

    def may_begin(self, body: bytes, start: int) -> bool:
        """Tell cheaply whether the fields could begin at a position."""
        return self._segments[0].match(body, start) is not None

    def read(self, body: bytes, start: int) -> tuple[_Record, int] | None:
        """Read the fields from a position on.

        Returns
        -------
        record : dict
            The wanted values, nested as in the schema.
        end : int
            Position after the last field.

        Raises
        ------
        ValueError
            If a string is not UTF-8, or the bytes end early.
        """
        records: list[_Record] = [{}]
        for parent, name in self._records:
            records.append({})
            records[parent][name] = records[-1]
        for match, leaves, groups, then in self._segments:
            found = match(body, start)
            if found is None:
                return None
            start = found.end()
            for group, decode, parent, name in leaves:
                encoded = found[group]
                records[parent][name] = None if encoded is None else decode(encoded)
            announced = found[groups] if groups else None
            if isinstance(then, _Text):
                value: str | bytes | None = None
                if announced is not None:
                    value, start = _text(body, start, _long(announced), then)
                if then.name is not None:
                    records[then.parent][then.name] = value
            elif then is not None and announced is not None:
                start = _past_array(body, start, then)
                if start < 0:
                    return None
        return records[0], start


def _text(body: bytes, start: int, length: int, text: _Text) -> tuple[str | bytes, int]:
    end = start + length
    if not start <= end <= len(body):
        raise ValueError("a string or bytes field runs beyond the end")
    return body[start:end].decode() if text.is_string else body[start:end], end


def _past_array(body: bytes, start: int, array: _Array) -> int:
    """Walk over an array; -1 if something in it does not match."""
    while True:
        count, start = decode_long(body, start)
        if count <= 0:
            # A negative count, with the block's size behind it, is legal but nobody's habit.
            return start if count == 0 else -1
        for _ in range(count):
            found = array.match_record(body, start)
            if found is None:
                return -1
            start = found.end()


class _Compiler:
    """Walks through the types in wire order, building expressions."""

    def __init__(self, tree: SchemaTree, wanted: Collection[str]) -> None:
        self.segments: list[_Segment] = []
        self.records: list[tuple[int, str]] = []
        self._tree = tree
        self._wanted = wanted
        self._pattern: list[str] = []
        self._leaves: list[_Leaf] = []
        self._groups = 0

    def add(self, kind: Any, path: _Path, parent: int) -> None:
        """Append one field's type: as it is, or in a union with null."""
        null, value, kind = "", "", self._tree.resolve(kind)
        if isinstance(kind, list) and len(kind) == 2 and kind.count("null") == 1:
            at = kind.index("null")
            null, value, kind = _byte(2 * at), _byte(2 - 2 * at), self._tree.resolve(kind[1 - at])
        name = _type_name(kind)
        wanted = ".".join(path) in self._wanted
        if name == "record" and self._holds_wanted(path):
            # One that holds what is wanted must be there, or the datum is unusual.
            self._pattern.append(value)
            self._add_record(kind, path, parent)
        elif name in ("string", "bytes"):
            self._add_group(_either(null, value, f"({_LONG})"))
            self.close(_Text(name == "string", parent, path[-1] if wanted else None))
        elif name in ("array", "map"):
            flat = (
                self._flat(kind["items"])
                if name == "array"
                else _INLINE["string"] + self._flat(kind["values"])
            )
            item = re.compile(flat.encode("ascii"), re.DOTALL)
            self._add_group(_either(null, value, "()"))
            self.close(_Array(item.match))
        elif wanted:
            if name not in _DECODERS:
                raise _IrregularError
            self._add_group(_either(null, value, f"({_SCALARS[name]})"))
            self._leaves.append(_Leaf(self._groups, _DECODERS[name], parent, path[-1]))
        else:
            self._pattern.append(_either(null, value, self._flat(kind)))

    def close(self, then: _Text | _Array | None) -> None:
        """End the segment."""
        expression = re.compile("".join(self._pattern).encode("ascii"), re.DOTALL)
        self.segments.append(_Segment(expression.match, tuple(self._leaves), self._groups, then))
        self._pattern, self._leaves, self._groups = [], [], 0

    def _add_record(self, kind: _Record, path: _Path, parent: int) -> None:
        self.records.append((parent, path[-1]))
        here = len(self.records)
        for field in kind["fields"]:
            self.add(field["type"], (*path, field["name"]), here)

    def _add_group(self, pattern: str) -> None:
        self._pattern.append(pattern)
        self._groups += 1

    def _holds_wanted(self, path: _Path) -> bool:
        prefix = ".".join(path) + "."
        return any(one.startswith(prefix) for one in self._wanted)

    def _flat(self, kind: Any) -> str:
        """Give the expression of a type of which nothing is wanted."""
        kind = self._tree.resolve(kind)
        if isinstance(kind, list):
            branches = (_byte(2 * index) + self._flat(branch) for index, branch in enumerate(kind))
            return f"(?>{'|'.join(branches)})"
        name = _type_name(kind)
        if name == "record":
            return "".join(self._flat(field["type"]) for field in kind["fields"])
        if name in ("string", "bytes"):
            return _INLINE[name]
        if name in ("array", "map"):
            return _byte(0)
        if name == "fixed":
            return f".{{{kind['size']}}}"
        if name not in _SCALARS:
            raise _IrregularError
        return _SCALARS[name]


def _type_name(kind: Any) -> str:
    return str(kind["type"]) if isinstance(kind, dict) else "union" if isinstance(kind, list) else str(kind)


def _either(null: str, value: str, pattern: str) -> str:
    """Put a type's expression into its union with null, which is told by the first byte."""
    return f"(?>{null}|{value}{pattern})" if value else pattern


def _byte(value: int) -> str:
    return f"\\x{value:02x}"


def _inline(character: str) -> str:
    """Match a string of any length up to the longest, one alternative for each."""
    lengths = ("".join(map(_byte, encode_long(length))) for length in range(_LONGEST_INLINE + 1))
    return f"(?>{'|'.join(f'{length}{character}{{{n}}}' for n, length in enumerate(lengths))})"


_INLINE = {"string": _inline(r"[\x00-\x7f]"), "bytes": _inline(".")}
