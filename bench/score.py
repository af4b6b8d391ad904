"""Stamps per second of every backend that this machine has, by batch size; and what preprocessing costs.

Preprocessing is timed against the way it is usually written (numpy's nanmedian and arcsinh), in the same run, on the
same made-up ZTF triplets. CPU time is the process's own, all threads together; rates are by the clock.

Examples::

    python bench/score.py
    python bench/score.py --bundle core --batches 1,32,256 --threads 2 --json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
import warnings
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from space2vec.schemas.alert import Alert, Plane
from space2vec.schemas.packet import Packet
from space2vec.workers.backends import Backend, OnnxBackend, cuda_devices
from space2vec.workers.bundle import Bundle, load_bundle
from space2vec.workers.manifest import InputSpec
from space2vec.workers.preprocess import Preprocessor, normalise_triplets

ROUNDS = 5
ZTF_SIDE = 63


def main() -> int:
    """Run it and print the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", default="core", help="a shipped bundle's name, or a folder")
    parser.add_argument("--batches", default="1,32,256", help="batch sizes, with commas")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument(
        "--seconds", type=float, default=0.5, help="length of one round; the best of 5 counts"
    )
    parser.add_argument("--json", action="store_true", help="one JSON line on stdout")
    args = parser.parse_args()
    bundle = load_bundle(args.bundle)
    batches = [int(batch) for batch in args.batches.split(",")]
    result = {
        "bench": "score",
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs",
        "bundle": bundle.manifest.name,
        "sha256": bundle.sha256,
        "threads": args.threads,
        "score": [
            _score(name, backend, bundle.manifest.input, batch, args.seconds)
            for name, backend in _backends(bundle, args.threads)
            for batch in batches
        ],
        "preprocess": [_preprocess(bundle.manifest.input, batch, args.seconds) for batch in batches],
    }
    print(json.dumps(result) if args.json else _told(result))
    return 0


def _backends(bundle: Bundle, threads: int) -> list[tuple[str, Backend]]:
    from space2vec.workers.torch_backend import TorchBackend

    found: list[tuple[str, Backend]] = [
        ("onnxruntime", OnnxBackend(bundle, threads)),
        ("torch", TorchBackend(bundle, "cpu", threads)),
    ]
    if cuda_devices():
        found.append(("torch", TorchBackend(bundle, "cuda", threads)))
    return found


def _score(name: str, backend: Backend, spec: InputSpec, batch: int, seconds: float) -> dict[str, Any]:
    stamps = normalise_triplets(_triplets(batch), spec)
    wall, cpu = _best(lambda: backend.score(stamps), batch, seconds)
    return {
        "backend": name,
        "device": backend.device,
        "batch": batch,
        "stamps_per_s": round(1e6 / wall, 1),
        "cpu_us_per_stamp": round(cpu, 1),
    }


def _preprocess(spec: InputSpec, batch: int, seconds: float) -> dict[str, Any]:
    triplets = _triplets(batch)
    alerts = [_alert(number, stamps) for number, stamps in enumerate(triplets)]
    preprocessor = Preprocessor(spec)
    _, ours = _best(lambda: preprocessor.prepare(alerts), batch, seconds)
    _, textbook = _best(lambda: _textbook(triplets, spec), batch, seconds)
    return {
        "batch": batch,
        "cpu_us_per_alert": round(ours, 1),
        "textbook_cpu_us_per_alert": round(textbook, 1),
        "ratio": round(textbook / ours, 2),
    }


def _best(work: Callable[[], object], count: int, seconds: float) -> tuple[float, float]:
    """Least microseconds per stamp over the rounds, by the clock and of CPU."""
    work()
    rounds = []
    for _ in range(ROUNDS):
        calls, wall, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - wall < seconds:
            work()
            calls += 1
        scale = 1e6 / (calls * count)
        rounds.append(((time.perf_counter() - wall) * scale, (time.process_time() - cpu) * scale))
    return min(wall for wall, _ in rounds), min(cpu for _, cpu in rounds)


def _triplets(count: int) -> NDArray[np.float32]:
    """ZTF-like triplets; every seventh has a dead column, as one in seven of ZTF's has pixels without a value."""
    stamps = np.random.default_rng(1).normal(300, 12, (count, 3, ZTF_SIDE, ZTF_SIDE)).astype(np.float32)
    stamps[6::7, :, :, 20] = np.nan
    return stamps


def _alert(number: int, stamps: NDArray[np.float32]) -> Alert:
    return Alert(
        survey="ztf",
        alert_id=number,
        object_id=None,
        mjd_tai=None,
        ra=None,
        dec=None,
        negative=bool(number % 2),
        flipped=True,
        x=1500.2,
        y=1600.7,
        nominal_size=ZTF_SIDE,
        stamps=dict(zip(Plane, stamps, strict=True)),
        faults={},
        schema_version=None,
        packet=cast(Packet, None),
    )


def _textbook(stamps: NDArray[np.float32], spec: InputSpec) -> NDArray[np.float32]:
    """Do what the manifest says as it is usually written."""
    rule = spec.normalisation
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        median = np.nanmedian(stamps, axis=(2, 3), keepdims=True)
        noise = 1.4826 * np.nanmedian(np.abs(stamps - median), axis=(2, 3), keepdims=True)
        bent = np.clip(np.arcsinh((stamps - median) / noise / rule.softening), -rule.clip, rule.clip)
    start = stamps.shape[-1] // 2 - spec.size // 2
    part = bent[..., start : start + spec.size, start : start + spec.size]
    return np.ascontiguousarray(np.nan_to_num(part), dtype=np.float32)


def _told(result: dict[str, Any]) -> str:
    lines = [f"{result['bundle']} on {result['machine']}, {result['threads']} threads"]
    lines += [
        f"{row['backend']:12} {row['device']:7} batch {row['batch']:4}: {row['stamps_per_s']:9} stamps/s, "
        f"{row['cpu_us_per_stamp']} CPU us each"
        for row in result["score"]
    ]
    lines += [
        f"preprocessing batch {row['batch']:4}: {row['cpu_us_per_alert']} CPU us per alert, "
        f"{row['ratio']} times the textbook way ({row['textbook_cpu_us_per_alert']})"
        for row in result["preprocess"]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
