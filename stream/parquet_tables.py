"""Replayed alerts as Parquet tables, made for those who will open them in a notebook.

One row per alert; every class a column ``p_<label>``, kinds and causes likewise, the embedding a list of fixed size,
the model in the file's metadata. Written by Arrow: the same rows give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

SUFFIX: Final = ".parquet"

_ALERT: Final = (
    pa.field("survey", pa.string()),
    pa.field("alert_id", pa.int64()),
    pa.field("object_id", pa.string()),
    pa.field("mjd_tai", pa.float64(), metadata={"unit": "d", "doc": "mid-exposure, MJD, TAI"}),
    pa.field("ra", pa.float64(), metadata={"unit": "deg", "doc": "ICRS"}),
    pa.field("dec", pa.float64(), metadata={"unit": "deg", "doc": "ICRS"}),
    pa.field("status", pa.string(), metadata={"doc": "scored, or degraded: scored, but read the flags"}),
    pa.field("score", pa.float32(), metadata={"doc": "probability that the alert is real, calibrated"}),
    pa.field("logit", pa.float32(), metadata={"doc": "the same as log-odds"}),
    pa.field("spread", pa.float32(), metadata={"doc": "standard deviation of the logit over an ensemble"}),
    pa.field("flags", pa.string(), metadata={"doc": "quality flags of the stamps, parted by spaces"}),
    pa.field("passes", pa.string(), metadata={"doc": "operating points that it passes, parted by spaces"}),
)
_WORDS: Final = ("flags", "passes")
_PROBABILITIES: Final = {"p_": "classifications", "kind_": "kinds", "cause_": "causes"}
"""Prefix of the columns, by field of the record."""
_PLACE: Final = (
    pa.field("archive", pa.string(), metadata={"doc": "where the alert was read"}),
    pa.field("member", pa.int64(), metadata={"doc": "number of its packet in the archive, from 0"}),
)
_REJECTED: Final = (
    pa.field("survey", pa.string()),
    pa.field("alert_id", pa.int64()),
    pa.field("reason", pa.string()),
    pa.field("detail", pa.string()),
    pa.field("field", pa.string()),
    pa.field("records", pa.int64(), metadata={"doc": "records of the packet that were rejected"}),
    pa.field("file", pa.string(), metadata={"doc": "the packet's name in the archive"}),
    pa.field("packet", pa.binary(), metadata={"doc": "its bytes, unchanged"}),
    *_PLACE,
)


def alerts_table(rows: Sequence[Mapping[str, Any]], about: Mapping[str, str]) -> bytes:
    """Make the file of some alerts' rows.

    Parameters
    ----------
    rows : sequence of mapping
        Classification records (``schemas/avsc/classification.avsc``) with ``archive`` and ``member``; not empty.
    about : mapping
        Metadata of the file.

    Returns
    -------
    bytes
        Parquet, zstd.
    """
    columns: dict[Any, list[Any]] = {}
    for field in _ALERT:
        values = [row[field.name] for row in rows]
        columns[field] = [" ".join(words) for words in values] if field.name in _WORDS else values
    for prefix, name in _PROBABILITIES.items():
        for place, each in enumerate(rows[0][name]):
            of_class = pa.field(f"{prefix}{each['label']}", pa.float32())
            columns[of_class] = [row[name][place]["probability"] for row in rows]
    size = len(rows[0]["embedding"])
    vectors = [pa.field("embedding", pa.list_(pa.float32(), size))] if size else []
    for field in (*vectors, *_PLACE):
        columns[field] = [row[field.name] for row in rows]
    return _file(list(columns), list(columns.values()), about)


def rejected_table(rows: Sequence[Mapping[str, Any]], about: Mapping[str, str]) -> bytes:
    """Make the file of some rejected packets: why, and the packets themselves."""
    return _file(_REJECTED, [[row[field.name] for row in rows] for field in _REJECTED], about)


def _file(fields: Sequence[Any], columns: Sequence[Any], about: Mapping[str, str]) -> bytes:
    arrays = [pa.array(column, field.type) for field, column in zip(fields, columns, strict=True)]
    metadata = {f"space2vec.{name}": value for name, value in about.items()}
    for field, column in zip(fields, columns, strict=True):
        if pa.types.is_string(field.type):  # for astropy, to which a null is "None"
            metadata[f"table::len::{field.name}"] = str(max([4, *map(len, filter(None, column))]))
    schema = pa.schema(fields, metadata=metadata)
    buffer = BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), buffer, compression="zstd")
    return buffer.getvalue()
