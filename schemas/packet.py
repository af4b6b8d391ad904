"""A packet: one alert's bytes as they came, and the writer schema that explains them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from io import BytesIO
from typing import Any

import fastavro

from space2vec.schemas.schema_cost import Cost


class Framing(StrEnum):
    """What stands around the alert's bytes in a message."""

    CONTAINER = "container"
    """An Avro object container, its schema inside."""
    CONFLUENT = "confluent"
    """A zero byte, the writer schema's registry id (4 bytes, big-endian), and the datum."""


@dataclass(frozen=True, eq=False)
class WriterSchema:
    """The schema that a datum was written with, parsed once.

    Two are equal when they are the same object: sources of schemas hand out one per schema.

    Attributes
    ----------
    schema : dict or list
        The schema as JSON, in a form that fastavro and the Avro specification accept. Where the original
        was refused this is the repaired one; the bytes it describes are the same.
    parsed : dict or list
        The same for fastavro's readers, without logical types: numbers stay as they are on the wire.
    fingerprint : str
        SHA-256 of the Avro parsing canonical form, hex.
    cost : Cost
        What a datum may take to decode, by its size.
    repaired : bool
        Whether the original was refused.
    """

    schema: Any = field(repr=False)
    parsed: Any = field(repr=False)
    fingerprint: str
    cost: Cost
    repaired: bool = False


@dataclass(slots=True, eq=False)
class Packet:
    """One alert's datum, with what is needed to read it again or to write it out.

    The datum stays where it is, in the message or in the inflated block of a container: copying it costs as
    much as finding a stamp in it.

    Attributes
    ----------
    framing : Framing
        How it came.
    writer : WriterSchema
        What it was written with.
    source : bytes
        What the datum is part of.
    start, stop : int
        Where in it the datum begins and ends.
    schema_id : int or None
        The registry id in the Confluent header.
    """

    framing: Framing
    writer: WriterSchema
    source: bytes = field(repr=False)
    start: int
    stop: int
    schema_id: int | None = None

    @property
    def body(self) -> bytes:
        """The datum's bytes: no container, no header, nothing after its last byte."""
        return self.source[self.start : self.stop]

    def decode(self) -> dict[str, Any]:
        """Build the whole record, field by field: for looking at an alert, not for streaming.

        Logical types are left as the numbers on the wire.
        """
        record: dict[str, Any] = fastavro.schemaless_reader(BytesIO(self.body), self.writer.parsed, None)
        return record
