"""Decoding must stay faster than the textbook way by a margin: both are timed in one run, so the machine cancels out.

The bars are about half of what was measured on a busy machine (docs/performance.md), so that only a real loss of
speed, such as a short cut that is no longer taken, breaks them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from space2vec.schemas.settings import SchemaSettings
from space2vec.schemas.writers import ChainedSchemas, writer_schemas
from space2vec.workers.bundle import load_bundle

BENCH = Path(__file__).resolve().parents[2] / "bench" / "decode.py"


@pytest.fixture(scope="module")
def decode() -> Iterator[ModuleType]:
    spec = spec_from_file_location("bench_decode", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["bench_decode"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["bench_decode"]


@pytest.mark.parametrize(
    ("survey", "history", "count", "bar"),
    [("ztf", 0, 16, 5.5), ("lsst", 0, 16, 12), ("lsst", 30, 8, 12), ("lsst", 350, 4, 120)],
)
def test_packets_to_stamps(decode: ModuleType, survey: str, history: int, count: int, bar: float) -> None:
    schemas = ChainedSchemas([decode.MadeSchemas(), writer_schemas(SchemaSettings())])
    packets = decode.make(survey, count, history)
    found = decode.measure(packets, schemas, load_bundle("core").manifest.input)
    assert found["ratio"] > bar, found
