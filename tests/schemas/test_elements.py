"""Whatever the shapes that were met, elements are taken exactly where the expression for any element takes them."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import fastavro
from hypothesis import given, settings
from hypothesis import strategies as st

from space2vec.schemas import elements
from space2vec.schemas.avro_types import SchemaTree
from space2vec.schemas.elements import Elements
from space2vec.schemas.regular import RegularReader
from space2vec.schemas.varint import decode_long, encode_long

KINDS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "flag": ("boolean", st.booleans()),
    "pid": ("long", st.integers(-(1 << 40), 1 << 40)),
    "mag": (["null", "float"], st.none() | st.floats(width=32)),
    "jd": ("double", st.floats()),
    "name": (["null", "string"], st.none() | st.text("ztf_", max_size=3)),
    "raw": ("bytes", st.binary(max_size=2)),
    "sum": ({"type": "fixed", "name": "md5", "size": 2}, st.binary(min_size=2, max_size=2)),
    "more": ({"type": "array", "items": "int"}, st.just([])),
    "inner": (
        {"type": "record", "name": "in", "fields": [{"name": "fid", "type": ["int", "null"]}]},
        st.fixed_dictionaries({"fid": st.none() | st.integers(-100, 100)}),
    ),
}
ITEM = {
    "type": "record",
    "name": "prv",
    "fields": [{"name": n, "type": kind} for n, (kind, _) in KINDS.items()],
}
ARRAY, MAP = {"type": "array", "items": ITEM}, {"type": "map", "values": ITEM}
VALUES = st.fixed_dictionaries({name: values for name, (_, values) in KINDS.items()})


def walker(kind: dict[str, Any]) -> Elements:
    fields = [{"name": "prv_candidates", "type": kind}]
    parsed: Any = fastavro.parse_schema({"type": "record", "name": "alert", "fields": fields})
    reader = RegularReader.compile(SchemaTree(parsed), parsed["fields"], ())
    assert reader is not None
    found = next(segment.then for segment in reader._segments if segment.then is not None)
    assert hasattr(found, "elements")
    walks: Elements = found.elements
    return walks


def encoded(kind: dict[str, Any], value: Any) -> bytes:
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(kind), value)
    return buffer.getvalue()


def one_by_one(walks: Elements, source: bytes, start: int, stop: int) -> int:
    """What :meth:`Elements.step_over` does, by the expression for any element alone."""
    while True:
        count, start = decode_long(source, start)
        if count <= 0:
            return start if count == 0 else -1
        for _ in range(count):
            found = walks._match(source, start, stop)
            if found is None:
                return -1
            start = found.end()


def either(way: Any, *arguments: Any) -> Any:
    try:
        return way(*arguments)
    except ValueError:
        return "the bytes end"


WALKERS = {"array": walker(ARRAY), "map": walker(MAP)}
"""Kept over all examples: shapes that were learnt from one must not lead another astray."""


@settings(max_examples=400)
@given(st.data())
def test_takes_what_the_expression_takes(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(("array", "map")))
    walks = WALKERS[name]
    walks._lessons = 3
    if name == "array":
        source = bytearray(encoded(ARRAY, data.draw(st.lists(VALUES, max_size=6))))
    else:
        source = bytearray(
            encoded(MAP, data.draw(st.dictionaries(st.text("ab", max_size=2), VALUES, max_size=4)))
        )
    for _ in range(data.draw(st.integers(0, 3))):
        source[data.draw(st.integers(0, len(source) - 1))] = data.draw(st.integers(0, 255))
    stop = len(source) - data.draw(st.integers(0, 3))
    whole = bytes(source) + data.draw(st.binary(max_size=8))
    expected = either(one_by_one, walks, whole, 0, stop)
    assert either(walks.step_over, whole, 0, stop) == expected
    assert either(walks.step_over, whole, 0, stop) == expected, "with what was learnt from it"


def test_does_not_run_beyond_the_end() -> None:
    walks = walker({"type": "array", "items": "double"})
    source = encode_long(3) + bytes(24) + b"\x00"
    assert walks.step_over(source, 0, len(source)) == len(source)
    for stop in (9, 17, 24):
        assert walks.step_over(source, 0, stop) == -1
    assert walks.step_over(encode_long(1 << 50) + bytes(24), 0, 27) == -1


def test_learns_no_more_than_it_may() -> None:
    walks = walker({"type": "array", "items": "string"})
    for length in range(100):
        source = encode_long(1) + encode_long(length) + b"x" * length + b"\x00"
        assert walks.step_over(source, 0, len(source)) == len(source)
        assert len(walks._shapes) <= elements._SHAPES
    assert walks._lessons == elements._LESSONS - 100
    walks._lessons = 0
    kept = walks._shapes
    source = encode_long(1) + encode_long(120) + b"x" * 120 + b"\x00"
    assert walks.step_over(source, 0, len(source)) == len(source)
    assert walks._shapes == kept


def test_keeps_what_it_learnt_before_something_that_does_not_match() -> None:
    walks = walker({"type": "array", "items": "boolean"})
    source = encode_long(2) + b"\x01\x07\x00"
    assert walks.step_over(source, 0, len(source)) == -1
    assert len(walks._shapes) == elements._LESSONS - walks._lessons == 1
