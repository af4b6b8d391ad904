"""Pacing by clocks that the test turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from space2vec.schemas.reader import PacketReader
from space2vec.schemas.times import DAY_S
from space2vec.stream.pacing import CpuShare, OwnTimes, Pace, Pacing, Rate, Unpaced


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def handed_out(pace: Pace, clock: Clock, packets: list[bytes], work: float = 0.0) -> list[float]:
    """When each packet goes out, in seconds since the first, if each then takes ``work`` seconds."""
    times = []
    for packet in packets:
        while (early := pace.wait(packet)) > 0:
            clock.now += min(early, 0.05)  # as a source does: it must serve events meanwhile
        times.append(clock.now - 1000.0)
        pace.passed()
        clock.now += work
    return times


@given(st.integers(2, 50), st.floats(0.5, 1000))
def test_a_rate(count: int, per_s: float) -> None:
    clock = Clock()
    times = handed_out(Rate(per_s, clock), clock, [b"x"] * count)
    assert times == pytest.approx([i / per_s for i in range(count)], abs=1e-6)


@given(st.lists(st.floats(0, 3600), min_size=1, max_size=30), st.sampled_from([1.0, 10.0, 100.0]))
def test_gaps_are_those_of_the_alerts_by_the_factor(seconds: list[float], speed: float) -> None:
    seconds.sort()
    clock = Clock()
    packets = [repr(s).encode() for s in seconds]
    pace = OwnTimes(speed, lambda packet: 61300 + float(packet) / DAY_S, clock)
    expected = [(s - seconds[0]) / speed for s in seconds]
    assert handed_out(pace, clock, packets) == pytest.approx(expected, abs=1e-3)
    assert pace.behind < 1e-3


def test_alerts_without_a_time_or_out_of_order_are_due_at_once() -> None:
    clock = Clock()
    days = {b"a": 1.0, b"b": None, b"c": 1.0 + 20 / DAY_S, b"d": 1.0 + 5 / DAY_S, b"e": 1.0 + 30 / DAY_S}
    pace = OwnTimes(1.0, days.__getitem__, clock)
    assert handed_out(pace, clock, list(days)) == pytest.approx([0, 0, 20, 20, 30], abs=1e-3)


def test_what_cannot_be_kept_is_said() -> None:
    clock = Clock()
    rate = Rate(10.0, clock)
    handed_out(rate, clock, [b"x"] * 11, work=1.0)
    assert rate.behind == pytest.approx(11 - 1.1)
    clock = Clock()
    packets = [b"%d" % i for i in range(11)]
    own = OwnTimes(1.0, lambda packet: float(packet) / DAY_S, clock)
    handed_out(own, clock, packets, work=3.0)
    assert own.behind == pytest.approx(20.0, abs=1e-3)


def test_a_share_of_the_processor() -> None:
    clock, cpu = Clock(), Clock()
    pace = CpuShare(0.25, clock, cpu)
    for _ in range(100):
        while (early := pace.wait(b"")) > 0:
            clock.now += early
        pace.passed()
        clock.now += 0.1
        cpu.now += 0.1  # all of that was work
    used, passed = cpu.now - 1000.0, clock.now - 1000.0
    assert used / passed == pytest.approx(0.25, abs=0.01)


def test_a_share_that_was_not_used_is_not_made_up_for() -> None:
    clock, cpu = Clock(), Clock()
    pace = CpuShare(0.25, clock, cpu)
    clock.now += 100  # storage was slow: nothing was done
    burst = 0
    while pace.wait(b"") == 0:
        pace.passed()
        cpu.now += 0.01
        clock.now += 0.01
        burst += 1
    assert burst * 0.01 == pytest.approx(0.25 / 0.75, abs=0.02)  # a second's share, and what came meanwhile


def test_an_alert_s_own_time_is_found(make_alerts) -> None:
    pace = Pacing(speed=10.0).pace(PacketReader())
    assert isinstance(pace, OwnTimes)
    packet = make_alerts(ztf=1)[0].packet
    assert pace._time_of(packet) == pytest.approx(2461300.7 - 2400000.5, abs=0.01)
    assert pace._time_of(b"not an alert") is None
    assert isinstance(Pacing().pace(PacketReader()), Unpaced)
