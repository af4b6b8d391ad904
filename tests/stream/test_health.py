"""Liveness and readiness by the state of the run, and the endpoint over HTTP."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from threading import Event, Thread
from typing import Any

import pytest
import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from space2vec.schemas.errors import ConfigError, KafkaError
from space2vec.schemas.settings import MetricsSettings, Settings
from space2vec.stream.app import run_application
from space2vec.stream.counts import Counts
from space2vec.stream.deadline import Deadline
from space2vec.stream.health import SILENCE_S, Endpoint, Health
from space2vec.stream.lag import Lag, LagReader, LagWatch
from space2vec.stream.measures import Load
from space2vec.stream.protocols import Partition
from space2vec.stream.summary import Summary
from space2vec.workers.bundle import load_bundle
from space2vec.workers.classifier import ClassifierStatus
from space2vec.workers.histogram import Histogram

CLASSIFIER = ClassifierStatus(1, "cpu", Histogram((1.0,)), 0.0)
JOINED = Load(joined=True, partitions=2)
GOOD = Summary(Counts(), loads=(JOINED,), classifiers=(CLASSIFIER,))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def stop() -> Event:
    return Event()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(stop: Event, clock: Clock) -> Health:
    return Health(stop, clock)


@pytest.mark.parametrize(
    ("summary", "complaint"),
    [
        (GOOD, ""),
        (replace(GOOD, loads=(JOINED, None)), "1 of 2 stream workers do not run"),
        (replace(GOOD, loads=(JOINED, Load())), "the consumer group is not joined yet"),
        (replace(GOOD, loads=(JOINED, Load(joined=True))), ""),  # more workers than partitions
        (replace(GOOD, classifiers=(None, CLASSIFIER)), "1 of 2 classifiers do not serve"),
    ],
)
def test_ready_once_everything_works(health: Health, summary: Summary, complaint: str) -> None:
    assert health.unready() == "starting"
    health.note(summary)
    assert health.unready() == complaint
    assert health.dead() == ""


def test_not_ready_but_alive_while_draining(health: Health, stop: Event, clock: Clock) -> None:
    health.note(GOOD)
    stop.set()
    clock.now = 10 * SILENCE_S  # a drain has its own deadline
    assert health.unready() == "draining"
    assert health.dead() == ""


def test_dead_when_the_loop_stands_still(health: Health, clock: Clock) -> None:
    clock.now = 10 * SILENCE_S
    assert health.dead() == ""  # a start takes as long as it takes
    health.note(GOOD)
    clock.now += SILENCE_S
    assert health.dead() == ""
    clock.now += 1
    assert "has not turned" in health.dead()
    assert health.unready() == health.dead()
    health.note(GOOD)
    assert health.dead() == ""


# -- over HTTP --------------------------------------------------------------------------------------------------


def get(port: int, path: str, **headers: str) -> tuple[int, str, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


@pytest.fixture
def endpoint(stop: Event, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setattr("space2vec.stream.health.LagReader", lambda settings: FixedReader())
    settings = Settings(metrics=MetricsSettings(port=0))
    with Endpoint(settings, load_bundle("core"), stop) as endpoint:
        yield endpoint


class FixedReader:
    """Reads what it is told, in turn, the last one for ever."""

    def __init__(self, *readings: Any) -> None:
        self.readings = list(readings) or [{Partition("night", 0): 3}]
        self.closed = False

    def read(self) -> Any:
        reading = self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]
        if isinstance(reading, Exception):
            raise reading
        return reading

    def close(self) -> None:
        self.closed = True


def test_the_endpoint_follows_the_run(endpoint: Endpoint, stop: Event) -> None:
    assert get(endpoint.port, "/livez")[::2] == (200, "ok\n")
    assert get(endpoint.port, "/readyz")[::2] == (503, "starting\n")
    assert "space2vec_ready 0.0" in get(endpoint.port, "/metrics")[2]
    endpoint.note(GOOD)
    assert get(endpoint.port, "/readyz?verbose")[::2] == (200, "ok\n")
    status, kind, body = get(endpoint.port, "/metrics")
    assert status == 200
    assert kind.startswith("text/plain; version=")
    assert "space2vec_ready 1.0" in body
    assert "process_resident_memory_bytes" in body
    stop.set()
    assert get(endpoint.port, "/readyz")[::2] == (503, "draining\n")
    assert get(endpoint.port, "/livez")[0] == 200
    assert get(endpoint.port, "/secrets")[0] == 404


def test_openmetrics_for_who_asks(endpoint: Endpoint) -> None:
    endpoint.note(GOOD)
    _, kind, body = get(endpoint.port, "/metrics", Accept="application/openmetrics-text")
    assert kind.startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")


def test_it_listens_on_this_machine_only(endpoint: Endpoint) -> None:
    assert Settings().metrics.host == "127.0.0.1"
    assert endpoint._server.server_address[0] == "127.0.0.1"


def test_a_port_in_use_is_a_wrong_setting(stop: Event) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings(metrics=MetricsSettings(port=port))
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}"):
            Endpoint(settings, load_bundle("core"), stop)


def test_a_lag_that_cannot_be_read_is_absent_until_it_can() -> None:
    reader = FixedReader({Partition("night", 0): 3}, KafkaError("gone"), {Partition("night", 0): 5})
    watch = LagWatch(lambda: reader, period_s=0.001)  # type: ignore[arg-type,return-value]
    seen = []
    original = reader.read

    def read() -> Any:
        seen.append(watch.latest)
        return original()

    reader.read = read  # type: ignore[method-assign]
    watch.start()
    while len(seen) < 4:
        watch._thread.join(0.01)
    watch.stop()
    assert seen[:4] == [None, {Partition("night", 0): 3}, None, {Partition("night", 0): 5}]


def test_a_lag_is_complained_of_the_second_time_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    # One that an earlier test has used keeps the processors of that time, and none of it would be captured.
    monkeypatch.setattr("space2vec.stream.lag.log", structlog.get_logger())
    lag = {Partition("night", 0): 3}
    reader = FixedReader(KafkaError("late"), lag, KafkaError("gone"), KafkaError("gone still"), lag)
    watch = LagWatch(lambda: reader, period_s=0.001)  # type: ignore[arg-type,return-value]
    with structlog.testing.capture_logs() as lines:
        watch.start()
        while len(lines) < 1 or watch.latest is None:
            watch._thread.join(0.01)
        watch.stop()
    assert [line["detail"] for line in lines] == ["gone still"]
    assert reader.closed


# -- beside a real run ------------------------------------------------------------------------------------------


def read_lag(settings: Settings) -> Lag:
    """Read once, on a broker whose group coordinator may have to begin first."""
    reader, deadline = LagReader(settings), Deadline(60)
    try:
        while True:
            try:
                return reader.read()
            except KafkaException:
                if deadline.passed:
                    raise
    finally:
        reader.close()


def test_lag_counts_what_the_group_has_not_committed(kafka: Any, settings_for: Any) -> None:
    topic = kafka.create_topic(partitions=2)
    for _ in range(5):  # in batches of one: the embedded broker counts no more of its last batch
        kafka.produce(topic, [b"x"], partition=1)
    settings = settings_for(topic)
    assert read_lag(settings) == {Partition(topic, 0): 0, Partition(topic, 1): 5}
    member = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": settings.source.group})
    member.commit(offsets=[TopicPartition(topic, 1, 3)], asynchronous=False)
    member.close()
    assert read_lag(settings) == {Partition(topic, 0): 0, Partition(topic, 1): 2}
    late = settings_for(topic, source={"start": "latest", "group": kafka.group()})
    assert read_lag(late) == {Partition(topic, 0): 0, Partition(topic, 1): 0}


@pytest.mark.timeout(240)
def test_a_run_is_ready_counts_its_alerts_and_drains(
    kafka: Any, ray_cluster: Any, settings_for: Any, make_alerts: Any
) -> None:
    sent = make_alerts(ztf=20, poison=2)
    topic = kafka.create_topic(partitions=1, max_message_bytes=4 << 20)
    kafka.produce(topic, [s.packet for s in sent])
    settings = settings_for(topic, stream={"until_eof": False}, ray={"workers": 2})
    settings = settings.model_copy(update={"metrics": MetricsSettings(port=0)})
    stop, ready, told = Event(), Event(), []

    with Endpoint(settings, load_bundle("core"), stop) as endpoint:

        def note(summary: Summary) -> None:
            endpoint.note(summary)
            if get(endpoint.port, "/readyz")[0] == 200 and summary.counts.messages == len(sent):
                ready.set()

        run = Thread(target=lambda: told.append(run_application(settings, stop, note)))
        run.start()
        assert ready.wait(120)
        metrics = get(endpoint.port, "/metrics")[2]
        stop.set()
        assert get(endpoint.port, "/readyz")[::2] == (503, "draining\n")
        run.join(60)
    (summary,) = told
    assert f'space2vec_messages_consumed_total{{topic="{topic}"}} {len(sent)}.0' in metrics
    assert 'space2vec_actors_ready{role="stream_worker"} 2.0' in metrics
    assert "space2vec_assigned_partitions 1.0" in metrics
    assert summary.measures.topics[topic] == summary.counts
    (scores,) = summary.measures.scores.values()
    assert scores.count == summary.measures.alert_age.count == 20
    assert summary.measures.end_to_end.count == len(sent)
