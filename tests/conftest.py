"""What tests of every room share: a Kafka broker, a small Ray, real packets where present, a clean environment."""

from __future__ import annotations

import os
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from space2vec.schemas.errors import KafkaError as BrokerError
from space2vec.stream.broker_common import MESSAGE_MAX_BYTES
from space2vec.stream.broker_jars import find_java, kafka_jars
from space2vec.stream.brokers import CHOICES, KIND_VARIABLE, ApacheCluster, Broker, find_broker

# Ray reads these when it is first imported, here or in the processes it starts.
os.environ |= {
    "RAY_AUTH_MODE": "disabled",  # else a local start turns token authentication on and writes to ~/.ray
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_worker_niceness": "0",
}

SHARED = Path(__file__).resolve().parents[2] / "shared"
READ_DEADLINE_S = 60.0
MARKER_S = 5.0

# A busy machine is no failure of a property; a test that hangs has pytest's own time limit.
hypothesis.settings.register_profile("space2vec", deadline=None)
hypothesis.settings.load_profile("space2vec")

_broker_taken = pytest.StashKey[Broker]()
_broker_passed_over = pytest.StashKey[list[str]]()
_broker_of_others = pytest.StashKey[list[str]]()


# -- which broker was it? ---------------------------------------------------------------------------------------


def pytest_report_header() -> str:
    asked = os.environ.get(KIND_VARIABLE)
    wish = f"{asked} ({KIND_VARIABLE})" if asked else f"the first to be had of {', '.join(CHOICES)}"
    return f"kafka: {wish}; started when a test first needs it"


def _broker_told(config: pytest.Config) -> list[str]:
    """What this process found."""
    broker = config.stash.get(_broker_taken, None)
    told = [f"passed over: {line}" for line in config.stash.get(_broker_passed_over, [])]
    if broker is not None:
        told.append(f"taken: {broker.kind} at {broker.bootstrap}")
        if broker.cannot_prove:
            told.append(f"NOT proven by this run: {broker.cannot_prove}")
    return told


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In one of several processes: tell the one that reports."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["broker"] = _broker_told(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """In the one that reports: hear one of several processes."""
    found = node.config.stash.setdefault(_broker_of_others, [])
    found += getattr(node, "workeroutput", {}).get("broker", [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    told = [*_broker_told(config), *config.stash.get(_broker_of_others, [])]
    if told:
        terminalreporter.section("kafka broker")
    for line in dict.fromkeys(told):
        terminalreporter.line(line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they start, so that ``-m 'not kafka and not ray'`` is the quick half."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if fixtures & {"broker", "kafka", "apache_cluster"}:
            item.add_marker("kafka")
        if "ray_cluster" in fixtures:
            item.add_marker("ray")


# -- a clean environment ----------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the developer's settings and caches out of every test."""
    for name in os.environ:
        if name.startswith(("SPACE2VEC_", "KAFKA_")):
            monkeypatch.delenv(name)
    for kind in ("cache", "config"):
        folder = tmp_path_factory.getbasetemp() / kind
        folder.mkdir(exist_ok=True)  # astropy warns of one that is not there
        monkeypatch.setenv(f"XDG_{kind.upper()}_HOME", str(folder))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real packets, stamps and weights beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared beside the checkout: real packets not tried")
    return SHARED


# -- Kafka ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def broker(pytestconfig: pytest.Config) -> Iterator[Broker]:
    """The broker of this run, chosen once: see space2vec.stream.brokers for the rule."""
    passed_over = pytestconfig.stash.setdefault(_broker_passed_over, [])
    with find_broker(os.environ, passed_over.append) as broker:
        pytestconfig.stash[_broker_taken] = broker
        yield broker


class Topics:
    """Topics of a broker as tests use them: made, filled, read, and deleted at the end.

    Attributes
    ----------
    bootstrap : str
        Bootstrap servers, for clients that a test makes itself.
    """

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._admin = AdminClient({"bootstrap.servers": bootstrap})
        self._made: list[str] = []

    def create_topic(self, partitions: int = 4, **config: object) -> str:
        """Make a topic, replicated as the broker does by default.

        ``config`` holds topic properties with ``_`` for ``.``: ``max_message_bytes=1000``.
        """
        name = f"test-{uuid.uuid4().hex[:12]}"
        properties = {key.replace("_", "."): str(value) for key, value in config.items()}
        topic = NewTopic(name, partitions, replication_factor=-1, config=properties)
        self._admin.create_topics([topic])[name].result(READ_DEADLINE_S)
        self._made.append(name)
        self._await_leaders(name, partitions)
        return name

    def _await_leaders(self, name: str, partitions: int) -> None:
        deadline = time.monotonic() + READ_DEADLINE_S
        while time.monotonic() < deadline:
            found = self._admin.list_topics(name, timeout=5).topics[name].partitions.values()
            if len(found) == partitions and all(partition.leader >= 0 for partition in found):
                return
        raise TimeoutError(f"{name}: a partition has no leader after {READ_DEADLINE_S:g} s")

    def group(self) -> str:
        """Give a consumer group's id that no one else uses."""
        return f"group-{uuid.uuid4().hex[:12]}"

    def produce(
        self,
        topic: str,
        values: Sequence[bytes | None],
        keys: Sequence[bytes | None] | None = None,
        *,
        headers: Sequence[list[tuple[str, bytes]]] | None = None,
        partition: int = -1,
    ) -> list[tuple[int, int]]:
        """Send messages, wait until each is acknowledged, and give their partitions and offsets in order."""
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "enable.idempotence": True,
                "message.max.bytes": MESSAGE_MAX_BYTES,
            }
        )
        places: dict[int, tuple[Any, Any]] = {}

        def arrived(number: int) -> Callable[[KafkaError | None, Message], None]:
            def note(error: KafkaError | None, message: Message) -> None:
                assert error is None, f"message {number} to {topic}: {error}"
                places[number] = (message.partition(), message.offset())

            return note

        for number, value in enumerate(values):
            key = keys[number] if keys else None
            extra: dict[str, Any] = {"headers": headers[number]} if headers else {}
            producer.produce(topic, value, key, partition=partition, on_delivery=arrived(number), **extra)
            producer.poll(0)
        left = producer.flush(READ_DEADLINE_S)
        assert left == 0, f"{left} messages to {topic} not acknowledged in {READ_DEADLINE_S:g} s"
        return [places[number] for number in range(len(values))]

    def read(
        self,
        topic: str,
        count: int = 0,
        *,
        isolation: str = "read_committed",
        deadline_s: float = READ_DEADLINE_S,
    ) -> list[Message]:
        """Read a topic from its beginning to its end, and on until there are at least ``count`` messages.

        What comes beyond ``count`` is given too, so that a test sees duplicates. A commit is acknowledged before
        its marker is in every partition, so a partition that ends before what is written is given some seconds.
        Messages come by partition and offset. Raises TimeoutError when fewer are there at the deadline.
        """
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": self.group(),
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": isolation,
                "fetch.message.max.bytes": MESSAGE_MAX_BYTES,
            }
        )
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        written = self._written(topic, partitions)
        marked = time.monotonic() + MARKER_S
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        deadline = time.monotonic() + deadline_s
        messages: list[Message] = []
        at_end: set[int | None] = set()
        early: dict[int | None, bool] = {}
        try:
            while (
                len(messages) < count
                or len(at_end) < len(partitions)
                or (any(early.values()) and time.monotonic() < marked)
            ):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{topic}: {len(messages)} of {count} messages in {deadline_s:g} s")
                message = consumer.poll(0.2)
                if message is None:
                    continue
                error = message.error()
                if error is None:
                    messages.append(message)
                    at_end.discard(message.partition())
                elif error.code() == KafkaError._PARTITION_EOF:
                    early[message.partition()] = message.offset() < written[message.partition()]
                    at_end.add(message.partition())
                else:
                    raise AssertionError(f"{topic}: {error}")
        finally:
            consumer.close()
        return sorted(messages, key=lambda message: (message.partition(), message.offset()))

    def _written(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Where partitions end for those who see open transactions too."""
        asked = {TopicPartition(topic, number): OffsetSpec.latest() for number in partitions}
        found = self._admin.list_offsets(asked, request_timeout=10)
        return {tp.partition: future.result().offset for tp, future in found.items()}

    def delete_topic(self, name: str) -> None:
        """Delete a topic made here, now."""
        self._admin.delete_topics([name])[name].result(READ_DEADLINE_S)
        self._made.remove(name)

    def delete(self) -> None:
        """Delete the topics made here: an external broker outlives us."""
        if self._made:
            for done in self._admin.delete_topics(self._made).values():
                done.result(READ_DEADLINE_S)


@pytest.fixture(scope="session")
def kafka(broker: Broker) -> Iterator[Topics]:
    """Topics of this run's broker."""
    topics = Topics(broker.bootstrap)
    yield topics
    topics.delete()


@pytest.fixture(scope="session")
def apache_jars() -> Path:
    """Apache Kafka's jars, from the cache of the user who runs the tests."""
    try:
        find_java()
        return kafka_jars()
    except BrokerError as error:
        if os.environ.get(KIND_VARIABLE) == "apache":
            raise
        pytest.skip(f"needs Apache Kafka on this machine: {error}")


@pytest.fixture
def apache_cluster(apache_jars: Path, tmp_path: Path) -> Iterator[Callable[..., ApacheCluster]]:
    """Give a function ``(brokers=3, properties=None, listener="")`` that launches an Apache Kafka cluster for one test."""
    clusters: list[ApacheCluster] = []

    def launch(
        brokers: int = 3, properties: Mapping[str, str] | None = None, listener: str = ""
    ) -> ApacheCluster:
        directory = tmp_path / f"cluster-{len(clusters)}"
        clusters.append(ApacheCluster(brokers, directory, properties, jars=apache_jars, listener=listener))
        clusters[-1].launch()
        return clusters[-1]

    yield launch
    for cluster in clusters:
        cluster.stop()


@pytest.fixture
def topics_at() -> Callable[[str], Topics]:
    """Give a function ``(bootstrap)`` that is to a test's own broker what ``kafka`` is to the run's."""
    return Topics


# -- Ray --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """A Ray of eight CPUs and two GPUs in name only, on this machine; gives the ``ray`` module."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own, at import and start
        import ray

        ray.init(
            address="local",  # not one that somebody else has started on this machine
            num_cpus=8,
            num_gpus=2,
            object_store_memory=200 << 20,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="warning",
            _node_ip_address="127.0.0.1",
        )
    yield ray
    ray.shutdown()
