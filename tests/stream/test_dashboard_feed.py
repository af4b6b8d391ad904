"""The feed beside a broker: what is new is shown, and nothing of it can be noticed there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from nightfall import as_read

from space2vec.schemas.reader import PacketReader
from space2vec.schemas.settings import Settings
from space2vec.stream.broker_common import free_ports
from space2vec.stream.broker_embedded import EmbeddedBroker
from space2vec.stream.brokers import Broker
from space2vec.stream.commands.dashboard import serving
from space2vec.stream.dashboard.feed import Feed, Kind
from space2vec.stream.dashboard.store import Store
from space2vec.stream.protocols import OutputRecord

DEADLINE_S = 60.0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("space2vec.stream.dashboard.feed._LOOK_S", 0.3)
    monkeypatch.setattr("space2vec.stream.dashboard.feed._CALL_S", 3.0)


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def produce(bootstrap: str, topic: str, records: list[OutputRecord]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "message.max.bytes": 4 << 20})
    for message in as_read(records):
        headers = list(message.headers)
        producer.produce(
            topic, message.value, message.key, headers=headers, timestamp=message.timestamp_ms or 0
        )
    assert producer.flush(30) == 0


@pytest.fixture
def annotated(night: list[OutputRecord]) -> list[OutputRecord]:
    return [record for record in night if record.topic == "ztf-annotated"]


@pytest.fixture
def settings(kafka: Any) -> Settings:
    topic = kafka.create_topic(partitions=1, max_message_bytes=4 << 20)
    return Settings.model_validate(
        {
            "source": {
                "brokers": "127.0.0.1:1",
                "group": kafka.group(),
            },  # nobody there: outputs have their own
            "sink": {
                "brokers": kafka.bootstrap,
                "annotated": topic,
                "rejected": f"{topic}-{{survey}}-rejected",
                "ledger": kafka.create_topic(partitions=2),
            },
        }
    )


@pytest.fixture
def watched(settings: Settings, reader: PacketReader) -> Iterator[Store]:
    store = Store(settings.dashboard.keep, settings.dashboard.keep_bytes)
    with Feed(settings, store, reader):
        yield store


def test_what_is_there_and_what_comes_is_shown_and_nobody_notices(
    kafka: Any,
    settings: Settings,
    reader: PacketReader,
    night: list[OutputRecord],
    annotated: list[OutputRecord],
) -> None:
    sink = settings.sink
    produce(kafka.bootstrap, sink.annotated, annotated[:10])
    kafka.produce(sink.annotated, [b"no alert at all"])
    line = {"scored": 4, "degraded": 1, "rejected": {"empty": 2}, "at": datetime.now(UTC).isoformat()}
    kafka.produce(sink.ledger, [json.dumps(line).encode()] * 3 + [b"no line", b"[]"])
    store = Store(100, 64 << 20)
    with Feed(settings, store, reader):
        until(lambda: len(store.ring.newest()) == 10 and store.unreadable == 3)
        until(lambda: store.rates.totals() == {"scored": 12, "degraded": 3, "rejected": 6})
        produce(kafka.bootstrap, sink.annotated, annotated[10:20])
        until(lambda: len(store.ring.newest()) == 20)
        assert store.skipped == 0
        letters = [record for record in night if record.topic.endswith("rejected")]
        late = sink.rejected.format(survey="ztf")
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        admin.create_topics([_topic(late)])[late].result(30)
        produce(kafka.bootstrap, late, letters)  # into a topic that was not there at the start
        until(lambda: len(store.rejections) == len(letters))
        assert store.complaint == ""
    group = settings.source.group
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group})
    committed = consumer.committed(
        [TopicPartition(sink.annotated, 0), TopicPartition(sink.ledger, 0)], timeout=30
    )
    consumer.close()
    assert all(partition.offset < 0 for partition in committed)


def _topic(name: str) -> NewTopic:
    return NewTopic(name, 1, -1, config={"max.message.bytes": str(4 << 20)})


def test_it_keeps_up_by_passing_over_what_is_old(
    kafka: Any,
    settings: Settings,
    reader: PacketReader,
    annotated: list[OutputRecord],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("space2vec.stream.dashboard.feed._TURN_ALERTS", 1)
    few = settings.model_copy(update={"dashboard": settings.dashboard.model_copy(update={"keep": 8})})
    produce(kafka.bootstrap, settings.sink.annotated, annotated)
    store = Store(100, 64 << 20)
    with Feed(few, store, reader):
        until(lambda: len(store.ring.newest()) >= 1)
        assert store.skipped == 0  # it began near the end
        produce(kafka.bootstrap, settings.sink.annotated, annotated * 3)
        last = 4 * len(annotated) - 1
        until(lambda: store.ring.newest()[0][1].output.endswith(f"/{last}"))
    held = len(store.ring.newest())
    assert store.skipped > len(annotated)
    assert held + store.skipped <= 4 * len(annotated)


def test_what_was_aborted_is_never_shown(
    kafka: Any, broker: Broker, settings: Settings, watched: Store, annotated: list[OutputRecord]
) -> None:
    if broker.kind == "embedded":
        pytest.skip("the embedded broker shows aborted transactions to everybody")
    producer = Producer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "transactional.id": settings.source.group,
            "message.max.bytes": 4 << 20,
        }
    )
    producer.init_transactions(30)
    for record, keep in ((annotated[0], False), (annotated[1], True)):
        producer.begin_transaction()
        producer.produce(settings.sink.annotated, record.value, headers=list(record.headers))
        producer.flush(30)
        producer.commit_transaction(30) if keep else producer.abort_transaction(30)
    until(lambda: watched.ring.newest())
    (shown,) = watched.ring.newest()
    assert shown[1].value == annotated[1].value


def test_a_broker_that_goes_away_is_told_and_one_that_comes_back_is_read(
    reader: PacketReader, annotated: list[OutputRecord]
) -> None:
    (port,) = free_ports(1)
    settings = Settings.model_validate({"source": {"brokers": f"127.0.0.1:{port}"}})
    store = Store(10, 64 << 20)

    def fill(count: int) -> None:
        admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}"})
        admin.create_topics([_topic("ztf-annotated")])["ztf-annotated"].result(30)
        for record in annotated[:count]:
            produce(f"127.0.0.1:{port}", "ztf-annotated", [record])

    with EmbeddedBroker(port) as broker, Feed(settings, store, reader):
        fill(3)
        until(lambda: len(store.ring.newest()) == 3)
        broker.stop()
        until(lambda: store.complaint.startswith("Kafka: "))
        assert len(store.ring.newest()) == 3
        with EmbeddedBroker(port):  # it has forgotten everything: its offsets begin anew
            fill(1)
            until(lambda: len(store.ring.newest()) == 4)
            until(lambda: not store.complaint)


def test_the_page_of_a_stream_is_served(
    kafka: Any, settings: Settings, annotated: list[OutputRecord]
) -> None:
    produce(kafka.bootstrap, settings.sink.annotated, annotated[:3])
    any_port = settings.model_copy(update={"dashboard": settings.dashboard.model_copy(update={"port": 0})})
    with serving(any_port) as address:

        def held() -> int:
            with urllib.request.urlopen(f"{address}api/state", timeout=20) as answer:
                return int(json.load(answer)["held"])

        until(lambda: held() == 3)


def test_the_command_says_where_and_ends_when_told(kafka: Any) -> None:
    command = [
        sys.executable,
        "-m",
        "space2vec.stream",
        "dashboard",
        "-b",
        kafka.bootstrap,
        "--port",
        "0",
        "--json",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        address = json.loads(running.stdout.readline())["page"]
        with urllib.request.urlopen(address, timeout=20) as answer:
            assert answer.status == 200
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (0, "")
    assert err == "the page is served; Ctrl-C ends it\n"


@pytest.mark.parametrize(
    ("template", "topic", "fits"),
    [
        ("{survey}-annotated", "ztf-annotated", True),
        ("{survey}-annotated", "my-ztf-annotated", True),
        ("{survey}-annotated", "ztf-annotated-2", False),
        ("{survey}-annotated", "-annotated", False),
        ("out.{survey}", "outxztf", False),
        ("space2vec-ledger", "space2vec-ledger", True),
        ("", "", False),
    ],
)
def test_topics_are_known_by_their_template(template: str, topic: str, fits: bool) -> None:
    assert Kind(template, 1, 1, lambda _: None).names(topic) is fits
