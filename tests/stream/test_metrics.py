"""What is measured, and what Prometheus gets of it: names, values, and agreement with the documentation."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from space2vec.schemas.errors import Reason
from space2vec.schemas.settings import Settings
from space2vec.schemas.times import mjd_tai
from space2vec.stream.actor_status import StatusCalls
from space2vec.stream.batch import Outcome
from space2vec.stream.counts import Counts
from space2vec.stream.measures import STAGES, Load, Measures, Meter
from space2vec.stream.memory import MemoryScorer
from space2vec.stream.metrics import METRICS, ServiceMetrics, metrics_table
from space2vec.stream.models import Look, Model
from space2vec.stream.protocols import Message, Partition
from space2vec.stream.summary import Summary
from space2vec.workers.bundle import Bundle, load_bundle
from space2vec.workers.classifier import ClassifierStatus
from space2vec.workers.histogram import Histogram
from space2vec.workers.manifest import Counted

ROOT = Path(__file__).resolve().parents[2]


class Exposed:
    """An alert as far as a meter looks at it."""

    def __init__(self, mjd: float | None) -> None:
        self.mjd_tai = mjd


def counts_of(scored: int = 0, degraded: int = 0, **reasons: int) -> Counts:
    rejected = sum(reasons.values())
    return Counts(
        messages=scored + degraded + rejected,
        scored=scored,
        degraded=degraded,
        rejected=rejected,
        annotated=scored + degraded,
        reasons=Counter(reasons),
    )


def look_of(*probability: float, shadow: bool = False) -> Look:
    """A look at so many alerts, all of them scored."""
    manifest = SimpleNamespace(name="core", version="2", classes=("real", "bogus"))
    model = Model(SimpleNamespace(manifest=manifest), MemoryScorer(lambda x: x), shadow)  # type: ignore[arg-type]
    rows = {number: number for number in range(len(probability))}
    return Look(model, np.empty(0), rows, [()] * len(rows), {}, probability=np.array(probability))


def referenced() -> Bundle:
    """A bundle that carries a reference, by another name."""
    core = load_bundle("core")
    reference = {"ztf": {"score": Counted(bounds=(0.5,), counts=(30, 10))}}
    manifest = core.manifest.model_copy(update={"name": "known", "version": "3", "reference": reference})
    return replace(core, manifest=manifest, sha256="known")


def summary_of() -> Summary:
    meter = Meter()
    with meter.stage("open"):
        pass
    meter.rebalanced("assigned")
    message = Message(Partition("night", 0), 5, b"", timestamp_ms=1_000)
    meter.answered(message, [Outcome(Exposed(61000.0), number=0)], [look_of(0.9)])  # type: ignore[arg-type]
    meter.committed({"night": counts_of(1, 2, empty=3), "day": counts_of(7)})
    seen = {"score": np.array([0.2] * 60 + [0.9] * 20)}
    meter.measures.watch(("ztf", "known")).note(
        np.zeros(80, np.float32), seen, referenced().manifest.reference["ztf"]
    )
    meter.measures.watch(("ztf", "gone")).note(np.zeros(80, np.float32), seen, {})
    batches = Histogram((1, 2, 4))
    batches.observe(3)
    return Summary(
        Counts(),
        unanswered=11,
        restarts=2,
        measures=meter.measures,
        loads=(Load(True, 3, 2, 1000, 1), None),
        classifiers=(ClassifierStatus(1, "cuda:0", batches, 1.5), None),
        classifier_restarts=4,
        bundles=((referenced(), False), (load_bundle("core"), True)),
    )


def scraped(summary: Summary | None, lag: dict[Partition, int] | None = None) -> dict[Any, float]:
    """What a Prometheus server would take from a scrape: value per (name, labels)."""
    metrics = ServiceMetrics(Settings(), load_bundle("core"))
    metrics.summary, metrics.lag = summary, lag
    registry = CollectorRegistry()
    registry.register(metrics)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {(s.name, frozenset(s.labels.items())): s.value for f in families for s in f.samples}


def value(samples: dict[Any, float], name: str, **labels: str) -> float:
    return samples[f"space2vec_{name}", frozenset(labels.items())]


def test_every_value_arrives_under_its_name_and_labels() -> None:
    samples = scraped(summary_of(), {Partition("night", 3): 42})
    assert value(samples, "alerts_consumed_total", topic="night") == 6
    assert value(samples, "alerts_published_total", topic="night", status="degraded") == 2
    assert value(samples, "alerts_published_total", topic="day", status="scored") == 7
    assert value(samples, "alerts_rejected_total", topic="night", reason="empty") == 3
    assert value(samples, "consumer_lag_alerts", topic="night", partition="3") == 42
    assert value(samples, "unanswered_messages") == 11
    assert value(samples, "assigned_partitions") == 3
    assert value(samples, "inflight_bytes") == 1000
    assert value(samples, "held_messages") == 1
    assert value(samples, "offset_commits_total") == 1
    assert value(samples, "rebalances_total", kind="assigned") == 1
    assert value(samples, "actors", role="classifier") == 2
    assert value(samples, "actors_ready", role="classifier") == 1
    assert value(samples, "actors_ready", role="stream_worker") == 1
    assert value(samples, "actor_restarts_total", role="classifier") == 4
    assert value(samples, "batch_size_alerts_bucket", classifier="0", device="cuda:0", le="2.0") == 0
    assert value(samples, "batch_size_alerts_bucket", classifier="0", device="cuda:0", le="4.0") == 1
    assert value(samples, "classifier_busy_seconds_total", classifier="0", device="cuda:0") == 1.5
    assert value(samples, "score_bucket", **{"classifier": "core 2", "class": "real", "le": "0.85"}) == 0
    assert value(samples, "score_bucket", **{"classifier": "core 2", "class": "real", "le": "0.9"}) == 1
    assert value(samples, "stage_duration_seconds_count", stage="open") == 1
    known = {"classifier": "known 3", "survey": "ztf"}
    assert value(samples, "drift_psi", **known, statistic="score") == pytest.approx(0, abs=1e-3)
    assert value(samples, "drift_window_alerts", **known) == 80
    assert value(samples, "identical_scores", **known) == 80
    roles = {dict(labels)["role"] for name, labels in samples if name == "space2vec_build_info"}
    assert roles == {"published", "shadow"}


def test_every_declared_metric_is_exported_and_no_other() -> None:
    samples = scraped(summary_of(), {Partition("night", 0): 1})
    names = {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name, _ in samples}
    assert names == set(METRICS)


def test_reasons_count_from_zero_so_that_the_first_rejection_is_a_rise() -> None:
    samples = scraped(summary_of())
    reasons = [dict(labels)["reason"] for name, labels in samples if name.endswith("rejected_total")]
    assert sorted(reasons) == sorted([*map(str, Reason)] * 2)  # of two topics


def test_before_the_first_look_only_what_is_known_is_exported() -> None:
    assert {name for name, _ in scraped(None)} == {
        "space2vec_build_info",
        "space2vec_ready",
        "space2vec_batch_limit_alerts",
        "space2vec_inflight_limit_bytes",
    }


def test_no_commit_yet_is_no_time_rather_than_1970() -> None:
    summary = replace(summary_of(), measures=Measures())
    assert not any(name.endswith("last_commit_timestamp_seconds") for name, _ in scraped(summary))


def test_names_follow_the_conventions() -> None:
    for name, described in METRICS.items():
        kind = described.kind.__name__
        assert name.startswith("space2vec_"), name
        assert name.endswith("_total") == kind.startswith("Counter"), name
        assert "candid" not in described.labels
        assert described.help, name


def test_ages_run_from_exposure_and_from_the_broker_to_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_800_000_000.0
    monkeypatch.setattr("space2vec.stream.measures.time.time", lambda: now)
    exposed_mjd_tai = mjd_tai((now - 40) / 86400 + 40587, "mjd_utc")
    meter = Meter()
    message = Message(Partition("night", 0), 0, b"", timestamp_ms=int((now - 7) * 1000))
    outcomes = [
        Outcome(Exposed(exposed_mjd_tai), number=1),  # type: ignore[arg-type]
        Outcome(Exposed(None), number=0),  # type: ignore[arg-type]
        Outcome(None),
    ]
    meter.answered(message, outcomes, [look_of(0.25, 0.75)])
    assert meter.measures.alert_age.count == 0  # not before the commit
    meter.committed({})
    assert meter.measures.alert_age.total == pytest.approx(40, abs=1e-3)  # leap seconds included
    assert meter.measures.alert_age.count == 1
    assert meter.measures.end_to_end.total == pytest.approx(7)
    assert meter.measures.scores["core 2", "real"].total == pytest.approx(1.0)
    assert meter.measures.last_commit == now


def test_what_was_taken_back_counts_once() -> None:
    meter = Meter()
    message = Message(Partition("night", 0), 0, b"", timestamp_ms=0)
    meter.answered(message, [Outcome(None, number=0)], [look_of(0.5)])
    meter.aborted()
    meter.answered(message, [Outcome(None, number=0)], [look_of(0.5)])
    meter.committed({"night": counts_of(1)})
    assert (meter.measures.aborts, meter.measures.commits) == (1, 1)
    assert meter.measures.scores["core 2", "real"].count == meter.measures.end_to_end.count == 1


def test_measures_of_workers_add_up() -> None:
    total = Measures()
    for _ in range(3):
        total.add(pickle.loads(pickle.dumps(summary_of().measures)))
    assert total.topics["night"].rejected == 9
    assert total.topics["night"].reasons == {"empty": 9}
    assert total.stages["open"].count == 3
    assert set(total.stages) == set(STAGES)
    assert (total.commits, total.rebalances["assigned"]) == (3, 3)


@given(st.lists(st.floats(-1e6, 1e6)), st.lists(st.floats(-1e6, 1e6)))
def test_a_histogram_holds_every_value_in_the_bucket_whose_bound_includes_it(
    mine: list[float], theirs: list[float]
) -> None:
    bounds = (-10.0, 0.0, 3.0)
    histogram, other = Histogram(bounds), Histogram(bounds)
    for number in mine:
        histogram.observe(number)
    for number in theirs:
        other.observe(number)
    histogram.add(other)
    both = mine + theirs
    for i, bound in enumerate(bounds):
        assert sum(histogram.buckets[: i + 1]) == sum(number <= bound for number in both)
    assert histogram.count == len(both)
    assert math.isclose(histogram.total, math.fsum(both), rel_tol=1e-9, abs_tol=1e-6)


def test_histograms_of_other_bounds_are_not_added() -> None:
    with pytest.raises(ValueError, match="bounds"):
        Histogram((1.0,)).add(Histogram((2.0,)))


class Phoenix:
    """An actor that tells of its process, and may die."""

    def __init__(self) -> None:
        self.pid = 1

    def status(self) -> ClassifierStatus:
        import os

        return ClassifierStatus(os.getpid(), "cpu", Histogram((1.0,)), 0.0)

    def die(self) -> None:
        import os

        os._exit(1)


@pytest.mark.timeout(120)
def test_an_actor_that_died_is_missed_and_its_return_counted(ray_cluster: Any) -> None:
    actor = ray_cluster.remote(Phoenix).options(max_restarts=-1, num_cpus=0).remote()
    calls = StatusCalls([actor])

    def look_until(done: Any) -> None:
        for _ in range(2000):
            calls.look()
            if done():
                return
            ray_cluster.wait([calls._calls[0]], timeout=1.0)
        raise AssertionError(calls.latest)

    look_until(lambda: calls.latest[0] is not None)
    former = calls.latest[0].pid
    actor.die.remote()
    look_until(lambda: calls.latest[0] is None)
    look_until(lambda: calls.latest[0] is not None)
    assert calls.latest[0].pid != former
    assert calls.restarts == 1
    ray_cluster.kill(actor)


def test_the_documented_table_is_the_codes() -> None:
    assert metrics_table() in (ROOT / "docs" / "operations.md").read_text()
