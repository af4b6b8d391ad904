"""Rows of Parquet tables as packets: brokers such as Fink keep alerts so, stamps included.

A row becomes the Avro container that Spark would write of it: fields of the same names and order, records where the
table has structs, everything nullable that is so in the table. So it is opened, rejected and annotated as any packet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from typing import IO, Any, Final

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq

from space2vec.schemas.container import compact_json, container_header, write_container

_ROWS: Final = 32
"""Decoded at a time: with their stamps they are a few MB."""
_NAME: Final = "topLevelRecord"

_PLAIN: Final[tuple[tuple[Callable[[Any], bool], Any], ...]] = (
    (pa.types.is_null, "null"),
    (pa.types.is_boolean, "boolean"),
    (lambda kind: pa.types.is_integer(kind) and kind.bit_width < 32, "int"),
    (pa.types.is_int32, "int"),
    (pa.types.is_integer, "long"),
    (pa.types.is_float64, "double"),
    (pa.types.is_floating, "float"),
    (pa.types.is_string, "string"),
    (pa.types.is_large_string, "string"),
    (pa.types.is_binary, "bytes"),
    (pa.types.is_large_binary, "bytes"),
    (pa.types.is_fixed_size_binary, "bytes"),
    (pa.types.is_timestamp, {"type": "long", "logicalType": "timestamp-micros"}),
    (pa.types.is_date32, {"type": "int", "logicalType": "date"}),
)


def packets_of(stored: IO[bytes]) -> Iterator[tuple[float, Callable[[], bytes]]]:
    """Take a table apart: for each row, the share of the table that is read with it, and how to have its packet.

    Parameters
    ----------
    stored : binary file
        The table; it is read here and there, so it must be seekable.

    Raises
    ------
    ValueError
        If it is no Parquet table, is damaged, or has a column for which Avro has no type.
    """
    try:
        table = pq.ParquetFile(stored)
        schema = avro_schema(table.schema_arrow)
        header, parsed = container_header(compact_json(schema)), fastavro.parse_schema(schema)
        done, rows = 0, table.metadata.num_rows
        for batch in table.iter_batches(_ROWS):
            for row in batch.to_pylist():
                done += 1
                yield done / rows, lambda row=row: _packet(header, parsed, row)  # type: ignore[misc]
    except OSError as error:
        if error.errno is not None:  # storage failed
            raise
        raise ValueError(str(error)) from error  # Arrow's word for a damaged file


def avro_schema(schema: pa.Schema) -> dict[str, Any]:
    """Give the Avro schema of a table's rows.

    Raises
    ------
    ValueError
        If a column has a type that Avro has none for.
    """
    return {
        "type": "record",
        "name": _NAME,
        "fields": [{"name": field.name, "type": _type(field, f"{_NAME}.{field.name}")} for field in schema],
    }


def _type(field: pa.Field, path: str) -> Any:
    kind = field.type
    if pa.types.is_struct(kind):
        inside = [
            {"name": each.name, "type": _type(each, f"{path}.{each.name}")}
            for each in (kind.field(place) for place in range(kind.num_fields))
        ]
        namespace, _, name = path.rpartition(".")
        found: Any = {"type": "record", "name": name, "namespace": namespace, "fields": inside}
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        found = {"type": "array", "items": _type(kind.value_field, f"{path}.{kind.value_field.name}")}
    else:
        found = next((name for is_it, name in _PLAIN if is_it(kind)), None)
        if found is None:
            raise ValueError(f"column {path.removeprefix(_NAME + '.')}: Avro has no type for {kind}")
    return ["null", found] if field.nullable and found != "null" else found


def _packet(header: bytes, schema: Any, row: dict[str, Any]) -> bytes:
    body = BytesIO()
    fastavro.schemaless_writer(body, schema, row)
    return write_container(header, body.getvalue())
