"""Replayed alerts as Avro containers of classification records: what goes to Kafka, in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from io import BytesIO
from typing import Any, Final

import fastavro

from space2vec.schemas.annotation_avro import parsed_schema

SUFFIX: Final = ".avro"
_SYNC: Final = b"space2vec.replay"

_TEXT: Final = ["null", "string"]
_REJECTED: Final = fastavro.parse_schema(
    {
        "type": "record",
        "namespace": "space2vec.v1",
        "name": "rejected",
        "doc": "A packet that could not be scored: why, and its bytes, unchanged",
        "fields": [
            {"name": "survey", "type": _TEXT, "default": None},
            {"name": "alert_id", "type": ["null", "long"], "default": None},
            {"name": "reason", "type": "string"},
            {"name": "detail", "type": "string"},
            {"name": "field", "type": _TEXT, "default": None},
            {"name": "records", "type": "long", "doc": "records of the packet that were rejected"},
            {"name": "file", "type": "string", "doc": "the packet's name in the archive"},
            {"name": "packet", "type": "bytes"},
            {"name": "archive", "type": "string"},
            {"name": "member", "type": "long", "doc": "number of its packet in the archive, from 0"},
        ],
    }
)


def alerts_container(rows: Sequence[Mapping[str, Any]], about: Mapping[str, str]) -> bytes:
    """Make the file of some classification records.

    ``classified_at`` is when the replay of the archive began, so that a part that is written again is the same.
    """
    began = datetime.fromisoformat(about["began"])
    stamped = [{**row, "classified_at": began} for row in rows]
    return _container(parsed_schema("classification"), stamped, about)


def rejected_container(rows: Sequence[Mapping[str, Any]], about: Mapping[str, str]) -> bytes:
    """Make the file of some rejected packets: why, and the packets themselves."""
    return _container(_REJECTED, rows, about)


def _container(schema: Any, rows: Sequence[Mapping[str, Any]], about: Mapping[str, str]) -> bytes:
    buffer = BytesIO()
    metadata = {f"space2vec.{name}": value for name, value in about.items()}
    fastavro.writer(buffer, schema, rows, codec="deflate", metadata=metadata, sync_marker=_SYNC)
    return buffer.getvalue()
