"""More and fewer stream workers and classifiers: the rule by itself, and beside a real run."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from space2vec.schemas.settings import RaySettings, Settings
from space2vec.stream.audit import audit
from space2vec.stream.counts import Counts
from space2vec.stream.measures import Load, Measures
from space2vec.stream.protocols import Partition
from space2vec.stream.scaling import BUSY, LOOK_S, SHRINK_S, Demand, Scaling, demand_between
from space2vec.stream.summary import Summary
from space2vec.workers.classifier import ClassifierStatus
from space2vec.workers.histogram import Histogram
from trial import Outputs, Run, assert_all_answered, await_that

BOUNDS = RaySettings(workers=2, max_workers=9, classifiers=1, max_classifiers=4)

shares = st.floats(0, 1)
demands = st.builds(
    Demand,
    behind_s=st.one_of(st.just(0.0), st.just(math.inf), st.floats(0, 1000)),
    workers_busy=shares,
    classifiers_busy=shares,
    fill=shares,
)


@given(st.lists(st.tuples(st.floats(0.1, 100), demands), max_size=60))
def test_bounds_hold_and_nothing_is_let_go_soon_after_it_was_added(
    looks: list[tuple[float, Demand]],
) -> None:
    scaling, now = Scaling(BOUNDS), 1000.0
    there = (2, 1)
    added = -math.inf
    for seconds, demand in looks:
        now += seconds
        wanted = scaling.decide(now, *there, demand)
        assert 2 <= wanted[0] <= 9
        assert 1 <= wanted[1] <= 4
        assert sum(w > t for w, t in zip(wanted, there, strict=True)) <= 1  # one thing at a time
        if any(w < t for w, t in zip(wanted, there, strict=True)):
            assert now - added >= SHRINK_S
        if any(w > t for w, t in zip(wanted, there, strict=True)):
            added = now
        there = wanted


@given(
    arrival=st.floats(0, 3000),
    of_worker=st.floats(50, 500),
    of_classifier=st.floats(200, 2000),
)
def test_a_steady_stream_is_kept_up_with_and_then_left_alone(
    arrival: float, of_worker: float, of_classifier: float
) -> None:
    """Alerts per second: what comes, and what each actor can do. Fluid, but with the queue a backlog makes."""
    bounds = RaySettings(workers=1, max_workers=16, classifiers=1, max_classifiers=8)
    scaling, there, backlog = Scaling(bounds), (1, 1), 0.0
    history = []
    for look in range(3000):
        workers, classifiers = there
        able = min(workers * of_worker, classifiers * of_classifier) * LOOK_S
        done = min(able, backlog + arrival * LOOK_S)
        backlog += arrival * LOOK_S - done
        demand = Demand(
            behind_s=0.0 if backlog < 1 else backlog / (done / LOOK_S),
            workers_busy=done / (workers * of_worker * LOOK_S),
            classifiers_busy=done / (classifiers * of_classifier * LOOK_S),
            fill=1.0 if backlog >= 1 else 0.3,
        )
        there = scaling.decide(1000 + look * LOOK_S, *there, demand)
        history.append(there)
    assert len(set(history[-300:])) == 1, "it comes and goes"
    can = min(16 * of_worker, 8 * of_classifier)
    if arrival < 0.8 * can:
        assert backlog < 1
    workers, classifiers = there
    if workers > 1 and arrival < 0.8 * can:  # no more than needed: one fewer would be busier than ROOM
        assert arrival / ((workers - 1) * of_worker) > 0.59


def test_classifiers_are_added_only_where_they_are_what_is_short() -> None:
    def after_a_while(demand: Demand, workers: int = 2) -> tuple[int, int]:
        scaling = Scaling(BOUNDS)
        wanted = [scaling.decide(float(now), workers, 1, demand) for now in range(1000, 1040, 5)]
        return max(wanted)

    behind = Demand(behind_s=60, workers_busy=1.0, classifiers_busy=0.2, fill=0.1)
    assert after_a_while(behind) == (3, 1)
    assert after_a_while(replace(behind, classifiers_busy=BUSY, fill=1.0)) == (2, 2)
    # Busy with nearly empty batches: more stream workers would fill them, until there are no more to be had.
    assert after_a_while(replace(behind, classifiers_busy=BUSY)) == (3, 1)
    assert after_a_while(replace(behind, classifiers_busy=BUSY), workers=9) == (9, 2)


def test_a_burst_is_no_reason() -> None:
    scaling = Scaling(BOUNDS)
    burst = Demand(behind_s=11, workers_busy=1, classifiers_busy=1, fill=1)
    calm = Demand(behind_s=0, workers_busy=0.5, classifiers_busy=0.5, fill=0.1)
    visits = [burst, burst, *[calm] * 6] * 50  # 39 s apart or so
    wanted = [scaling.decide(1000 + i * LOOK_S, 3, 2, demand) for i, demand in enumerate(visits)]
    assert set(wanted) == {(3, 2)}


def test_demand_is_what_happened_between_two_looks() -> None:
    def summary(seconds: float, messages: int, worked: float, batches: int, busy: float) -> Summary:
        measures = Measures()
        for stage in ("open", "answer"):
            measures.stages[stage].observe(worked / 2)
        measures.stages["score"].observe(1e6)  # waiting is no work
        scored = Histogram((256.0,), [batches, 0], 128.0 * batches)
        status = ClassifierStatus(1, "cpu", scored, busy)
        return Summary(
            Counts(messages=messages, scored=messages),
            seconds=seconds,
            measures=measures,
            loads=(Load(), Load()),
            classifiers=(status,),
        )

    lag = {Partition("night", 0): 1500, Partition("night", 1): 500}
    before, after = summary(100, 1000, 7.0, 10, 3.0), summary(110, 2000, 15.0, 18, 8.0)
    told = demand_between(before, after, lag, 256)
    told_of = (told.behind_s, told.workers_busy, told.classifiers_busy, told.fill)
    assert told_of == pytest.approx((20.0, 0.4, 0.5, 0.5))
    assert demand_between(before, after, {Partition("night", 0): 0}, 256).behind_s == 0
    stalled = replace(after, counts=before.counts)
    assert demand_between(before, stalled, lag, 256).behind_s == math.inf


def test_by_default_nothing_is_scaled() -> None:
    assert not Settings().ray.scales
    assert not RaySettings(workers=4, max_workers=4).scales
    assert RaySettings(workers=1, max_classifiers=2).scales


@pytest.mark.timeout(290)
def test_a_backlog_makes_them_more_and_idling_makes_them_fewer_and_every_alert_is_answered_once(
    kafka, broker, ray_cluster, settings_for, make_alerts, monkeypatch
) -> None:
    for name, value in {"LOOK_S": 0.5, "GROW_S": 0.5, "SHRINK_S": 1.5, "BEHIND_S": 0.01}.items():
        monkeypatch.setattr(f"space2vec.stream.scaling.{name}", value)
    # Workers first, up to their bound, then classifiers, whatever this machine is short of.
    monkeypatch.setattr("space2vec.stream.scaling.BUSY", 0.0)
    monkeypatch.setattr("space2vec.stream.scaling.FULL", 2.0)
    sent = make_alerts(ztf=400, lsst=60, seed=61, poison=4)
    topic = kafka.create_topic(partitions=6, max_message_bytes=4 << 20)
    kafka.produce(topic, [s.packet for s in sent[:300]])
    settings = settings_for(
        topic,
        ray={"workers": 1, "max_workers": 3, "classifiers": 1, "max_classifiers": 2},
        # Small steps, each of which waits for a fuller batch: the backlog lasts while actors start, however fast
        # this machine is.
        model={"max_wait_ms": 350},
        stream={"until_eof": False, "batch_alerts": 4, "inflight_batches": 1, "instance": f"pod-{topic}"},
    )
    run = Run(settings)
    seen: set[tuple[int, int]] = set()

    def there() -> tuple[int, int]:
        if run.seen.is_set():
            seen.add((len(run.latest.loads), len(run.latest.classifiers)))
        return max(seen, default=(0, 0))

    try:
        await_that(lambda: there() >= (2, 1))
        fed = 300

        def feed() -> bool:
            nonlocal fed
            kafka.produce(topic, [s.packet for s in sent[fed : fed + 4]])
            fed = min(len(sent), fed + 4)
            there()
            return any(classifiers == 2 for _, classifiers in seen)

        await_that(feed)
        kafka.produce(topic, [s.packet for s in sent[fed:]])
        await_that(lambda: run.latest.counts.messages >= len(sent))
        await_that(lambda: (len(run.latest.loads), len(run.latest.classifiers)) == (1, 1))
    finally:
        run.stop.set()
    summary = run.finish()
    assert summary.restarts == 0, "letting go is no failure"
    assert summary.counts.messages == len(sent)  # those who left stay counted
    assert max(workers for workers, _ in seen) == 3
    exactly = settings.stream.delivery != "at-least-once"
    assert_all_answered(Outputs(kafka, settings), sent, exactly=exactly)
    assert all(account.balanced for account in audit(settings))
