"""Annotating is appending.

Avro encodes a record as its fields, one after the other, with nothing around them. So an alert with
annotations is the original datum's bytes followed by the encoded annotations, under the writer schema with
one more field at its end. The original bytes are not touched, a reader with the old schema still resolves
it, and the cost does not depend on the alert's size.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, count
from typing import Any

from fastavro.schema import to_parsing_canonical_form

from space2vec.schemas.annotation import Annotation
from space2vec.schemas.annotation_avro import our_schema
from space2vec.schemas.avro_types import SchemaTree
from space2vec.schemas.container import compact_json, container_header, write_container
from space2vec.schemas.errors import PacketError, Reason
from space2vec.schemas.packet import Framing, Packet, WriterSchema
from space2vec.schemas.varint import decode_long, encode_long
from space2vec.schemas.writer_schema import writer_schema

_SCHEMAS_IN_USE = 16
_END_OF_ARRAY = b"\x00"


@dataclass(frozen=True, eq=False)
class _Extended:
    """A writer schema with room for annotations."""

    writer: WriterSchema
    header: bytes = field(repr=False)
    joins: bool
    """Whether the datum already ends in an array of our annotations, which the new ones join."""


class Annotator:
    """Appends annotations to packets.

    Parameters
    ----------
    register : callable, optional
        Registers an extended writer schema with a schema registry and gives its id. With it, what came in
        Confluent framing goes out in it; without, everything goes out as a container, its schema inside.
    """

    def __init__(self, register: Callable[[WriterSchema], int] | None = None) -> None:
        self._extended = lru_cache(_SCHEMAS_IN_USE)(_extend)
        self._schema_id = lru_cache(_SCHEMAS_IN_USE)(register) if register is not None else None

    def annotate(self, packet: Packet, annotations: Sequence[Annotation]) -> bytes:
        """Make the message of the annotated alert.

        The field is ``annotations``. If the packet has it already, of our type and at its end, the new
        annotations join the old ones. If it has another field of that name, or ours is no longer last, that
        stays as it is and the new field gets the next free name: ``space2vec_annotations``,
        ``space2vec_annotations_2`` and so on.

        Parameters
        ----------
        packet : Packet
            The alert, as it was read.
        annotations : sequence of Annotation
            What to append.

        Returns
        -------
        bytes
            A container of one record, uncompressed, or Confluent framing; the same input gives the same
            bytes.

        Raises
        ------
        PacketError
            ``BAD_SCHEMA`` if the writer schema cannot be extended.
        SchemaUnavailable
            If the registry cannot be reached.
        """
        union = isinstance(packet.writer.parsed, list)
        branch = decode_long(packet.source, packet.start)[0] if union else None
        extended = self._extended(packet.writer, branch)
        datum = memoryview(packet.source)[packet.start : packet.stop]
        parts: list[bytes | memoryview] = [datum[:-1] if extended.joins else datum]
        if annotations:
            parts.append(encode_long(len(annotations)))
            parts += chain.from_iterable(annotation.encoded.values() for annotation in annotations)
        parts.append(_END_OF_ARRAY)
        if packet.framing is Framing.CONFLUENT and self._schema_id is not None:
            return b"".join([struct.pack(">bI", 0, self._schema_id(extended.writer)), *parts])
        return write_container(extended.header, *parts)


def _extend(writer: WriterSchema, branch: int | None) -> _Extended:
    """Add the field for annotations to a writer schema, or to one branch of a union at its top."""
    record = writer.schema if branch is None else writer.schema[branch]
    if not (isinstance(record, dict) and isinstance(record.get("fields"), list)):
        raise PacketError(Reason.BAD_SCHEMA, "cannot be extended: no record stands at its top")
    tree = SchemaTree(writer.parsed)
    last = (writer.parsed if branch is None else writer.parsed[branch])["fields"][-1:]
    if last and last[0]["name"] in _names(len(record["fields"])) and _is_ours(tree, last[0]["type"]):
        return _Extended(writer, container_header(compact_json(writer.schema)), joins=True)
    taken = {f["name"] for f in record["fields"]}
    name = next(name for name in _names(len(taken) + 1) if name not in taken)
    items: Any = our_schema("annotation")
    known = tree.named.get("space2vec.v1.annotation")
    if known is not None:
        if _canonical(known) != _canonical(items):
            raise PacketError(Reason.BAD_SCHEMA, "cannot be extended: it has another type of our name")
        items = "space2vec.v1.annotation"
    added = {"name": name, "type": {"type": "array", "items": items}, "default": []}
    longer = {**record, "fields": [*record["fields"], added]}
    schema: Any = longer
    if branch is not None:
        schema = [*writer.schema[:branch], longer, *writer.schema[branch + 1 :]]
    return _Extended(writer_schema(schema), container_header(compact_json(schema)), joins=False)


def _names(most: int) -> list[str]:
    numbered = (f"space2vec_annotations_{number}" for number in count(2))
    return ["annotations", "space2vec_annotations", *(next(numbered) for _ in range(most))]


def _is_ours(tree: SchemaTree, kind: Any) -> bool:
    kind = tree.resolve(kind)
    if not (isinstance(kind, dict) and kind["type"] == "array"):
        return False
    return _canonical(tree.resolve(kind["items"])) == _canonical(our_schema("annotation"))


def _canonical(schema: Any) -> str:
    try:
        return str(to_parsing_canonical_form(schema))
    except Exception:  # noqa: BLE001 - a type that refers to others outside of it cannot be ours
        return ""
