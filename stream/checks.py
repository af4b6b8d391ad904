"""Checks of what a run needs, for ``space2vec doctor``: each looks at one thing and says one line."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from packaging.requirements import Requirement

from space2vec.schemas.errors import KafkaError, ModelError, Space2vecError
from space2vec.schemas.exit_codes import FAILED, OK, exit_code
from space2vec.schemas.settings import ClusterSettings, SchemaSettings, Settings

if TYPE_CHECKING:
    from confluent_kafka.admin import ClusterMetadata

PATIENCE_S: Final = 10.0


class State(StrEnum):
    """How a thing stands."""

    OK = "ok"
    NOTE = "note"
    """Not as good as it could be; a run works all the same."""
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; ``status`` is the exit status that a failure stands for."""

    name: str
    state: State
    detail: str
    status: int = OK


def examine(settings: Settings) -> Iterator[Finding]:
    """Check everything that ``space2vec run`` needs with these settings, the quick things first."""
    yield _python()
    yield _packages()
    checks: tuple[tuple[str, Callable[[Settings], Finding]], ...] = (
        ("gpu", _gpu),
        ("model", _model),
        ("schemas", _schemas),
        ("kafka", _kafka),
        ("topics", _topics),
        ("delivery", _delivery),
        ("ray", _ray),
    )
    unreachable = False
    for name, check in checks:
        if unreachable and name in ("topics", "delivery"):
            continue
        try:
            finding = check(settings)
        except Space2vecError as error:
            finding = Finding(name, State.BAD, " ".join(str(error).split()), exit_code(error))
        except Exception as error:  # noqa: BLE001  (a check that breaks is a finding)
            finding = Finding(name, State.BAD, f"{type(error).__name__}: {error}", FAILED)
        unreachable = unreachable or (name == "kafka" and finding.state is State.BAD)
        yield finding


def _python() -> Finding:
    return Finding(
        "python", State.OK, f"{platform.python_version()} on {platform.machine()} {platform.system()}"
    )


def _packages() -> Finding:
    """Compare what is installed with what this version of space2vec asks for."""
    wrong = []
    for line in requires("space2vec") or []:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            wrong.append(f"{wanted.name} is not installed")
            continue
        if not wanted.specifier.contains(found, prereleases=True):
            wrong.append(f"{wanted.name} {found} is not {wanted.specifier}")
    if wrong:
        return Finding("packages", State.BAD, "; ".join(wrong), FAILED)
    return Finding("packages", State.OK, f"space2vec {version('space2vec')} and all that it asks for")


def _gpu(settings: Settings) -> Finding:
    from space2vec.workers.backends import cuda_devices

    count = cuda_devices()
    if count and find_spec("torch") is None:
        return Finding("gpu", State.NOTE, f"{count} visible, but torch is not installed")
    if count:
        import torch

        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Finding("gpu", State.OK, f"{count}: {', '.join(names)}; torch {torch.__version__}")
    if settings.model.device == "cuda":
        raise ModelError("model.device is cuda, but no CUDA device is visible")
    return Finding("gpu", State.NOTE, "none visible: the classifier runs on the CPU")


def _model(settings: Settings) -> Finding:
    from space2vec.stream.lineup import named_bundles
    from space2vec.workers.bundle import load_bundle, verify_bundle

    told = []
    for name, _ in named_bundles(settings.model):
        bundle = load_bundle(name)
        failed = [check for check in verify_bundle(bundle, settings.model.device) if not check.ok]
        if failed:
            raise ModelError("; ".join(f"{check.name}: {check.detail}" for check in failed))
        manifest = bundle.manifest
        told.append(f"{manifest.name} {manifest.version} verifies, sha256 {bundle.sha256[:12]}")
    return Finding("model", State.OK, "; ".join(told))


def _schemas(settings: Settings) -> Finding:
    """Say where writer schemas of Confluent-framed packets would come from; ask the registry whether it is there."""
    wanted = settings.schemas
    sources = []
    if wanted.folder is not None:
        sources.append(f"folder {wanted.folder} ({len(list(wanted.folder.glob('*.avsc')))} schemas)")
    if find_spec("lsst") is not None and find_spec("lsst.alert") is not None:
        sources.append("lsst-alert-packet")
    if wanted.registry_url is not None:
        sources.append(_registry(wanted))
    if not sources:
        return Finding(
            "schemas",
            State.NOTE,
            "no source of LSST's writer schemas: pip install 'space2vec[rubin]', or set schemas.registry_url",
        )
    return Finding("schemas", State.OK, ", ".join(sources))


def _registry(wanted: SchemaSettings) -> str:
    from confluent_kafka.schema_registry import SchemaRegistryClient

    properties: dict[str, object] = {"url": wanted.registry_url, "timeout": PATIENCE_S, "max.retries": 0}
    if wanted.registry_user:
        password = wanted.registry_password.get_secret_value() if wanted.registry_password else ""
        properties["basic.auth.user.info"] = f"{wanted.registry_user}:{password}"
    try:
        subjects = SchemaRegistryClient(properties).get_subjects()
    except Exception as error:  # the client's own and its HTTP library's exceptions share no base
        raise ModelError(f"registry does not answer: {type(error).__name__}") from error
    return f"registry with {len(subjects)} subjects"


def _kafka(settings: Settings) -> Finding:
    told = []
    for cluster in (settings.source, settings.sink):
        if cluster.brokers:
            found = _metadata(cluster)
            topics = [topic for topic in found.topics if not topic.startswith("__")]
            told.append(f"{cluster.brokers}: {len(found.brokers)} brokers, {len(topics)} topics")
    return Finding("kafka", State.OK, "; ".join(told))


def _metadata(cluster: ClusterSettings) -> ClusterMetadata:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    from space2vec.stream.kafka_config import cluster_properties

    complaints: list[str] = []
    properties = {"log_level": 0, "error_cb": lambda error: complaints.append(error.str())}
    client = AdminClient(cluster_properties(cluster) | properties)
    try:
        return client.list_topics(timeout=PATIENCE_S)
    except KafkaException as error:
        client.poll(0)
        # The first complaint says what happened ("connection refused"), the error only that nothing came.
        reason = complaints[0].partition(": ")[2] if complaints else error.args[0].str()
        raise KafkaError(f"{cluster.brokers}: {reason}") from error


def _topics(settings: Settings) -> Finding:
    from space2vec.stream.source_topics import source_partitions

    if not settings.source.topics:
        return Finding("topics", State.NOTE, "none named: run needs --topic")
    partitions = source_partitions(settings.source, PATIENCE_S)
    workers = settings.ray.workers
    told = f"{len({p.topic for p in partitions})} to join, {len(partitions)} partitions for {workers} stream workers"
    return Finding("topics", State.OK if workers <= len(partitions) else State.NOTE, told)


def _delivery(settings: Settings) -> Finding:
    """Say which promise a run would make, by asking the sink's cluster for a transactional id."""
    from confluent_kafka import KafkaException, Producer

    from space2vec.stream.kafka_config import producer_properties

    wanted, reason = settings.stream.delivery, "asked for"
    if wanted != "at-least-once":
        name = f"{settings.source.group}.doctor"
        properties = producer_properties(settings.sink, settings.source, name) | {"log_level": 0}
        try:
            Producer(properties).init_transactions(PATIENCE_S)
        except KafkaException as error:
            reason = f"no transactions: {error.args[0].str()}"
        else:
            return Finding(
                "delivery", State.OK, "exactly once, for readers with isolation.level=read_committed"
            )
        if wanted == "exactly-once":
            raise KafkaError(f"exactly once is not to be had: {reason}")
    return Finding("delivery", State.NOTE, f"at least once ({reason}); dedup key: alert id and model sha256")


def _ray(settings: Settings) -> Finding:
    from space2vec.workers.ray_runtime import ray_runtime

    with ray_runtime(settings.ray):
        import ray

        has = ray.cluster_resources()
    where = settings.ray.address or "started here"
    told = f"{ray.__version__}, {where}: {has.get('CPU', 0):g} CPUs, {has.get('GPU', 0):g} GPUs"
    if settings.ray.gpus_per_classifier * settings.ray.classifiers > has.get("GPU", 0):
        return Finding("ray", State.BAD, f"{told}; the classifiers ask for more GPUs", FAILED)
    return Finding("ray", State.OK, told)
