"""Settings of the service: flags over environment over file over defaults; unknown keys are refused.

The environment prefix is ``SPACE2VEC_`` with ``__`` for nesting: ``SPACE2VEC_SOURCE__BROKERS``.
Secrets are taken from the environment or from files, and are never logged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClusterSettings(_Section):
    """How to reach a Kafka cluster."""

    brokers: str = Field("localhost:9092", description="bootstrap servers, host:port[,host:port...]")
    username: str | None = Field(None, description="SASL user name")
    password: SecretStr | None = Field(None, description="SASL password")
    password_file: Path | None = Field(None, description="file holding the SASL password")
    options: dict[str, str] = Field(
        default_factory=dict, description="any librdkafka property, passed through untouched"
    )


class SourceSettings(ClusterSettings):
    """Where alerts come from."""

    topics: tuple[str, ...] = Field(
        (), description="topics to join; ^regex as in librdkafka; {night} for yesterday's and today's UT date"
    )
    group: str = Field("space2vec", description="consumer group")
    start: str = Field(
        "earliest", description="where a group without offsets begins: earliest, latest or an ISO UTC time"
    )
    prefetch_bytes: int = Field(
        64 << 20, gt=0, description="how much librdkafka may hold ahead, per stream worker, in bytes"
    )


class SinkSettings(ClusterSettings):
    """Where classifications go. ``brokers`` left empty means the source's cluster."""

    brokers: str = Field("", description="bootstrap servers; empty: the source's cluster")
    annotated: str = Field("{survey}-annotated", description="topic of annotated alerts; empty: none")
    classifications: str = Field(
        "{survey}-classifications", description="topic of classification records; empty: none"
    )
    rejected: str = Field("{survey}-rejected", description="dead-letter topic")
    shadow: str = Field(
        "{survey}-shadow", description="topic of the shadow's classification records; empty: none"
    )
    ledger: str = Field("space2vec-ledger", description="topic of the ledger; empty: none")
    partitions: int = Field(8, gt=0, description="partitions of output topics that we create")
    replication: int = Field(
        -1, description="replicas of output topics that we create; -1: the broker's default"
    )
    embedding: bool = Field(True, description="whether classification records carry the embedding")
    max_message_bytes: int = Field(4 << 20, gt=0, description="largest message that we produce")


class SchemaSettings(_Section):
    """Where writer schemas and survey profiles come from."""

    registry_url: str | None = Field(None, description="Confluent schema registry")
    registry_user: str | None = Field(None, description="registry user; empty: anonymous")
    registry_password: SecretStr | None = Field(None, description="registry password")
    cache: Path | None = Field(
        None, description="disk cache of registry schemas; empty: the user's cache folder"
    )
    folder: Path | None = Field(None, description="folder of writer schemas named <id>.avsc")
    profiles: Path | None = Field(
        None, description="folder of survey profiles (TOML) beside the shipped ones"
    )
    unavailable: Literal["wait", "reject"] = Field(
        "wait", description="packets whose writer schema cannot be had now: wait, or become dead letters"
    )
    survey: str | None = Field(None, description="take every packet to be of this survey")


class ModelSettings(_Section):
    """What scores the alerts."""

    bundle: str = Field("core", description="a shipped bundle's name, or a folder")
    also: tuple[str, ...] = Field(
        (), description="further bundles: each adds an annotation and a classification record to every alert"
    )
    shadow: str = Field(
        "",
        description="a bundle on trial: its scores go to sink.shadow and the metrics, never to alerts; empty: none",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where the network runs; asserted at start"
    )
    max_batch: int = Field(256, gt=0, description="largest batch of a classifier, in alerts")
    max_wait_ms: float = Field(10.0, ge=0, description="how long a classifier waits to fill a batch")
    threads: int = Field(1, gt=0, description="CPU threads of one classifier")


class RaySettings(_Section):
    """How the work is spread."""

    address: str | None = Field(None, description="Ray cluster to join; empty: start one here")
    workers: int = Field(1, gt=0, description="stream workers; more than partitions are idle")
    classifiers: int = Field(1, gt=0, description="classifier actors")
    max_workers: int = Field(
        0, ge=0, description="stream workers at most, as lag asks for them; not above workers: no autoscaling"
    )
    max_classifiers: int = Field(
        0, ge=0, description="classifier actors at most, as their load asks for them; as max_workers"
    )
    gpus_per_classifier: float = Field(0.0, ge=0, description="GPUs that each classifier is pinned to")

    @property
    def scales(self) -> bool:
        """Whether stream workers or classifiers may become more."""
        return self.max_workers > self.workers or self.max_classifiers > self.classifiers


class StreamSettings(_Section):
    """How a stream worker paces itself."""

    batch_alerts: int = Field(256, gt=0, description="most alerts decoded into one batch")
    inflight_batches: int = Field(3, gt=0, description="most batches being scored per stream worker")
    inflight_bytes: int = Field(256 << 20, gt=0, description="most packet bytes in flight per stream worker")
    commit_interval_s: float = Field(1.0, gt=0, description="longest time between commits while alerts flow")
    delivery: Literal["auto", "exactly-once", "at-least-once"] = Field(
        "auto", description="auto: exactly once where the sink's cluster allows it"
    )
    dedup_window: int = Field(
        0,
        ge=0,
        description="drop alerts whose id is among the last so many that this worker answered; 0: none",
    )
    instance: str = Field(
        "",
        description="name of this deployment, unique in the group and kept over restarts (a StatefulSet's pod): "
        "what it left unfinished is aborted as soon as it is back; empty: host and process",
    )
    drain_s: float = Field(25.0, gt=0, description="time to finish what is in flight on SIGTERM")
    until_eof: bool = Field(False, description="stop at the end of every partition")
    max_alerts: int | None = Field(None, gt=0, description="stop after about this many messages")
    dry_run: bool = Field(False, description="score, but neither produce nor commit")


class MetricsSettings(_Section):
    """Where ``/metrics``, ``/livez`` and ``/readyz`` are served."""

    host: str = Field("127.0.0.1", description="address to listen on; this machine only by default")
    port: int | None = Field(
        None, ge=0, le=65535, description="port to listen on; empty: nothing is served; 0: any"
    )


class DashboardSettings(_Section):
    """The page to look at."""

    host: str = Field(
        "127.0.0.1", description="address to listen on; any but this machine's own needs a token"
    )
    port: int = Field(8321, ge=0, le=65535, description="port to listen on; 0: any")
    token: SecretStr | None = Field(
        None,
        description="what to show before the page is shown, at least 16 characters; token_file: its file",
    )
    keep: int = Field(2000, gt=0, description="alerts to hold: the newest")
    keep_bytes: int = Field(192 << 20, gt=0, description="most memory to hold them in, in bytes")


class Settings(_Section):
    """Everything that ``space2vec run`` needs."""

    source: SourceSettings = SourceSettings()
    sink: SinkSettings = SinkSettings()
    schemas: SchemaSettings = SchemaSettings()
    model: ModelSettings = ModelSettings()
    ray: RaySettings = RaySettings()
    stream: StreamSettings = StreamSettings()
    metrics: MetricsSettings = MetricsSettings()
    dashboard: DashboardSettings = DashboardSettings()

    @property
    def one_cluster(self) -> bool:
        """Whether outputs go to the cluster that the alerts come from."""
        return self.sink.brokers in ("", self.source.brokers)
