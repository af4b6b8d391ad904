from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import fastavro
import pytest

from space2vec.schemas.errors import PacketError, Reason
from space2vec.schemas.writer_schema import writer_schema


def record(*fields: Any, name: str = "alert", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields), **more}


def field(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


def array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


@pytest.mark.parametrize("form", [json.dumps, lambda s: json.dumps(s).encode(), dict])
def test_takes_text_bytes_and_json(form: Any) -> None:
    schema = record(field("candid", "long", default=0), doc="kept")
    writer = writer_schema(form(schema))
    assert writer.schema == schema
    assert not writer.repaired


def test_fingerprint_is_that_of_the_canonical_form() -> None:
    plain = writer_schema(record(field("candid", "long")))
    told = writer_schema(record(field("candid", {"type": "long"}, doc="id", default=1), doc="an alert"))
    other = writer_schema(record(field("candid", "int")))
    assert plain.fingerprint == told.fingerprint != other.fingerprint


def test_repairs_defaults_of_the_wrong_type() -> None:
    schema = record(field("rb", "double", default=None), field("n", ["int", "null"], default=0))
    with pytest.raises(fastavro.schema.SchemaParseException):
        fastavro.parse_schema(schema)
    writer = writer_schema(schema)
    assert writer.repaired
    fastavro.parse_schema(writer.schema)
    assert fastavro.schemaless_reader(BytesIO(bytes(8) + b"\x02"), writer.parsed, None) == {
        "rb": 0.0,
        "n": None,
    }


@pytest.mark.parametrize("namespace", [{}, {"namespace": "atlas"}])
def test_repairs_types_defined_twice(namespace: dict[str, str]) -> None:
    cutout = record(field("stampData", "bytes"), name="cutout")
    schema = record(field("a", cutout), field("b", ["null", cutout]), **namespace)
    with pytest.raises(fastavro.schema.SchemaParseException):
        fastavro.parse_schema(schema)
    writer = writer_schema(schema)
    assert writer.repaired
    fastavro.parse_schema(writer.schema)
    read = fastavro.schemaless_reader(BytesIO(b"\x02x\x02\x02y"), writer.parsed, None)
    assert read == {"a": {"stampData": b"x"}, "b": {"stampData": b"y"}}


def test_takes_a_union_at_the_top() -> None:
    writer = writer_schema([record(field("x", "int"), name="other"), record(field("candid", "long"))])
    assert fastavro.schemaless_reader(BytesIO(b"\x02\x0a"), writer.parsed, None) == {"candid": 5}


def test_reads_numbers_as_they_are_on_the_wire_and_keeps_logical_types_in_the_schema() -> None:
    stamp = {"type": "long", "logicalType": "timestamp-micros"}
    writer = writer_schema(record(field("timestamp", ["null", stamp])))
    beyond_year_9999 = b"\x02" + b"\xfe" + b"\xff" * 8 + b"\x01"
    read = fastavro.schemaless_reader(BytesIO(beyond_year_9999), writer.parsed, None)
    assert read == {"timestamp": (1 << 63) - 1}
    assert writer.schema["fields"][0]["type"][1] == stamp


def doubling(levels: int) -> dict[str, Any]:
    """Make a schema whose record holds 2**levels others, all of them empty."""
    fields = [field("r0", record(name="R0"))]
    for level in range(1, levels):
        halves = [field(half, f"R{level - 1}") for half in "ab"]
        fields.append(field(f"r{level}", record(*halves, name=f"R{level}")))
    return record(*fields)


def chain(levels: int) -> dict[str, Any]:
    """Make a schema with records nested by name."""
    fields = [field("r0", record(field("i", "int"), name="R0"))]
    for level in range(1, levels):
        fields.append(field(f"r{level}", record(field("a", f"R{level - 1}"), name=f"R{level}")))
    return record(*fields)


def nested(levels: int) -> Any:
    kind: Any = "int"
    for _ in range(levels):
        kind = array(kind)
    return record(field("a", kind))


HOSTILE = {
    "recursive through a union": record(field("next", ["null", "alert"])),
    "recursive without end": record(field("next", "alert")),
    "recursive through an array": record(field("next", array("alert"))),
    "array of nulls": record(field("a", array("null"))),
    "array of empty records": record(field("a", array(record(name="empty")))),
    "array of fixed of no size": record(field("a", array({"type": "fixed", "name": "f", "size": 0}))),
    "array of many nulls and one byte": record(
        field(
            "a", array(record(field("i", "int"), *(field(f"n{i}", "null") for i in range(100)), name="wide"))
        )
    ),
    "map of records of many nulls": record(
        field("m", {"type": "map", "values": record(*(field(f"n{i}", "null") for i in range(100)), name="w")})
    ),
    "records of nulls": record(*(field(f"n{i}", "null") for i in range(1000))),
    "records of nulls beside a byte": record(
        field("b", "boolean"), *(field(f"n{i}", "null") for i in range(1000))
    ),
    "many types at the top": [record(field("candid", "long"), name=f"alert{i}") for i in range(100)],
    "records that double": doubling(40),
    "records nested by name": chain(4000),
    "arrays nested": nested(70),
    "arrays nested beyond Python's stack": nested(5000),
    "very many fields": record(*(field(f"f{i}", "int") for i in range(40_000))),
}


@pytest.mark.parametrize("schema", HOSTILE.values(), ids=HOSTILE.keys())
def test_refuses_schemas_that_run_away(schema: Any) -> None:
    with pytest.raises(PacketError, match="refused") as refused:
        writer_schema(schema)
    assert refused.value.reason is Reason.BAD_SCHEMA


ALLOWED = {
    "arrays of arrays": record(field("a", array(array("int")))),
    "a null field": record(field("n", "null")),
    "many nullable fields": record(*(field(f"n{i}", ["null", "double"]) for i in range(1500))),
    "a large record that may be null": record(
        field("r", ["null", record(*(field(f"n{i}", "double") for i in range(1500)), name="large")])
    ),
    "an empty record": record(field("r", record(name="empty"))),
    "a type used often": record(field("a", record(field("i", "int"), name="x")), field("b", array("x"))),
    "array of nullable": record(field("a", array(["null", "int"]))),
    "map": record(field("m", {"type": "map", "values": "null"})),
}


@pytest.mark.parametrize("schema", ALLOWED.values(), ids=ALLOWED.keys())
def test_takes_unusual_schemas_that_do_not(schema: Any) -> None:
    assert writer_schema(schema).schema == schema


@pytest.mark.parametrize(
    "source",
    [
        *[b"", b"\xff\xfe", "not json", "[" * 100_000, "{}", "1", '{"type":"record","name":"x"'],
        '{"type":"record","name":"x","fields":[{"name":"a","type":"nope"}]}',
        '{"type":"record","fields":[]}',
    ],
    ids=range(9),
)
def test_says_that_it_is_no_schema(source: str | bytes) -> None:
    with pytest.raises(PacketError) as refused:
        writer_schema(source)
    assert refused.value.reason is Reason.BAD_SCHEMA
    assert len(refused.value.detail) <= 500
