"""Making a :class:`WriterSchema` of what a container's header or a registry holds, repaired where needed."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import fastavro
from fastavro.schema import to_parsing_canonical_form

from space2vec.schemas.errors import PacketError, Reason
from space2vec.schemas.packet import WriterSchema
from space2vec.schemas.schema_cost import CostlyError, check_cost, check_shape


def writer_schema(source: str | bytes | dict[str, Any] | list[Any]) -> WriterSchema:
    """Parse a writer schema, for good.

    Real packets carry schemas that Avro libraries refuse: defaults of the wrong type (WINTER, TURBO), the
    same record defined twice (ATLAS). Neither changes a byte of the data, so both are repaired.

    Parameters
    ----------
    source : str, bytes, dict or list
        The schema: JSON text, or what it parses to.

    Raises
    ------
    PacketError
        ``BAD_SCHEMA`` if it is not an Avro schema, or one that would let a small packet cost unbounded time.
    """
    try:
        schema = json.loads(source) if isinstance(source, (str, bytes)) else source
        check_shape(schema)
        parsed, repaired = _parse(schema)
        cost = check_cost(parsed)
        fingerprint = hashlib.sha256(to_parsing_canonical_form(parsed).encode()).hexdigest()
    except CostlyError as error:
        raise PacketError(Reason.BAD_SCHEMA, f"refused: {error}") from None
    except Exception as error:  # noqa: BLE001
        # fastavro answers a malformed schema with whatever its code runs into: KeyError, TypeError, ...
        # Its words may hold lone surrogates of the schema's JSON, which cannot be sent on.
        detail = f"{type(error).__name__}: {error}"[:500].encode("utf-8", "replace").decode()
        raise PacketError(Reason.BAD_SCHEMA, detail) from None
    if repaired is not None:
        schema = repaired
    return WriterSchema(schema, parsed, fingerprint, cost, repaired is not None)


def _parse(schema: Any) -> tuple[Any, Any | None]:
    """Parse with fastavro; what it refuses is repaired and tried once more."""
    try:
        return fastavro.parse_schema(_without(schema, {"logicalType"}), _force=True), None
    except Exception:  # noqa: BLE001 - as above
        repaired = _once_defined(_without(schema, {"default"}), set())
        return fastavro.parse_schema(_without(repaired, {"logicalType"}), _force=True), repaired


def _without(schema: Any, keys: set[str]) -> Any:
    """Copy a schema without some attributes of its types and fields."""
    if isinstance(schema, list):
        return [_without(branch, keys) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if key not in keys}
    for key in ("type", "items", "values"):
        if key in kept:
            kept[key] = _without(kept[key], keys)
    if isinstance(kept.get("fields"), list):
        kept["fields"] = [_without(field, keys) for field in kept["fields"]]
    return kept


def _once_defined(schema: Any, known: set[str], namespace: str = "") -> Any:
    """Replace the second definition of a named type by its name."""
    if isinstance(schema, list):
        return [_once_defined(branch, known, namespace) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    schema = dict(schema)
    if schema.get("type") in ("record", "error", "enum", "fixed"):
        name = schema["name"]
        namespace = name.rpartition(".")[0] if "." in name else schema.get("namespace", namespace)
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        if full in known:
            return full
        known.add(full)
        if "fields" in schema:
            schema["fields"] = [
                {**field, "type": _once_defined(field["type"], known, namespace)}
                for field in schema["fields"]
            ]
        return schema
    for key in ("type", "items", "values"):
        if key in schema:
            schema[key] = _once_defined(schema[key], known, namespace)
    return schema
