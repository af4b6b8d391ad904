"""The classification record: what we say of an alert, without the alert.

Layout: ``schemas/avsc/classification.avsc``, one record in an Avro container, so that it can be read with
nothing but an Avro library.
"""

from __future__ import annotations

from functools import cache
from io import BytesIO
from typing import Any

import fastavro

from space2vec.schemas.alert import Alert
from space2vec.schemas.annotation import Annotation
from space2vec.schemas.annotation_avro import our_encoders, our_schema
from space2vec.schemas.container import compact_json, container_header, write_container


def encode_classification(
    alert: Alert, annotation: Annotation, *, topic: str, partition: int, offset: int, status: str
) -> bytes:
    """Encode one classification.

    Parameters
    ----------
    alert : Alert
        The alert.
    annotation : Annotation
        What the classifier says of it.
    topic, partition, offset : str, int, int
        Where the alert was read.
    status : str
        ``scored`` or ``degraded``.

    Returns
    -------
    bytes
        An Avro container of one record; the same input gives the same bytes.
    """
    ours = {
        "survey": alert.survey,
        "alert_id": alert.alert_id,
        "object_id": alert.object_id,
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "mjd_tai": alert.mjd_tai,
        "ra": alert.ra,
        "dec": alert.dec,
        "status": status,
    }
    theirs = annotation.encoded
    fields = our_encoders("classification").items()
    return write_container(
        _header(), *(theirs[name] if name in theirs else encode(ours[name]) for name, encode in fields)
    )


def decode_classification(raw: bytes) -> dict[str, Any]:
    """Decode one classification; ``classified_at`` comes back as a datetime.

    Raises
    ------
    ValueError
        If the bytes are not a container of exactly one record.
    """
    (record,) = fastavro.reader(BytesIO(raw))
    return dict(record)


@cache
def _header() -> bytes:
    return container_header(compact_json(our_schema("classification")))
