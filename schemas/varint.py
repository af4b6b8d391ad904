"""Avro's variable-length integers: zig-zag, then seven bits to a byte, least significant first.

Source: Avro 1.12 specification, "Binary Encoding".
"""

from __future__ import annotations

_LONGEST = 10
"""Bytes of the longest 64-bit integer."""
_64_BITS = (1 << 64) - 1


def encode_long(value: int) -> bytes:
    """Avro's bytes for a signed 64-bit integer."""
    rest = (value << 1) ^ (value >> 63)
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def decode_long(source: bytes, start: int) -> tuple[int, int]:
    """Read one integer.

    Returns
    -------
    value, end : int
        The integer, and the position after it.

    Raises
    ------
    ValueError
        If the bytes end within it, or it takes more bytes than 64 bits can.
    """
    rest = shift = 0
    for byte in source[start : start + _LONGEST]:
        rest |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            rest &= _64_BITS
            return (rest >> 1) ^ -(rest & 1), start + shift // 7
    if start + _LONGEST > len(source):
        raise ValueError("the bytes end within an integer")
    raise ValueError("an integer of more than 10 bytes")
