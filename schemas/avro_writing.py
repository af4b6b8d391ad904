"""Encoding records of one schema: a function for each of its fields, put together once.

The bytes are fastavro's, for the types that our own schemas have. fastavro checks every value against every branch
and calls a function per number, which for an embedding of 64 comes to five times what encoding takes here.

Source: Avro 1.12 specification, "Binary Encoding".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from struct import Struct, pack
from typing import Any

from space2vec.schemas.avro_types import SchemaTree, type_name
from space2vec.schemas.varint import encode_long

Encoder = Callable[[Any], bytes]

_END = b"\x00"
_LONGEST_NAME = 100


def encoders(parsed: dict[str, Any]) -> dict[str, Encoder]:
    """Make the encoders of a record's fields, in the order of its schema.

    Parameters
    ----------
    parsed : dict
        As fastavro parses it. Fields may be strings, numbers, arrays, and unions of null and one of these; logical
        types are not converted.

    Returns
    -------
    dict of str to callable
        Each takes a field's value as fastavro's writer does, but an array of records that end in a float as the
        tuples of its columns, and gives its bytes. Joined they are the record.
    """
    tree = SchemaTree(parsed)
    return {field["name"]: _encoder(tree, field["type"]) for field in parsed["fields"]}


def _encoder(tree: SchemaTree, kind: Any) -> Encoder:
    kind = tree.resolve(kind)
    if isinstance(kind, list):
        at = kind.index("null")
        return _nullable(encode_long(at), encode_long(1 - at), _encoder(tree, kind[1 - at]))
    name = type_name(kind)
    if name == "array":
        items = tree.resolve(kind["items"])
        if _is_table(items):
            return _table([_encoder(tree, field["type"]) for field in items["fields"][:-1]])
        return _floats if items == "float" else _array(_encoder(tree, items))
    return _LEAVES[name]


def _nullable(null: bytes, branch: bytes, encode: Encoder) -> Encoder:
    return lambda value: null if value is None else branch + encode(value)


def _array(encode: Encoder) -> Encoder:
    def encode_array(values: Sequence[Any]) -> bytes:
        return b"".join((encode_long(len(values)), *map(encode, values), _END)) if values else _END

    return encode_array


def _floats(values: Sequence[float]) -> bytes:
    number = len(values)
    return encode_long(number) + pack(f"<{number}f", *values) + _END if number else _END


def _is_table(kind: Any) -> bool:
    return type_name(kind) == "record" and kind["fields"][-1]["type"] == "float"


def _table(names: list[Encoder]) -> Encoder:
    """Encode an array of records that end in a float, from their columns: all but the last come again with every alert."""

    @lru_cache(1024)
    def layout(*columns: tuple[Any, ...]) -> tuple[Struct, list[bytes]]:
        rows = [
            b"".join([encode(value) for encode, value in zip(names, row, strict=True)])
            for row in zip(*columns, strict=True)
        ]
        rows[0] = encode_long(len(rows)) + rows[0]
        return Struct("<" + "".join(f"{len(row)}sf" for row in rows) + "x"), rows

    def encode_table(columns: Sequence[tuple[Any, ...]]) -> bytes:
        *others, floats = columns
        if not floats:
            return _END
        struct, rows = layout(*others)
        return struct.pack(*chain.from_iterable(zip(rows, floats, strict=True)))

    return encode_table


def _string(text: str) -> bytes:
    return _remembered(text) if len(text) <= _LONGEST_NAME else _encoded(text)


def _encoded(text: str) -> bytes:
    encoded = text.encode()
    return encode_long(len(encoded)) + encoded


# Names of topics, classifiers, classes and flags come again with every alert. Longer texts are not remembered: an
# object's id may be of megabytes.
_remembered = lru_cache(1024)(_encoded)


_LEAVES: dict[str, Encoder] = {
    "int": encode_long,
    "long": encode_long,
    "float": Struct("<f").pack,
    "double": Struct("<d").pack,
    "string": _string,
}
