"""Fuzz the reader's bytes, led by the code that they reach: atheris, which is libFuzzer for Python.

Needs ``pip install atheris`` (Linux; 3.0.0 was tried with CPython 3.11). Instruments the rooms that look at a
packet's bytes, begins with small packets of every layout, and stops at the first exception or packet that takes
longer than ten seconds, or after the time given. What it finds is written to the working folder as ``crash-*`` or
``timeout-*``; give that file as an argument to see it again.

Examples::

    python bench/fuzz_atheris.py -max_total_time=600
    python bench/fuzz_atheris.py crash-1234
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["space2vec.schemas", "space2vec.workers.preprocess"]):
    from fuzz_target import Target

from space2vec.training.packets import lsst_packet, ztf_packet

_KNOWN = {"alert_id": 1, "ra": 150.0, "dec": 2.0}
_OPTIONS = (
    "-timeout=10",
    "-rss_limit_mb=2048",
    "-max_len=65536",
    "-use_value_profile=1",
    "-print_final_stats=1",
)


def main() -> None:
    """Run it; libFuzzer takes the arguments, and ends the process."""
    target = Target()

    def feed(raw: bytes) -> None:
        target.feed(raw)

    with tempfile.TemporaryDirectory(prefix="space2vec-fuzz-") as folder:
        for number, raw in enumerate(small_packets()):
            (Path(folder) / str(number)).write_bytes(raw)
        given = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
        atheris.Setup([*sys.argv, *_OPTIONS, *([] if given else [folder])], feed)
        atheris.Fuzz()


def small_packets() -> list[bytes]:
    """Make packets with the smallest of cutouts, so that most of their bytes mean something."""
    tiny = np.random.default_rng(1).normal(100, 9, (3, 4, 4)).astype(np.float32)
    packets = [
        lsst_packet(*tiny, object_id=7, mjd_tai=61095.3, psf=0, schema_id=id_, history=2, **_KNOWN)
        for id_ in (900, 1100)
    ]
    for codec in ("null", "deflate", "snappy"):
        packets.append(ztf_packet(*tiny, object_id="ZTF1", jd=2460449.9, codec=codec, history=2, **_KNOWN))
    return packets


if __name__ == "__main__":
    main()
