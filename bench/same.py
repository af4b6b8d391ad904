"""Show that the fast paths change nothing: the same alerts and scores, to the bit, with them and without.

With: both ends of a datum, stamps by few cards, libdeflate, whichever median is faster here, and the other one too.
Without: fastavro for the whole datum, astropy for every stamp, zlib, medians by partition. Everything that an alert
holds is compared, and what the shipped classifier says of it.

Examples::

    python bench/same.py --json
    python bench/same.py --count 0 --packets ../shared/packets --json

Exits with 0 if nothing differed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import warnings
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from good_packets import MadeSchemas, good_packets
from rich.progress import track

from space2vec.schemas.alert import Alert
from space2vec.schemas.errors import PacketError
from space2vec.schemas.profiles import Profiles
from space2vec.schemas.reader import PacketReader
from space2vec.schemas.settings import SchemaSettings
from space2vec.schemas.writers import ChainedSchemas, writer_schemas
from space2vec.workers.backends import open_backend
from space2vec.workers.bundle import load_bundle
from space2vec.workers.preprocess import Preprocessor

BATCH = 64
FIELDS = [name for name in Alert.__slots__ if name not in ("stamps", "faults", "packet")]


def main() -> int:
    """Run it; 0 when nothing differed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000, help="packets to make")
    parser.add_argument("--packets", type=Path, help="folder of real packets to take as well")
    parser.add_argument("--json", action="store_true", help="one JSON line on stdout")
    args = parser.parse_args()
    start = time.monotonic()
    files = sorted(args.packets.rglob("*.avro")) if args.packets else []
    packets = named(args.count, files)
    compared = Comparison()
    total = -(-(args.count + len(files)) // BATCH)
    for _ in track(range(total), "batches", disable=not sys.stderr.isatty()):
        compared.add(list(islice(packets, BATCH)))
    told = {"bench": "same", "packets": args.count + len(files), "records": compared.records}
    told |= {"scored": compared.scored, "different": len(compared.different)}
    told["seconds"] = round(time.monotonic() - start, 1)
    told["machine"] = f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs"
    for name in compared.different:
        print(f"differs: {name}", file=sys.stderr)
    print(json.dumps(told) if args.json else "\n".join(f"{name:9} {value}" for name, value in told.items()))
    return 1 if compared.different else 0


def named(count: int, files: list[Path]) -> Iterator[tuple[str, bytes]]:
    """Give made packets, then real ones, each with its name."""
    for first in range(0, count, BATCH):
        for number, raw in enumerate(good_packets(min(BATCH, count - first), first), first):
            yield f"made {number}", raw
    for path in files:
        yield str(path), path.read_bytes()


class Comparison:
    """Takes packets both ways, and counts."""

    def __init__(self) -> None:
        bundle = load_bundle("core")
        self._preprocessor = Preprocessor(bundle.manifest.input)
        self._backend = open_backend(bundle, "cpu")
        schemas, profiles = ChainedSchemas([MadeSchemas(), writer_schemas(SchemaSettings())]), Profiles.load()
        self._fast = PacketReader(schemas, profiles)
        self._full = PacketReader(schemas, profiles, two_ended=False)
        self.records = self.scored = 0
        self.different: list[str] = []

    def add(self, batch: list[tuple[str, bytes]]) -> None:
        """Compare one batch."""
        names, fast = self._found(self._fast, batch)
        with (
            patch("space2vec.schemas.stamps._plain_image", lambda _: None),
            patch(
                "space2vec.schemas.stamps.gunzip", lambda zipped, _: zlib.decompressobj(31).decompress(zipped)
            ),
        ):
            _, full = self._found(self._full, batch)
        said = [self._say(fast, True), self._say(fast, False), self._say(full, False)]
        self.records += len(fast)
        self.scored += sum(isinstance(one[-1], bytes) for one in said[0])
        if len(fast) != len(full):
            self.different.append(f"{names[0]} and {len(batch) - 1} after it: not as many records")
        self.different += [
            name for name, *told in zip(names, *said, strict=False) if told.count(told[0]) != 3
        ]

    def _found(
        self, reader: PacketReader, batch: list[tuple[str, bytes]]
    ) -> tuple[list[str], list[Alert | PacketError]]:
        found = [(name, one) for name, raw in batch for one in reader.read(raw)]
        return [name for name, _ in found], [one for _, one in found]

    def _say(self, found: list[Alert | PacketError], blocks: bool) -> list[tuple[Any, ...]]:
        """Everything that is known of each record in the end, comparable."""
        alerts = [one for one in found if isinstance(one, Alert)]
        with patch("space2vec.workers.medians._blocks_pay", lambda: blocks):
            prepared = self._preprocessor.prepare(alerts)
        scores = self._backend.score(prepared.stamps).probability if prepared.rows else ()
        score = {id(alerts[i]): np.float64(p).tobytes() for i, p in zip(prepared.rows, scores, strict=True)}
        return [
            (repr(one.reason), one.field)
            if isinstance(one, PacketError)
            else (
                *(repr(getattr(one, name)) for name in FIELDS),
                sorted((plane, stamp.shape, stamp.tobytes()) for plane, stamp in one.stamps.items()),
                sorted((plane, fault.reason) for plane, fault in one.faults.items()),
                score.get(id(one)),
            )
            for one in found
        ]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    raise SystemExit(main())
