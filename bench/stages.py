"""Where the CPU time of one ZTF alert goes, what the hardware's limit of each part is, and a picture of both.

The parts within the service are timed here one by one, on one thread, the best of many rounds; what Kafka's client and
broker cost comes from a run of `bench/kafka_to_kafka.py --json`, if its output is given. Limits: inflating alone;
moving the packet's bytes once in and once out at the speed of a large copy; the network's multiply-adds at
the speed of a large matrix product.

Examples::

    python bench/stages.py --packets ../shared/packets/ztf
    python bench/kafka_to_kafka.py --json > /tmp/service.json
    python bench/stages.py --service /tmp/service.json --picture docs/images/performance.png
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy: a limit per core

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from costs import machine
from sent_packets import found_packets, made_packets

from space2vec.schemas.alert import Alert
from space2vec.schemas.inflate import gunzip
from space2vec.schemas.limits import Limits
from space2vec.schemas.reader import PacketReader
from space2vec.schemas.settings import Settings
from space2vec.schemas.stamps import read_stamp
from space2vec.stream.assembly import opener_of
from space2vec.stream.local_scorer import LocalScorer
from space2vec.stream.models import Model
from space2vec.stream.protocols import Message, Partition
from space2vec.workers.backends import open_backend
from space2vec.workers.bundle import Bundle, load_bundle
from space2vec.workers.preprocess import Preprocessor

BATCH = 256
ROUNDS = 15
SKETCH = {
    "Kafka client": 75,
    "container, tail": 89,
    "inflate": 200,
    "FITS": 33,
    "normalise": 489,
    "network": 455,
    "broker": 650,
}
"""The first sketch (issue 5): one process, at least once, embedded broker, annotated alerts alone."""


def main() -> int:
    """Run it and print the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--packets", type=Path, help="folder of real packets to take instead of made ones")
    parser.add_argument("--service", type=Path, help="what kafka_to_kafka.py --json printed")
    parser.add_argument("--picture", type=Path, help="file to draw to")
    parser.add_argument("--json", action="store_true", help="one JSON line on stdout")
    args = parser.parse_args()
    packets = found_packets(args.packets, BATCH) if args.packets else made_packets("ztf", BATCH)
    result = measure(packets)
    if args.service:
        costs = json.loads(args.service.read_text())["cpu_us_per_alert"]
        loop = costs["worker"] - costs["worker/librdkafka"] - costs["worker/open"] - costs["worker/answer"]
        result["cpu_us"] |= {
            "Kafka client": costs["worker/librdkafka"],
            # The run was another one, at another load: what is left over can come out below nothing.
            "loop, Ray": max(0, round(loop + costs["classifier"] - result["cpu_us"]["network"])),
            "broker": costs["broker"],
        }
    if args.picture:
        draw(result, args.picture)
    print(json.dumps(result) if args.json else "\n".join(f"{k:>12}: {v}" for k, v in result.items()))
    return 0


def measure(packets: list[bytes]) -> dict[str, Any]:
    """CPU microseconds per alert of each part, and of its limit."""
    where = machine()
    bundle, reader = load_bundle("core"), PacketReader()
    backend = open_backend(bundle, "cpu", 1)
    opener, answerer = opener_of(Settings())
    raws = [packets[number % len(packets)] for number in range(BATCH)]
    messages = [Message(Partition("alerts", 0), offset, raw, None, 1) for offset, raw in enumerate(raws)]
    alerts = [alert for raw in raws for alert in reader.read(raw) if isinstance(alert, Alert)]
    zipped = [cutout for raw in raws for cutout in gzips(raw)]
    cap = Limits().stamp_bytes
    inflated = [gunzip(cutout, cap) for cutout in zipped]
    batch, _ = opener.open(messages, [Model(bundle, LocalScorer(backend))])
    for look in batch.looks:
        look.submit()
        assert look.done(60.0)
    preprocessor = Preprocessor(bundle.manifest.input)
    read = best(lambda: [list(reader.read(raw)) for raw in raws])
    inflate = best(lambda: [gunzip(cutout, cap) for cutout in zipped])
    fits = best(lambda: [read_stamp(content, "stamp") for content in inflated])
    score = best(lambda: backend.score(batch.looks[0].stamps))
    size = sum(map(len, raws)) / len(raws)
    return {
        "bench": "stages",
        "machine": where,
        "packet_bytes": round(size),
        "cpu_us": {
            "container, tail": round(read - inflate - fits),
            "inflate": round(inflate),
            "FITS": round(fits),
            "normalise": round(best(lambda: preprocessor.prepare(alerts))),
            "network": round(score),
            "answer": round(best(lambda: answerer.answer(batch))),
        },
        "limit_us": {
            "inflate": round(inflate),
            "bytes in and out": round(2 * size / copied_per_us(), 1),
            "multiply-adds": round(multiply_adds(bundle) / products_per_us(), 1),
        },
        "copy_gb_per_s": round(copied_per_us() / 1000, 1),
        "gmac_per_s": round(products_per_us() / 1000, 1),
        "network_mmac": round(multiply_adds(bundle) / 1e6, 2),
    }


def gzips(raw: bytes) -> list[bytes]:
    """The gzipped cutouts of a packet, each to the start of the next."""
    starts, at = [], raw.find(b"\x1f\x8b\x08")
    while at >= 0:
        try:
            gunzip(raw[at:], 1 << 24)
            starts.append(at)
        except Exception:  # noqa: BLE001 - three bytes that only look like it
            pass
        at = raw.find(b"\x1f\x8b\x08", at + 3)
    return [_exact(raw[start:]) for start in starts]


def _exact(raw: bytes) -> bytes:
    """A gzip member without what follows it."""
    import zlib

    inflater = zlib.decompressobj(wbits=31)
    inflater.decompress(raw)
    return raw[: len(raw) - len(inflater.unused_data)]


def best(work: Callable[[], object]) -> float:
    """Least CPU microseconds per alert over the rounds, of this thread."""
    work()
    least = float("inf")
    for _ in range(ROUNDS):
        began = time.thread_time()
        work()
        least = min(least, time.thread_time() - began)
    return least / BATCH * 1e6


def copied_per_us() -> float:
    """Bytes that one core copies in a microsecond, between arrays larger than its caches."""
    source = np.ones(256 << 20, np.uint8)
    target = np.empty_like(source)
    return source.nbytes / (BATCH * best(lambda: np.copyto(target, source)))


def products_per_us() -> float:
    """Multiply-adds that one core does in a microsecond, in a large float32 matrix product."""
    side = 1024
    left = np.ones((side, side), np.float32)
    return side**3 / (BATCH * best(lambda: left @ left))


def multiply_adds(bundle: Bundle) -> int:
    """Multiply-adds of the network for one alert: of its convolutions and matrix products."""
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(bundle.read(bundle.manifest.graph)))
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.value_info, *model.graph.output)
    }
    total = 0
    for node in model.graph.node:
        if node.op_type == "Conv":
            rows, columns = shapes[node.output[0]][2:]
            total += int(np.prod(weights[node.input[1]])) * rows * columns
        elif node.op_type in ("Gemm", "MatMul"):
            total += int(np.prod(weights[node.input[1]]))
    return total


def draw(result: dict[str, Any], path: Path) -> None:
    """Stacked bars: the first sketch, what is now, and the limits."""
    from matplotlib import pyplot as plt

    bars = {"first sketch": SKETCH, "now": result["cpu_us"], "limits": result["limit_us"]}
    parts = list(dict.fromkeys(part for bar in bars.values() for part in bar))
    colours = dict(zip(parts, plt.get_cmap("tab20").colors, strict=False))
    figure, axes = plt.subplots(figsize=(9, 3.6))
    for row, (name, bar) in enumerate(bars.items()):
        left = 0.0
        for part, cost in bar.items():
            axes.barh(row, cost, left=left, color=colours[part], edgecolor="white")
            if cost >= 45:
                axes.text(left + cost / 2, row, f"{cost:.0f}", ha="center", va="center", fontsize=8)
            left += cost
        axes.text(left + 10, row, f"{name}: {left:.0f}", va="center", fontsize=9)
    axes.set_yticks([])
    axes.invert_yaxis()
    axes.set_xlim(right=axes.get_xlim()[1] * 1.15)
    axes.set_xlabel("CPU µs per ZTF alert, Kafka to Kafka")
    handles = [plt.Rectangle((0, 0), 1, 1, color=colours[part]) for part in parts]
    axes.legend(handles, parts, fontsize=7, ncols=6, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    figure.savefig(path, dpi=130, bbox_inches="tight")


if __name__ == "__main__":
    raise SystemExit(main())
