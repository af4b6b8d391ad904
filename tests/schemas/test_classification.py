from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from struct import pack
from typing import Any

import fastavro
import pytest

from space2vec.schemas.alert import Alert
from space2vec.schemas.annotation import Annotation
from space2vec.schemas.annotation_avro import our_schema
from space2vec.schemas.classification import decode_classification, encode_classification

ANNOTATION = Annotation(
    classifier="core",
    version="1.2.0",
    sha256="ab" * 32,
    score=0.75,
    logit=1.0,
    spread=0.5,
    classes={"real": 0.75, "bogus": 0.25},
    flags=(),
    embedding=(),
    classified_at=datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    passes=("pure",),
    kinds={"sn": 0.75, "agn": 0.25},
    causes={"noise": 1.0},
)


@pytest.fixture
def alert(one: Callable[[bytes], Alert], lsst: Callable[..., bytes]) -> Alert:
    return one(lsst())


def encoded(alert: Alert, annotation: Annotation = ANNOTATION) -> bytes:
    return encode_classification(
        alert, annotation, topic="lsst-alerts-v11", partition=44, offset=1 << 40, status="scored"
    )


def test_all_its_fields(alert: Alert) -> None:
    assert decode_classification(encoded(alert)) == {
        "survey": "lsst",
        "alert_id": 169298433221853273,
        "object_id": "169298433221850001",
        "topic": "lsst-alerts-v11",
        "partition": 44,
        "offset": 1 << 40,
        "mjd_tai": 61095.33222194851,
        "ra": 9.215397496461804,
        "dec": -42.83254130223859,
        "classifier": "core",
        "version": "1.2.0",
        "sha256": "ab" * 32,
        "status": "scored",
        "classifications": [
            {"label": "real", "classId": None, "probability": 0.75},
            {"label": "bogus", "classId": None, "probability": 0.25},
        ],
        "score": 0.75,
        "logit": 1.0,
        "spread": 0.5,
        "flags": [],
        "embedding": [],
        "classified_at": ANNOTATION.classified_at,
        "passes": ["pure"],
        "kinds": [
            {"label": "sn", "classId": None, "probability": 0.75},
            {"label": "agn", "classId": None, "probability": 0.25},
        ],
        "causes": [{"label": "noise", "classId": None, "probability": 1.0}],
    }


def test_what_is_not_known_is_null(alert: Alert) -> None:
    unknown: dict[str, Any] = {"object_id": None, "mjd_tai": None, "ra": None, "dec": None}
    found = decode_classification(encoded(replace(alert, **unknown), replace(ANNOTATION, spread=None)))
    assert {name: found[name] for name in (*unknown, "spread")} == unknown | {"spread": None}


def test_classes_of_the_taxonomy(alert: Alert) -> None:
    annotation = replace(
        ANNOTATION, classes={"SN Ia": 0.75, "bogus": 0.25}, class_ids={"SN Ia": 2222, "bogus": None}
    )
    found = decode_classification(encoded(alert, annotation))["classifications"]
    assert [(each["label"], each["classId"]) for each in found] == [("SN Ia", 2222), ("bogus", None)]


def test_the_same_bytes_ever_after(alert: Alert) -> None:
    message = encoded(alert)
    body = (
        b"\x08lsst" + b"\xb2\x81\xc0\xd3\xe5\x81\xbc\xd9\x04" + b"\x02\x24169298433221850001"
        + b"\x1elsst-alerts-v11" + b"\x58" + b"\x80\x80\x80\x80\x80\x40"
            + b"\x02" + pack("<d", 61095.33222194851)
            + b"\x02" + pack("<d", 9.215397496461804) + b"\x02" + pack("<d", -42.83254130223859)
        + b"\x08core\x0a1.2.0\x80\x01" + b"ab" * 32 + b"\x0cscored"
        + b"\x04\x08real\x00\x00\x00\x40\x3f\x0abogus\x00\x00\x00\x80\x3e\x00"
        + b"\x00\x00\x40\x3f\x00\x00\x80\x3f\x02\x00\x00\x00\x3f\x00\x00\x01"
        + b"\x02\x08pure\x00"
        + b"\x04\x04sn\x00\x00\x00\x40\x3f\x06agn\x00\x00\x00\x80\x3e\x00\x02\x0anoise\x00\x00\x00\x80\x3f\x00"
    )  # fmt: skip
    assert message[:-16].endswith(body)
    assert encoded(alert) == message


def test_refuses_what_is_not_one_record(alert: Alert) -> None:
    message = encoded(alert)
    with pytest.raises(ValueError, match="unpack"):
        decode_classification(message[: message.index(message[-16:]) + 16])


@pytest.mark.parametrize("name", ["annotation", "classification"])
def test_published_schemas_are_valid_and_explained(name: str) -> None:
    schema = our_schema(name)
    fastavro.parse_schema(schema)
    assert schema["namespace"] == "space2vec.v1"
    assert all(len(field.get("doc", "")) > 2 for field in schema["fields"])


def test_both_schemas_say_the_same_of_a_classifier() -> None:
    annotation, classification = (
        {field["name"]: field for field in our_schema(name)["fields"]}
        for name in ("annotation", "classification")
    )
    assert {name: classification[name] for name in annotation} == annotation
