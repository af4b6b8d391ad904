from __future__ import annotations

from io import BytesIO
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from space2vec.schemas.annotation_avro import our_encoders, parsed_schema
from space2vec.schemas.avro_types import SchemaTree
from space2vec.schemas.avro_writing import Encoder, encoders

LEAVES: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(max_size=90),
    "float": st.floats(width=32),
    "double": st.floats(),
    "int": st.integers(-(1 << 31), (1 << 31) - 1),
    "long": st.integers(-(1 << 63), (1 << 63) - 1),
}


def values(tree: SchemaTree, kind: Any) -> st.SearchStrategy[Any]:
    """Draw any value of a type."""
    kind = tree.resolve(kind)
    if isinstance(kind, list):
        return st.none() | values(tree, next(branch for branch in kind if branch != "null"))
    name = kind["type"] if isinstance(kind, dict) else kind
    if name == "record":
        return st.fixed_dictionaries({field["name"]: values(tree, field["type"]) for field in kind["fields"]})
    if name == "array":
        return st.lists(values(tree, kind["items"]), max_size=5)
    return LEAVES[name]


def by_fastavro(parsed: Any, record: Any) -> bytes:
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, parsed, record)
    return buffer.getvalue()


def joined(fields: dict[str, Encoder], record: dict[str, Any]) -> bytes:
    return b"".join(encode(record[name]) for name, encode in fields.items())


def by_column(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for row in rows) for name in ("label", "classId", "probability")]


@pytest.mark.parametrize("name", ["annotation", "classification"])
@settings(max_examples=60)
@given(st.data())
def test_bytes_are_fastavros(name: str, data: st.DataObject) -> None:
    parsed = parsed_schema(name)
    record = data.draw(values(SchemaTree(parsed), parsed))
    columns = {table: by_column(record[table]) for table in ("classifications", "kinds", "causes")}
    assert joined(our_encoders(name), record | columns) == by_fastavro(parsed, record)


def test_null_may_be_the_second_branch() -> None:
    fields = [{"name": "a", "type": ["string", "null"]}, {"name": "b", "type": ["null", "double"]}]
    parsed = fastavro.parse_schema({"type": "record", "name": "x", "fields": fields})
    for record in ({"a": "é", "b": None}, {"a": None, "b": 0.5}):
        assert joined(encoders(parsed), record) == by_fastavro(parsed, record)


def test_an_embedding_as_it_comes() -> None:
    fields = [{"name": "embedding", "type": {"type": "array", "items": "float"}}]
    parsed = fastavro.parse_schema({"type": "record", "name": "x", "fields": fields})
    embedding = tuple(np.random.default_rng(1).normal(size=64).astype(np.float32).tolist())
    record = {"embedding": embedding}
    assert joined(encoders(parsed), record) == by_fastavro(parsed, record)


def test_long_texts_are_not_remembered() -> None:
    from space2vec.schemas import avro_writing

    avro_writing._remembered.cache_clear()
    for number in range(3):
        avro_writing._string("x" * 1000 + str(number))
    assert avro_writing._remembered.cache_info().currsize == 0
    assert avro_writing._string("core") == b"\x08core"
    assert avro_writing._remembered.cache_info().currsize == 1
