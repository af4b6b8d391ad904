from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest

from space2vec.schemas.alert import Alert
from space2vec.schemas.annotate import Annotator
from space2vec.schemas.annotation import Annotation
from space2vec.schemas.annotation_avro import our_schema
from space2vec.schemas.errors import PacketError, Reason, SchemaUnavailable
from space2vec.schemas.packet import Framing, Packet, WriterSchema
from space2vec.schemas.reader import PacketReader
from space2vec.schemas.writer_schema import writer_schema

Make = Callable[..., bytes]
One = Callable[[bytes], Alert]

ANNOTATION = Annotation(
    classifier="core",
    version="1.2.0",
    sha256="ab" * 32,
    score=0.75,
    logit=1.0986123,
    spread=None,
    classes={"real": 0.75, "bogus": 0.25},
    flags=("nan", "truncated"),
    embedding=(0.5, -1.5),
    classified_at=datetime(2026, 2, 24, 3, 4, 5, 678901, tzinfo=UTC),
)
AS_RECORD = {
    "classifier": "core",
    "version": "1.2.0",
    "sha256": "ab" * 32,
    "score": 0.75,
    "logit": pytest.approx(1.0986123),
    "spread": None,
    "classifications": [
        {"label": "real", "classId": None, "probability": 0.75},
        {"label": "bogus", "classId": None, "probability": 0.25},
    ],
    "flags": ["nan", "truncated"],
    "embedding": [0.5, -1.5],
    "classified_at": ANNOTATION.classified_at,
    "passes": [],
    "kinds": [],
    "causes": [],
}
TINY = {"type": "record", "name": "alert", "fields": [{"name": "candid", "type": "long"}]}


def packet_of(schema: Any, datum: Any, framing: Framing = Framing.CONTAINER) -> Packet:
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, schema, datum)
    body, schema_id = buffer.getvalue(), 1 if framing is Framing.CONFLUENT else None
    return Packet(framing, writer_schema(schema), body, 0, len(body), schema_id)


def field_of(schema: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (field for field in schema["fields"] if field["name"] == name)
    return dict(found)


def record_of(message: bytes, reader_schema: Any = None) -> dict[str, Any]:
    (record,) = fastavro.reader(BytesIO(message), reader_schema)
    return dict(record)


@pytest.mark.parametrize("version", ["1.8", "3.3", "4.02"])
def test_container(ztf: Make, one: One, version: str) -> None:
    packet = one(ztf(schema=version, history=3)).packet
    message = Annotator().annotate(packet, [ANNOTATION])
    (original,) = fastavro.reader(BytesIO(ztf(schema=version, history=3)))
    annotated = record_of(message)
    assert annotated.pop("annotations") == [AS_RECORD]
    assert annotated == original
    assert record_of(message, packet.writer.schema) == original
    assert packet.body in message


def test_old_alerts_read_with_the_new_schema_have_no_annotations(ztf: Make, one: One) -> None:
    raw = ztf()
    extended = fastavro.reader(BytesIO(Annotator().annotate(one(raw).packet, [ANNOTATION]))).writer_schema
    assert record_of(raw, extended)["annotations"] == []


def test_reading_an_annotated_alert(ztf: Make, one: One) -> None:
    before = one(ztf())
    after = one(Annotator().annotate(before.packet, [ANNOTATION]))
    assert (after.survey, after.alert_id, after.mjd_tai) == (before.survey, before.alert_id, before.mjd_tai)
    assert {p: s.tobytes() for p, s in after.stamps.items()} == {
        p: s.tobytes() for p, s in before.stamps.items()
    }


def test_the_same_bytes_ever_after() -> None:
    message = Annotator().annotate(packet_of(TINY, {"candid": 42}), [ANNOTATION])
    sync = message[-16:]
    body = (
        b"\x54\x02"
        + (b"\x08core" + b"\x0a1.2.0" + b"\x80\x01" + b"ab" * 32)
        + (b"\x00\x00\x40\x3f" + b"\x54\x9f\x8c\x3f" + b"\x00")
        + (b"\x04" + b"\x08real\x00" + b"\x00\x00\x40\x3f" + b"\x0abogus\x00" + b"\x00\x00\x80\x3e" + b"\x00")
        + (b"\x04\x06nan\x12truncated\x00" + b"\x04\x00\x00\x00\x3f\x00\x00\xc0\xbf\x00")
        + b"\xea\xbc\xf1\xbe\xa4\xe2\xa5\x06"
        + b"\x00\x00\x00"
        + b"\x00"
    )
    assert message.endswith(
        sync + b"\x02" + bytes([2 * len(body) & 0x7F | 0x80, 2 * len(body) >> 7]) + body + sync
    )
    annotations = {
        "name": "annotations",
        "type": {"type": "array", "items": our_schema("annotation")},
        "default": [],
    }
    extended = json.dumps(TINY | {"fields": [*TINY["fields"], annotations]}, separators=(",", ":"))
    assert extended.encode() in message
    assert Annotator().annotate(packet_of(TINY, {"candid": 42}), [ANNOTATION]) == message


class TestConfluent:
    def test_with_a_registry(self, lsst: Make, one: One) -> None:
        registered: list[WriterSchema] = []

        def register(extended: WriterSchema) -> int:
            registered.append(extended)
            return 70_000

        annotator = Annotator(register)
        packets = [one(lsst(alert_id=number)).packet for number in (1, 2)]
        messages = [annotator.annotate(packet, [ANNOTATION]) for packet in packets]
        assert len(registered) == 1
        for packet, message in zip(packets, messages, strict=True):
            assert message.startswith(b"\x00\x00\x01\x11\x70" + packet.body)
            source = BytesIO(message[5:])
            record: Any = fastavro.schemaless_reader(source, registered[0].schema, None)
            assert source.read() == b""
            assert record.pop("annotations") == [AS_RECORD]
            assert record == packet.decode()

    def test_without_a_registry_it_becomes_a_container(self, lsst: Make, one: One) -> None:
        packet = one(lsst()).packet
        record = record_of(Annotator().annotate(packet, [ANNOTATION]))
        assert record.pop("annotations") == [AS_RECORD]
        assert record == packet.decode()

    def test_a_registry_out_of_reach_is_asked_again(self, lsst: Make, one: One) -> None:
        answers = iter([SchemaUnavailable("down"), 7])

        def register(_: WriterSchema) -> int:
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        annotator, packet = Annotator(register), one(lsst()).packet
        with pytest.raises(SchemaUnavailable):
            annotator.annotate(packet, [ANNOTATION])
        assert annotator.annotate(packet, [ANNOTATION]).startswith(b"\x00\x00\x00\x00\x07")

    def test_containers_stay_containers(self, ztf: Make, one: One) -> None:
        annotator = Annotator(lambda _: 7)
        assert annotator.annotate(one(ztf()).packet, [ANNOTATION]).startswith(b"Obj\x01")


class TestAgain:
    def test_new_annotations_join_the_old(self, ztf: Make, one: One) -> None:
        annotator, first = Annotator(), one(ztf())
        message = annotator.annotate(first.packet, [ANNOTATION])
        for count in (3, 5):
            message = annotator.annotate(one(message).packet, [ANNOTATION, ANNOTATION])
            assert record_of(message)["annotations"] == [AS_RECORD] * count
        assert [field["name"] for field in fastavro.reader(BytesIO(message)).writer_schema["fields"]].count(
            "annotations"
        ) == 1
        assert first.packet.body in message

    def test_no_annotations_at_all(self) -> None:
        annotator = Annotator()
        message = annotator.annotate(packet_of(TINY, {"candid": 1}), [])
        assert record_of(message) == {"candid": 1, "annotations": []}
        again = annotator.annotate(packet_of(TINY | {"fields": [*TINY["fields"], field_of(
            fastavro.reader(BytesIO(message)).writer_schema, "annotations")]}, record_of(message)), [ANNOTATION])  # fmt: skip
        assert record_of(again)["annotations"] == [AS_RECORD]

    @pytest.mark.parametrize(
        ("kind", "value"),
        [("string", "foreign"), ({"type": "array", "items": "int"}, [1, 2]), (["null", "int"], None)],
    )
    def test_a_foreign_field_of_that_name_is_kept(self, kind: Any, value: Any) -> None:
        schema = TINY | {"fields": [*TINY["fields"], {"name": "annotations", "type": kind}]}
        packet = packet_of(schema, {"candid": 1, "annotations": value})
        message = Annotator().annotate(packet, [ANNOTATION])
        assert record_of(message) == {"candid": 1, "annotations": value, "space2vec_annotations": [AS_RECORD]}
        again = Annotator().annotate(packet_of(*reread(message)), [ANNOTATION])
        assert record_of(again)["space2vec_annotations"] == [AS_RECORD, AS_RECORD]

    def test_ours_are_kept_where_another_field_follows(self) -> None:
        schema, record = reread(Annotator().annotate(packet_of(TINY, {"candid": 1}), [ANNOTATION]))
        schema["fields"].append({"name": "broker", "type": "string"})
        message = Annotator().annotate(packet_of(schema, record | {"broker": "b"}), [ANNOTATION])
        assert record_of(message) == {
            "candid": 1,
            "annotations": [AS_RECORD],
            "broker": "b",
            "space2vec_annotations": [AS_RECORD],
        }

    def test_every_name_may_be_taken(self) -> None:
        taken = [{"name": n, "type": "int"} for n in ("annotations", "space2vec_annotations")]
        packet = packet_of(TINY | {"fields": taken}, {"annotations": 1, "space2vec_annotations": 2})
        message = Annotator().annotate(packet, [ANNOTATION])
        assert record_of(message)["space2vec_annotations_2"] == [AS_RECORD]

    def test_a_foreign_type_of_our_name(self) -> None:
        foreign = {"type": "record", "name": "annotation", "namespace": "space2vec.v1", "fields": []}
        packet = packet_of(TINY | {"fields": [{"name": "note", "type": foreign}]}, {"note": {}})
        with pytest.raises(PacketError, match="another type of our name") as refused:
            Annotator().annotate(packet, [ANNOTATION])
        assert refused.value.reason is Reason.BAD_SCHEMA


def reread(message: bytes) -> tuple[Any, dict[str, Any]]:
    """Take a message apart as its next reader would: schema and record."""
    found = fastavro.reader(BytesIO(message))
    schema = json.loads(json.dumps({k: v for k, v in found.writer_schema.items() if not k.startswith("__")}))
    return schema, record_of(message)


def test_union_at_the_top() -> None:
    other = {"type": "record", "name": "other", "fields": [{"name": "n", "type": "int"}]}
    packet = packet_of([other, TINY], {"candid": 5})
    message = Annotator().annotate(packet, [ANNOTATION])
    assert record_of(message) == {"candid": 5, "annotations": [AS_RECORD]}
    assert record_of(message, [other, TINY]) == {"candid": 5}
    (alert,) = fastavro.reader(BytesIO(message))
    assert packet.body in message
    assert alert["candid"] == 5


def test_a_repaired_schema_goes_out_repaired(container: Make) -> None:
    schema = TINY | {"fields": [{"name": "rb", "type": "double", "default": None}]}
    packet = Packet(Framing.CONTAINER, writer_schema(schema), bytes(8), 0, 8)
    assert record_of(Annotator().annotate(packet, [ANNOTATION])) == {"rb": 0.0, "annotations": [AS_RECORD]}


def test_what_is_no_record_cannot_be_extended() -> None:
    with pytest.raises(PacketError, match="no record"):
        Annotator().annotate(Packet(Framing.CONTAINER, writer_schema('"int"'), b"\x02", 0, 1), [ANNOTATION])


def test_every_real_alert(shared: Path) -> None:
    reader, annotator = PacketReader(), Annotator()
    count = 0
    for path in sorted((shared / "packets").rglob("*.avro")):
        for alert in reader.read(path.read_bytes()):
            if not isinstance(alert, Alert):
                continue
            message = annotator.annotate(alert.packet, [ANNOTATION])
            original = repr(
                fastavro.schemaless_reader(BytesIO(alert.packet.body), alert.packet.writer.schema, None)
            )
            annotated = record_of(message)
            assert annotated.pop("annotations") == [AS_RECORD], path.name
            assert repr(annotated) == original, path.name
            assert repr(record_of(message, alert.packet.writer.schema)) == original, path.name
            assert alert.packet.body in message
            count += 1
    assert count > 700
