"""Reading a datum from both its ends, without the history in between.

Identifiers, position and time stand at the front of an alert and the cutouts at its end; between them lie up
to a year of earlier measurements, which nobody here needs and which take fastavro up to 85 ms to build. From
the writer schema follows where the front ends; where the cutouts begin is found by the magic bytes of the
first. All that follows from there must decode to exactly the last byte, and a short middle must fill exactly
the space between; if anything does not fit, the caller reads the whole datum instead.

What is not noticed is damage inside a long history that leaves its length as it was. It concerns nothing
that we use.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import fastavro

from space2vec.schemas.avro_types import SchemaTree
from space2vec.schemas.extract import Extractor
from space2vec.schemas.packet import WriterSchema
from space2vec.schemas.varint import decode_long

_MAGICS = (b"SIMPLE  =", b"\x1f\x8b\x08")
_CHECKED_MIDDLE = 1024
"""Bytes of a middle that is decoded for the sake of checking: that of an alert without history."""
_MOST_OCCURRENCES = 8
_LENGTH_BYTES = (3, 2, 4, 1)
"""Bytes of a cutout's length, the likeliest first."""
_LONGEST_NAME = 200


class TwoEndedReader:
    """Reads datums of one writer schema from both ends; made by :meth:`compile`."""

    def __init__(self, front: Any, middle: Any, back: Any, head: _CutoutHead) -> None:
        self._front = front
        self._middle = middle
        self._back = back
        self._head = head
        self._magics = list(_MAGICS)

    @classmethod
    def compile(cls, writer: WriterSchema, extractor: Extractor) -> TwoEndedReader | None:
        """Work out the layout; ``None`` where it is not front, history, cutouts.

        Parameters
        ----------
        writer : WriterSchema
            What datums are written with.
        extractor : Extractor
            Names the fields that are needed.
        """
        parsed = writer.parsed
        if not isinstance(parsed, dict) or parsed.get("type") != "record":
            return None
        names = [field["name"] for field in parsed["fields"]]
        cutouts = [index for index, name in enumerate(names) if name in extractor.cutout_fields]
        others = [index for index, name in enumerate(names) if name in extractor.other_fields]
        if not cutouts:
            return None
        first, last = cutouts[0], cutouts[-1]
        front = 1 + max((index for index in others if index < first), default=-1)
        if front == 0 or front == first or last - first + 1 != len(cutouts):
            return None
        tree = SchemaTree(parsed)
        head = _CutoutHead.of(tree, parsed["fields"][first]["type"])
        if head is None:
            return None
        fields = parsed["fields"]
        parts = (_part(tree, fields[:front]), _part(tree, fields[front:first]), _part(tree, fields[first:]))
        return cls(*parts, head)

    def read(self, body: bytes) -> dict[str, Any] | None:
        """Read the fields at both ends.

        Parameters
        ----------
        body : bytes
            One datum.

        Returns
        -------
        dict or None
            The record without the fields in the middle; ``None`` if the datum does not fit the layout.
        """
        source = BytesIO(body)
        try:
            record: dict[str, Any] = fastavro.schemaless_reader(source, self._front, None)
            middle = source.tell()
            for start in self._starts(body, middle):
                source.seek(start)
                back = self._read_back(source, len(body))
                if back is not None:
                    if start - middle <= _CHECKED_MIDDLE and not self._fills(source, middle, start):
                        return None
                    record.update(back)
                    return record
        except Exception:  # noqa: BLE001 - whatever is wrong, the full reading says it better
            return None
        return None

    def front(self, body: bytes) -> dict[str, Any]:
        """Read what can be read of the front of a damaged datum; empty if nothing can."""
        try:
            record: dict[str, Any] = fastavro.schemaless_reader(BytesIO(body), self._front, None)
        except Exception:  # noqa: BLE001 - as above
            return {}
        return record

    def _read_back(self, source: BytesIO, size: int) -> dict[str, Any] | None:
        try:
            back: dict[str, Any] = fastavro.schemaless_reader(source, self._back, None)
        except Exception:  # noqa: BLE001 - not the start of the cutouts
            return None
        return back if source.tell() == size else None

    def _fills(self, source: BytesIO, start: int, end: int) -> bool:
        source.seek(start)
        fastavro.schemaless_reader(source, self._middle, None)
        return source.tell() == end

    def _starts(self, body: bytes, after: int) -> Iterator[int]:
        """Give positions at which the first cutout may begin."""
        for magic in tuple(self._magics):
            position = body.find(magic, after)
            for _ in range(_MOST_OCCURRENCES):
                if position < 0:
                    break
                for start in self._head.starts(body, position, after):
                    if magic is not self._magics[0]:
                        # A survey keeps to one form: look for it first from now on.
                        self._magics.reverse()
                    yield start
                position = body.find(magic, position + 1)


class _CutoutHead:
    """What stands before a cutout's bytes: union branches, file name, length."""

    def __init__(self, branches: tuple[int | None, ...], *, named: bool) -> None:
        self._cutout, self._name, self._bytes = branches
        self._named = named

    @classmethod
    def of(cls, tree: SchemaTree, kind: Any) -> _CutoutHead | None:
        """Tell it from the schema: (nullable) bytes, or a (nullable) record of a string and bytes."""
        cutout, inner = _branch_of(tree, kind, ("bytes", "record"))
        if inner == "bytes":
            return cls((cutout, None, None), named=False)
        if not isinstance(inner, dict) or len(inner["fields"]) != 2:
            return None
        name, string = _branch_of(tree, inner["fields"][0]["type"], ("string",))
        stamp, content = _branch_of(tree, inner["fields"][1]["type"], ("bytes",))
        if string != "string" or content != "bytes":
            return None
        return cls((cutout, name, stamp), named=True)

    def starts(self, body: bytes, content: int, after: int) -> Iterator[int]:
        """Walk back from a cutout's first byte to where its field begins, if that is possible."""
        for width in _LENGTH_BYTES:
            start = content - width
            if start < after or (width > 1 and body[content - 1] == 0):
                continue
            length, end = decode_long(body, start)
            if end != content or not 0 < length <= len(body) - content:
                continue
            for begin in self._before_length(body, start, after):
                if self._cutout is None:
                    yield begin
                elif begin > after and body[begin - 1] == self._cutout:
                    yield begin - 1

    def _before_length(self, body: bytes, start: int, after: int) -> Iterator[int]:
        if self._bytes is not None:
            start -= 1
            if body[start] != self._bytes:
                return
        if not self._named:
            yield start
            return
        for length in range(min(_LONGEST_NAME, start - after - 1)):
            begin = start - length
            width = 1 if length < 64 else 2
            if decode_long(body, begin - width) == (length, begin):
                begin -= width
                if self._name is None:
                    yield begin
                elif body[begin - 1] == self._name:
                    yield begin - 1


def _branch_of(tree: SchemaTree, kind: Any, wanted: tuple[str, ...]) -> tuple[int | None, Any]:
    """Give the byte of the union branch that is of a wanted type, and the type."""
    kind = tree.resolve(kind)
    if not isinstance(kind, list):
        return None, _plain_type(kind)
    for index, branch in enumerate(kind):
        branch = tree.resolve(branch)
        name = branch["type"] if isinstance(branch, dict) else branch
        if name in wanted:
            return 2 * index, _plain_type(branch)
    return None, None


def _plain_type(kind: Any) -> Any:
    if isinstance(kind, dict) and kind["type"] in ("bytes", "string"):
        return kind["type"]
    return kind


def _part(tree: SchemaTree, fields: list[dict[str, Any]]) -> Any:
    """Make a schema of some of the fields; types defined in other parts are known to it."""
    inside = SchemaTree({"type": "record", "name": "part", "fields": fields}).named
    outside = {name: kind for name, kind in tree.named.items() if name not in inside}
    part = {"type": "record", "name": "space2vec.part", "fields": fields}
    return fastavro.parse_schema(part, named_schemas=outside)
