from __future__ import annotations

from io import BytesIO

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from space2vec.schemas.varint import decode_long, encode_long

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)


@given(INT64)
def test_encodes_as_fastavro_does(value: int) -> None:
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, "long", value)
    assert encode_long(value) == buffer.getvalue()


@given(INT64, st.binary(max_size=5))
def test_decodes_what_it_encodes_and_says_where_it_ends(value: int, before: bytes) -> None:
    encoded = before + encode_long(value)
    assert decode_long(encoded + b"\xff", len(before)) == (value, len(encoded))


@given(st.binary(min_size=1, max_size=12))
def test_decodes_anything_as_fastavro_does(encoded: bytes) -> None:
    try:
        value, end = decode_long(encoded, 0)
    except ValueError:
        return
    source = BytesIO(encoded)
    assert fastavro.schemaless_reader(source, "long", None) == value
    assert source.tell() == end


@pytest.mark.parametrize("encoded", [b"", b"\x80", b"\xff" * 9, b"\xff" * 10 + b"\x01"])
def test_refuses_what_does_not_end(encoded: bytes) -> None:
    with pytest.raises(ValueError, match="integer"):
        decode_long(encoded, 0)
