"""Metrics of the service in Prometheus' form, made from what the actors say of themselves when scraped.

Names have one prefix, base units, and ``_total`` for counters; an alert's id is never a label. ``METRICS`` names
every one of them: the dashboard, the alert rules and the documentation are tested against it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from space2vec.schemas.errors import Reason
from space2vec.schemas.settings import Settings
from space2vec.stream.counts import Counts
from space2vec.stream.lag import Lag
from space2vec.stream.measures import Load, Measures
from space2vec.stream.summary import Summary
from space2vec.workers.bundle import Bundle
from space2vec.workers.histogram import Histogram
from space2vec.workers.quality import Flag

if TYPE_CHECKING:  # it imports Ray, and much has to be set before that
    from space2vec.workers.classifier import ClassifierStatus

_Value = tuple[str, list[str], float | Histogram]  # name, labels and value of one sample


@dataclass(frozen=True, slots=True)
class Described:
    """One metric: its type, its labels, and what it says."""

    kind: type[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]
    labels: tuple[str, ...]
    help: str


_COUNTER, _GAUGE, _HISTOGRAM = CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

METRICS: Final[Mapping[str, Described]] = {
    "space2vec_build_info": Described(
        _GAUGE,
        ("version", "classifier", "classifier_version", "sha256", "role"),
        "1; what runs; role is published or shadow",
    ),
    "space2vec_ready": Described(_GAUGE, (), "1 while /readyz answers 200"),
    "space2vec_messages_consumed_total": Described(
        _COUNTER, ("topic",), "Source messages whose answers are committed"
    ),
    "space2vec_messages_empty_total": Described(_COUNTER, ("topic",), "Those that hold no alert"),
    "space2vec_alerts_consumed_total": Described(
        _COUNTER, ("topic",), "Alerts whose answers are committed: published, rejected and duplicate"
    ),
    "space2vec_alerts_published_total": Described(
        _COUNTER, ("topic", "status"), "Alerts published with a score; status is scored or degraded"
    ),
    "space2vec_alerts_rejected_total": Described(
        _COUNTER, ("topic", "reason"), "Alerts that became dead letters"
    ),
    "space2vec_alerts_duplicate_total": Described(
        _COUNTER, ("topic",), "Alerts dropped because they had been answered (stream.dedup_window)"
    ),
    "space2vec_alerts_flagged_total": Described(
        _COUNTER, ("topic", "flag"), "Alerts published with this quality flag"
    ),
    "space2vec_consumer_lag_alerts": Described(
        _GAUGE, ("topic", "partition"), "Offsets between the group's commit and the partition's end"
    ),
    "space2vec_assigned_partitions": Described(_GAUGE, (), "Partitions assigned to our stream workers"),
    "space2vec_unanswered_messages": Described(_GAUGE, (), "Messages consumed and not yet committed"),
    "space2vec_held_messages": Described(_GAUGE, (), "Messages that wait for their writer schema"),
    "space2vec_inflight_batches": Described(_GAUGE, (), "Batches opened and not yet answered"),
    "space2vec_inflight_bytes": Described(_GAUGE, (), "Bytes of the packets in them"),
    "space2vec_inflight_limit_bytes": Described(
        _GAUGE, (), "stream.inflight_bytes times stream workers: beyond it nothing is consumed"
    ),
    "space2vec_stage_duration_seconds": Described(
        _HISTOGRAM,
        ("stage",),
        "Of a batch: open, score (with the wait for its turn), answer; and of a commit",
    ),
    "space2vec_alert_age_seconds": Described(
        _HISTOGRAM, (), "From mid-exposure to the commit of the answer; published alerts"
    ),
    "space2vec_end_to_end_seconds": Described(
        _HISTOGRAM, (), "From the source message's Kafka timestamp to the commit of the answer"
    ),
    "space2vec_score": Described(
        _HISTOGRAM, ("classifier", "class"), "Probability of the class; shadows score too"
    ),
    "space2vec_drift_psi": Described(
        _GAUGE,
        ("classifier", "survey", "statistic"),
        "Population stability index of the latest alerts against the bundle's reference",
    ),
    "space2vec_drift_window_alerts": Described(
        _GAUGE, ("classifier", "survey"), "The latest alerts: how many drift is measured over"
    ),
    "space2vec_identical_scores": Described(
        _GAUGE, ("classifier", "survey"), "The latest scores in a row that are the same to the bit"
    ),
    "space2vec_offset_commits_total": Described(_COUNTER, (), "Commits of offsets (with their outputs)"),
    "space2vec_last_commit_timestamp_seconds": Described(
        _GAUGE, (), "Time of the latest commit since 1970; absent before the first"
    ),
    "space2vec_deliveries_aborted_total": Described(
        _COUNTER, (), "Times that everything since the last commit was taken back and done again"
    ),
    "space2vec_rebalances_total": Described(_COUNTER, ("kind",), "Changes of assignment, per stream worker"),
    "space2vec_actors": Described(_GAUGE, ("role",), "Actors that should run"),
    "space2vec_actors_ready": Described(_GAUGE, ("role",), "Actors that do their work"),
    "space2vec_actor_restarts_total": Described(
        _COUNTER, ("role",), "Actors that came back or were replaced"
    ),
    "space2vec_batch_size_alerts": Described(
        _HISTOGRAM, ("classifier", "device"), "Alerts per batch that a classifier scored"
    ),
    "space2vec_batch_limit_alerts": Described(_GAUGE, (), "model.max_batch: a full batch"),
    "space2vec_classifier_busy_seconds_total": Described(
        _COUNTER, ("classifier", "device"), "Time spent scoring"
    ),
}


class ServiceMetrics(Collector):
    """The metrics of one service, as of its latest summary.

    Parameters
    ----------
    settings : Settings
        Those of the run.
    bundle : Bundle
        What scores.
    """

    def __init__(self, settings: Settings, bundle: Bundle) -> None:
        self._settings = settings
        self._bundle = bundle
        self.summary: Summary | None = None
        self.lag: Lag | None = None
        self.ready = False

    def collect(self) -> Iterator[Metric]:
        """Every metric that has a value now."""
        families = {
            name: described.kind(name, described.help, labels=described.labels)
            for name, described in METRICS.items()
        }
        for name, labels, value in self._values():
            family = families[name]
            if isinstance(family, HistogramMetricFamily):
                assert isinstance(value, Histogram)
                family.add_metric(labels, _cumulative(value), value.total)
            else:
                assert not isinstance(value, Histogram)
                family.add_metric(labels, value)
        yield from (family for family in families.values() if family.samples)

    def _values(self) -> Iterator[_Value]:
        yield from self._constants()
        for partition, behind in (self.lag or {}).items():
            labels = [partition.topic, str(partition.number)]
            yield "space2vec_consumer_lag_alerts", labels, behind
        if self.summary is not None:
            for topic, counts in self.summary.measures.topics.items():
                yield from _counts(topic, counts)
            yield from _measures(self.summary.measures)
            yield from _drift(self.summary)
            yield from _actors(self.summary)
            yield from _classifiers(self.summary.classifiers)

    def _constants(self) -> Iterator[_Value]:
        settings = self._settings
        bundles = self.summary.bundles if self.summary is not None else ()
        for bundle, shadow in bundles or ((self._bundle, False),):
            runs = [version("space2vec"), bundle.manifest.name, bundle.manifest.version, bundle.sha256]
            yield "space2vec_build_info", [*runs, "shadow" if shadow else "published"], 1
        yield "space2vec_ready", [], self.ready
        yield "space2vec_batch_limit_alerts", [], settings.model.max_batch
        workers = len(self.summary.loads) if self.summary is not None else settings.ray.workers
        limit = settings.stream.inflight_bytes * workers
        yield "space2vec_inflight_limit_bytes", [], limit


def _counts(topic: str, counts: Counts) -> Iterator[_Value]:
    yield "space2vec_messages_consumed_total", [topic], counts.messages
    yield "space2vec_messages_empty_total", [topic], counts.empty
    yield "space2vec_alerts_consumed_total", [topic], counts.alerts
    yield "space2vec_alerts_published_total", [topic, "scored"], counts.scored
    yield "space2vec_alerts_published_total", [topic, "degraded"], counts.degraded
    yield "space2vec_alerts_duplicate_total", [topic], counts.duplicates
    for reason in Reason:
        yield "space2vec_alerts_rejected_total", [topic, reason], counts.reasons[reason]
    for flag in Flag:
        yield "space2vec_alerts_flagged_total", [topic, flag], counts.flags[flag]


def _measures(measures: Measures) -> Iterator[_Value]:
    for stage, seconds in measures.stages.items():
        yield "space2vec_stage_duration_seconds", [stage], seconds
    yield "space2vec_alert_age_seconds", [], measures.alert_age
    yield "space2vec_end_to_end_seconds", [], measures.end_to_end
    for names, scores in measures.scores.items():
        yield "space2vec_score", list(names), scores
    for kind, count in measures.rebalances.items():
        yield "space2vec_rebalances_total", [kind], count
    yield "space2vec_offset_commits_total", [], measures.commits
    yield "space2vec_deliveries_aborted_total", [], measures.aborts
    if measures.last_commit:
        yield "space2vec_last_commit_timestamp_seconds", [], measures.last_commit


def _drift(summary: Summary) -> Iterator[_Value]:
    for bundle, _ in summary.bundles:
        manifest = bundle.manifest
        for (survey, sha256), watch in summary.measures.drift.items():
            if sha256 == bundle.sha256:
                labels = [f"{manifest.name} {manifest.version}", survey]
                yield "space2vec_identical_scores", labels, watch.identical
                yield "space2vec_drift_window_alerts", labels, watch.window
                for statistic, index in watch.drift(manifest.reference.get(survey, {})).items():
                    yield "space2vec_drift_psi", [*labels, statistic], index


def _actors(summary: Summary) -> Iterator[_Value]:
    total = Load()
    for load in summary.loads:
        total.add(load or Load())
    yield "space2vec_assigned_partitions", [], total.partitions
    yield "space2vec_inflight_batches", [], total.batches
    yield "space2vec_inflight_bytes", [], total.size_bytes
    yield "space2vec_held_messages", [], total.held
    yield "space2vec_unanswered_messages", [], summary.unanswered
    for role, actors, restarts in (
        ("stream_worker", summary.loads, summary.restarts),
        ("classifier", summary.classifiers, summary.classifier_restarts),
    ):
        yield "space2vec_actors", [role], len(actors)
        yield "space2vec_actors_ready", [role], sum(actor is not None for actor in actors)
        yield "space2vec_actor_restarts_total", [role], restarts


def _classifiers(classifiers: tuple[ClassifierStatus | None, ...]) -> Iterator[_Value]:
    for i, status in enumerate(classifiers):
        if status is not None:
            labels = [str(i), status.device]
            yield "space2vec_batch_size_alerts", labels, status.batches
            yield "space2vec_classifier_busy_seconds_total", labels, status.busy_s


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*(str(float(bound)) for bound in histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.buckets), strict=True))


def metrics_table() -> str:
    """Give the table of all metrics in Markdown: name, type, labels, meaning."""
    lines = ["| metric | type | labels | what it says |", "|---|---|---|---|"]
    for name, described in METRICS.items():
        kind = described.kind.__name__.removesuffix("MetricFamily").lower()
        labels = ", ".join(f"`{label}`" for label in described.labels)
        lines.append(f"| `{name}` | {kind} | {labels} | {described.help} |")
    return "\n".join(lines) + "\n"
