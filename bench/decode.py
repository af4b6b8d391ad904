"""Packets to network inputs: alerts per CPU second, ours against the textbook way, in one run.

Both start from the bytes of a Kafka message and end with normalised stamps as the shipped bundle wants them. The
textbook way is what alert brokers do in Python: fastavro for the whole record, gzip, astropy.io.fits, numpy.
Rounds of both alternate, and the best of each counts, so that a busy machine wrongs neither.

Examples::

    python bench/decode.py --json
    python bench/decode.py --survey lsst --history 350 --json
    python bench/decode.py --packets ../shared/packets/ztf --json
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
from astropy.io import fits
from good_packets import MadeSchemas
from numpy.typing import NDArray
from sent_packets import found_packets, made_packets

from space2vec.schemas.alert import Alert
from space2vec.schemas.container import MAGIC
from space2vec.schemas.reader import PacketReader
from space2vec.schemas.settings import SchemaSettings
from space2vec.schemas.writers import WriterSchemas, writer_schemas
from space2vec.workers.bundle import load_bundle
from space2vec.workers.manifest import InputSpec
from space2vec.workers.preprocess import Preprocessor

ROUNDS = 7
BATCH = 64
IN_FLIGHT = 3
"""Batches that wait for their scores, as in the service. With none the C library would give their memory back to the
system and ask for it again at each batch, which a stream that goes on does not see (`ru_minflt`)."""
CUTOUTS = (
    ("cutoutScience", "cutout_science"),
    ("cutoutTemplate", "cutout_template", "cutoutReference"),
    ("cutoutDifference", "cutout_difference"),
)


def main() -> int:
    """Run it and print the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--survey", choices=("ztf", "lsst"), help="whose packets to make; default ztf")
    parser.add_argument("--history", type=int, help="earlier measurements in each made packet; default 0")
    parser.add_argument("--packets", type=Path, help="folder of real packets to take instead")
    parser.add_argument("--count", type=int, default=128, help="packets")
    parser.add_argument("--bundle", default="core", help="whose input to prepare")
    parser.add_argument("--json", action="store_true", help="one JSON line on stdout")
    args = parser.parse_args()
    survey = args.survey or ("lsst" if args.history else "ztf")
    made = args.packets is None
    if made:
        schemas, packets = MadeSchemas(), made_packets(survey, args.count, args.history or 0)
    else:
        schemas, packets = writer_schemas(SchemaSettings()), found_packets(args.packets, args.count)
    result = measure(packets, schemas, load_bundle(args.bundle).manifest.input)
    result["history"] = args.history or 0 if made else None
    print(json.dumps(result) if args.json else told(result))
    return 0


def measure(packets: list[bytes], schemas: WriterSchemas, spec: InputSpec) -> dict[str, Any]:
    reader, preprocessor = PacketReader(schemas), Preprocessor(spec)
    alerts = [alert for raw in packets for alert in reader.read(raw)]
    assert all(isinstance(alert, Alert) for alert in alerts)
    known = [alert for alert in alerts if isinstance(alert, Alert)]

    def read() -> None:
        for raw in packets:
            for _ in reader.read(raw):
                pass

    def prepare() -> None:
        for start in range(0, len(known), BATCH):
            preprocessor.prepare(known[start : start + BATCH])

    in_flight: deque[object] = deque(maxlen=IN_FLIGHT)

    def ours() -> None:
        for start in range(0, len(packets), BATCH):
            batch = [found for raw in packets[start : start + BATCH] for found in reader.read(raw)]
            prepared = preprocessor.prepare([alert for alert in batch if isinstance(alert, Alert)])
            in_flight.append((batch, prepared))

    def textbook() -> None:
        for raw in packets:
            textbook_input(raw, schemas, spec)

    best = best_of({"ours": ours, "textbook": textbook, "read": read, "preprocess": prepare}, len(packets))
    return {
        "bench": "decode",
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs",
        "survey": Counter(alert.survey for alert in known).most_common(1)[0][0],
        "packets": len(packets),
        "packet_bytes": sum(map(len, packets)) // len(packets),
        "alerts_per_cpu_s": round(1e6 / best["ours"], 1),
        "textbook_alerts_per_cpu_s": round(1e6 / best["textbook"], 1),
        "ratio": round(best["textbook"] / best["ours"], 1),
        "read_cpu_us": round(best["read"], 1),
        "preprocess_cpu_us": round(best["preprocess"], 1),
    }


def best_of(ways: dict[str, Callable[[], None]], count: int) -> dict[str, float]:
    """Least CPU microseconds per packet of each way, over alternating rounds."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.process_time()
            way()
            best[name] = min(best[name], (time.process_time() - start) / count * 1e6)
    return best


def textbook_input(raw: bytes, schemas: WriterSchemas, spec: InputSpec) -> NDArray[np.float32]:
    """Do for one message what most of the field does."""
    if raw.startswith(MAGIC):
        record: Any = next(fastavro.reader(BytesIO(raw)))
    else:
        writer = schemas.get(int.from_bytes(raw[1:5], "big"))
        record = fastavro.schemaless_reader(BytesIO(raw[5:]), writer.parsed, None)
    planes = [textbook_plane(stamp, spec) for stamp in textbook_stamps(record)]
    return np.stack(planes)


def textbook_stamps(record: dict[str, Any]) -> Iterator[NDArray[np.float32]]:
    for names in CUTOUTS:
        cutout = next(record[name] for name in names if name in record)
        content = cutout["stampData"] if isinstance(cutout, dict) else cutout
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        with fits.open(BytesIO(content), ignore_missing_simple=True) as hdus:
            yield hdus[0].data.astype(np.float32)


def textbook_plane(stamp: NDArray[np.float32], spec: InputSpec) -> NDArray[np.float32]:
    rule, size = spec.normalisation, spec.size
    median = np.nanmedian(stamp)
    noise = 1.4826 * np.nanmedian(np.abs(stamp - median))
    bent = np.clip(np.arcsinh((stamp - median) / noise / rule.softening), -rule.clip, rule.clip)
    bent = np.nan_to_num(np.pad(bent, size // 2, constant_values=np.nan))
    row, col = stamp.shape[0] // 2, stamp.shape[1] // 2
    return np.ascontiguousarray(bent[row : row + size, col : col + size], dtype=np.float32)


def told(result: dict[str, Any]) -> str:
    return (
        f"{result['survey']}, {result['packets']} packets of {result['packet_bytes']} bytes, {result['machine']}\n"
        f"{result['alerts_per_cpu_s']} alerts per CPU second, {result['ratio']} times the textbook way "
        f"({result['textbook_alerts_per_cpu_s']}); per alert {result['read_cpu_us']} us to read, "
        f"{result['preprocess_cpu_us']} us to preprocess"
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    raise SystemExit(main())
