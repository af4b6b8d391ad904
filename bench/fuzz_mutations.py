"""Packets that went wrong on the way, or were made to do harm: what `bench/fuzz.py` feeds to the reader.

Each is drawn from a random generator, so that its number and the seed bring it back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from random import Random

from fuzz_bytes import LIES, SQUEEZERS, bomb, flip
from fuzz_cutouts import cutout, fits
from fuzz_schemas import TINY, hostile_schema

from space2vec.schemas.container import MAGIC, HeaderReader, compact_json, container_header
from space2vec.schemas.limits import Limits
from space2vec.schemas.varint import encode_long
from space2vec.training.packet_schemas import ztf_writer_schema
from space2vec.training.packets import lsst_packet, ztf_packet

_KNOWN = {"ra": 150.0, "dec": 2.0}

Mutation = Callable[["Mutator", Random], bytes]


class Mutator:
    """Makes hostile packets out of good ones.

    Parameters
    ----------
    packets : sequence of bytes
        Whole packets, of any framing.
    """

    def __init__(self, packets: Sequence[bytes]) -> None:
        self._packets = packets
        self._containers = [raw for raw in packets if raw.startswith(MAGIC)]
        self._headers = HeaderReader(Limits())

    def draw(self, rng: Random) -> tuple[str, bytes]:
        """Make one packet; the name of what was done to it comes first."""
        (kind,) = rng.choices(list(_KINDS), [weight for weight, _ in _KINDS.values()])
        raw = _KINDS[kind][1](self, rng)
        if kind not in ("whole", "flipped", "cut") and rng.random() < 0.1:
            return f"{kind} and flipped", flip(rng, raw)
        return kind, raw

    def _end_of_header(self, raw: bytes) -> int:
        return len(self._headers.read(raw).prefix) + 16

    def whole(self, rng: Random) -> bytes:
        return rng.choice(self._packets)

    def flipped(self, rng: Random) -> bytes:
        return flip(rng, self.whole(rng))

    def cut(self, rng: Random) -> bytes:
        raw = self.whole(rng)
        return raw[: rng.randrange(len(raw))]

    def spliced(self, rng: Random) -> bytes:
        """Take pieces out, put them in again elsewhere, or exchange them for another packet's."""
        raw = self.whole(rng)
        for _ in range(rng.randint(1, 4)):
            a, b = sorted((rng.randrange(len(raw) + 1), rng.randrange(len(raw) + 1)))
            other = self.whole(rng)
            raw = (
                rng.choice(
                    (
                        raw[:a] + raw[b:],
                        raw[:b] + raw[a:],
                        raw[:a] + other[a:],
                        raw[:a] + other[a:b] + raw[b:],
                        raw[:a] + rng.randbytes(rng.randrange(64)) + raw[a:],
                    )
                )
                or raw
            )
        return raw

    def lengths(self, rng: Random) -> bytes:
        """Put wrong numbers where counts and lengths stand, or may."""
        raw = bytearray(self.whole(rng))
        places = [at for magic in (b"\x1f\x8b\x08", b"SIMPLE", b".fits") for at in _all(raw, magic)]
        if raw.startswith(MAGIC):
            start = self._end_of_header(bytes(raw))
            places += [4, 5, start, start + 1, start + 2, start + 3, start + 4]
        for _ in range(rng.randint(1, 3)):
            lie = encode_long(
                rng.choice(LIES) + rng.choice((-1, 0, 0, 1)) if rng.random() < 0.8 else -(1 << 63)
            )
            at = rng.choice(places) - rng.randint(0, 4) if places else rng.randrange(len(raw))
            at = max(at, 0)
            replaced = rng.choice((0, 1, 2, 3, len(lie)))
            raw[at : at + replaced] = lie
        return bytes(raw)

    def blocks(self, rng: Random) -> bytes:
        """Say wrong things about a container's blocks, or repeat them."""
        raw = rng.choice(self._containers)
        end = self._end_of_header(raw)
        header, body, sync = raw[:end], raw[end:], raw[end - 16 : end]
        count, size = rng.choice((1, 2, 1000, *LIES)), rng.choice((len(body), *LIES))
        return rng.choice(
            (
                header + body * rng.randint(2, 200),
                header + encode_long(count) + encode_long(len(body)) + body + sync,
                header + encode_long(count) + encode_long(size) + body,
                header + (encode_long(count) + encode_long(0) + sync) * rng.randint(1, 1000),
                header + (encode_long(0) + encode_long(0) + sync) * rng.randint(1, 1000) + body,
                header[:-16] + rng.randbytes(16) + body,
            )
        )

    def codecs(self, rng: Random) -> bytes:
        """Compress a block to a bomb, or call it what it is not."""
        codec = rng.choice(list(SQUEEZERS))
        schema = rng.choice((ztf_writer_schema("4.02"), TINY))
        header = container_header(compact_json(schema), codec)
        if rng.random() < 0.5:
            block = bomb(codec)
        else:
            block = SQUEEZERS[rng.choice(list(SQUEEZERS))](rng.randbytes(rng.randrange(2000)))
        count = rng.choice((1, 2, 25_000, *LIES))
        return header + encode_long(count) + encode_long(len(block)) + block + header[-16:]

    def cutouts(self, rng: Random) -> bytes:
        """Put bombs and lies where the cutouts are."""
        chosen = [fits(rng) if rng.random() < 0.3 else cutout(rng) for _ in range(3)]
        if rng.random() < 0.5:
            header, body = _ztf_without_cutouts()
            parts = [b"\x02\x02x" + encode_long(len(each)) + each for each in chosen]
            datum = body + b"".join(parts)
            repeated = rng.choice((1, 1, 1, 1, rng.randint(2, 50)))
            return b"".join(
                (
                    header,
                    encode_long(repeated),
                    encode_long(len(datum) * repeated),
                    datum * repeated,
                    header[-16:],
                )
            )
        return _lsst_without_cutouts() + b"".join(b"\x02" + encode_long(len(each)) + each for each in chosen)

    def schemas(self, rng: Random) -> bytes:
        """Bring a schema that is meant to do harm, or one that was damaged."""
        schema = hostile_schema(rng)
        text = schema if isinstance(schema, str) else json.dumps(schema)
        if rng.random() < 0.2:
            at = rng.randrange(len(text))
            text = (
                text[:at]
                + rng.choice(("", '"', "{", "}", "[", "null", "9" * 5000))
                + text[at + rng.randint(0, 9) :]
            )
        header = container_header(text, rng.choice(("null", "null", "deflate", "nonsense")))
        body = rng.choice(
            (
                bytes(rng.randrange(1, 100_000)),
                rng.randbytes(rng.randrange(1, 3000)),
                b"\x02" * rng.randrange(1, 100_000),
                encode_long(1 << 60) + bytes(1000),
                self.whole(rng),
            )
        )
        count = rng.choice((1, 1, 2, 1000, 25_000, 1 << 40))
        return header + encode_long(count) + encode_long(len(body)) + body + header[-16:]

    def framings(self, rng: Random) -> bytes:
        """Name the wrong writer schema, or none."""
        raw = rng.choice([packet for packet in self._packets if not packet.startswith(MAGIC)])
        wrong = rng.choice((800, 900, 1000, 1100, 1101, 0, 12345, 0xFFFFFFFF))
        return rng.choice(
            (
                b"\x00" + wrong.to_bytes(4, "big") + raw[5:],
                raw[5:],
                raw + raw,
                rng.randbytes(rng.randrange(300)),
                MAGIC + rng.randbytes(rng.randrange(300)),
                MAGIC + encode_long(rng.choice(LIES)) + rng.randbytes(50),
                b"\x00" + rng.choice((b"", bytes(3), bytes(4), bytes(2000))),
            )
        )


_KINDS: dict[str, tuple[int, Mutation]] = {
    "whole": (3, Mutator.whole),
    "flipped": (22, Mutator.flipped),
    "cut": (10, Mutator.cut),
    "spliced": (15, Mutator.spliced),
    "lengths": (15, Mutator.lengths),
    "blocks": (7, Mutator.blocks),
    "codecs": (4, Mutator.codecs),
    "cutouts": (14, Mutator.cutouts),
    "schemas": (7, Mutator.schemas),
    "framings": (3, Mutator.framings),
}
"""How often each is drawn, in parts of a hundred."""


def _all(raw: bytes | bytearray, magic: bytes) -> list[int]:
    places, at = [], raw.find(magic)
    while at >= 0 and len(places) < 8:
        places.append(at)
        at = raw.find(magic, at + 1)
    return places


@cache
def _ztf_without_cutouts() -> tuple[bytes, bytes]:
    raw = ztf_packet(None, None, None, alert_id=1, object_id="ZTF1", jd=2460449.9, **_KNOWN)
    end = len(HeaderReader(Limits()).read(raw).prefix) + 16
    size = len(raw) - end - 16
    # One record of a few hundred bytes: its count takes one byte, its size two.
    return raw[:end], raw[end + 3 : end + size - 3]


@cache
def _lsst_without_cutouts() -> bytes:
    return lsst_packet(None, None, None, alert_id=1, object_id=1, mjd_tai=61095.3, **_KNOWN)[:-3]
