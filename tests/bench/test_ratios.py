"""Decoding must stay faster than the textbook way by a margin: both are timed in one run, so the machine cancels out.

The bars are about half of what was measured on a busy machine (docs/performance.md), so that only a real loss of
speed, such as a short cut that is no longer taken, breaks them.
"""

from __future__ import annotations

import pytest
from decode import measure
from good_packets import MadeSchemas
from sent_packets import made_packets

from space2vec.workers.bundle import load_bundle


@pytest.mark.parametrize(
    ("survey", "history", "count", "bar"),
    [("ztf", 0, 16, 5.5), ("lsst", 0, 16, 12), ("lsst", 30, 8, 12), ("lsst", 350, 4, 120)],
)
def test_packets_to_stamps(survey: str, history: int, count: int, bar: float) -> None:
    packets = made_packets(survey, count, history)
    found = measure(packets, MadeSchemas(), load_bundle("core").manifest.input)
    assert found["ratio"] > bar, found
