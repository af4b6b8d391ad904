"""An annotation as Avro: the record that is appended to alerts, and its part in a classification record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import fastavro

from space2vec.schemas.avro_writing import Encoder, encoders

if TYPE_CHECKING:
    from space2vec.schemas.annotation import Annotation

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECONDS = 1_000_000


@cache
def our_schema(name: str) -> dict[str, Any]:
    """Read one of the schemas that we publish: ``annotation`` or ``classification``."""
    text = files("space2vec.schemas").joinpath("avsc", f"{name}.avsc").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


@cache
def parsed_schema(name: str) -> Any:
    """Give the same for fastavro's writers and readers."""
    return fastavro.parse_schema(our_schema(name), _force=True)


@cache
def our_encoders(name: str) -> dict[str, Encoder]:
    """Give what encodes the fields of its records."""
    return encoders(parsed_schema(name))


def encode_fields(annotation: Annotation) -> dict[str, bytes]:
    """Encode an annotation field by field: the fields that both our schemas have."""
    since = annotation.classified_at - _EPOCH
    micros = (since.days * 86400 + since.seconds) * _MICROSECONDS + since.microseconds
    values = {
        "classifier": annotation.classifier,
        "version": annotation.version,
        "sha256": annotation.sha256,
        "score": annotation.score,
        "logit": annotation.logit,
        "spread": annotation.spread,
        "classifications": _table(annotation.classes, annotation.class_ids),
        "flags": annotation.flags,
        "embedding": annotation.embedding,
        "classified_at": micros,
        "passes": annotation.passes,
        "kinds": _table(annotation.kinds, {}),
        "causes": _table(annotation.causes, {}),
    }
    return {name: encode(values[name]) for name, encode in our_encoders("annotation").items()}


def _table(shares: Mapping[str, float], ids: Mapping[str, int | None]) -> tuple[tuple[Any, ...], ...]:
    """Columns of ``class_probability``: label, classId, probability."""
    return tuple(shares), tuple(map(ids.get, shares)), tuple(shares.values())
