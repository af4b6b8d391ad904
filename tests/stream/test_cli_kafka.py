from __future__ import annotations

import json
from typing import Any

import pytest

from space2vec.schemas.alert import Alert
from space2vec.schemas.errors import KafkaError
from space2vec.schemas.exit_codes import KAFKA, OK
from space2vec.schemas.reader import PacketReader
from space2vec.stream.checks import Finding, State
from space2vec.stream.cli import run_command
from space2vec.stream.publish import Publisher

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("space2vec.stream.checks._ray", lambda _: Finding("ray", State.OK, "left out"))


def doctor(capsys: Capture, *arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    status = run_command(["doctor", "--json", *arguments])
    findings = map(json.loads, capsys.readouterr().out.splitlines())
    return status, {finding["check"]: finding for finding in findings}


@pytest.mark.kafka
def test_simulated_alerts_arrive_with_key_and_truth(kafka: Any, capsys: Capture) -> None:
    topic = kafka.create_topic()
    arguments = ["--survey", "ztf", "--count", "12", "--to", topic, "-b", kafka.bootstrap]
    assert run_command(["simulate", *arguments]) == OK
    messages = kafka.read(topic, 12)
    assert len(messages) == 12
    reader = PacketReader()
    for message in messages:
        (alert,) = reader.read(message.value())
        assert isinstance(alert, Alert)
        headers = dict(message.headers())
        assert message.key().decode() == alert.object_id
        assert headers["survey"] == b"ztf"
        truth = json.loads(headers["truth"])
        assert set(truth) == {"real", "kind", "cause", "snr"}
        assert (truth["kind"] is None) != truth["real"]


@pytest.mark.kafka
@pytest.mark.usefixtures("_no_ray")
def test_the_doctor_finds_topics_and_promise(kafka: Any, capsys: Capture) -> None:
    topic = kafka.create_topic(partitions=3)
    status, found = doctor(capsys, "-b", kafka.bootstrap, "-t", topic)
    assert status == OK, found
    assert found["kafka"]["state"] == "ok"
    assert "3 partitions" in found["topics"]["detail"]
    assert found["delivery"]["state"] == "ok"
    assert "exactly once" in found["delivery"]["detail"]
    assert found["model"]["state"] == "ok"


@pytest.mark.kafka
@pytest.mark.usefixtures("_no_ray")
def test_the_doctor_misses_a_topic(kafka: Any, capsys: Capture) -> None:
    status, found = doctor(capsys, "-b", kafka.bootstrap, "-t", "no-such-topic")
    assert status == KAFKA
    assert found["topics"]["state"] == "bad"
    assert "no-such-topic" in found["topics"]["detail"]


@pytest.mark.usefixtures("_no_ray")
def test_the_doctor_says_why_kafka_cannot_be_reached(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("space2vec.stream.checks.PATIENCE_S", 1.0)
    status, found = doctor(capsys, "-b", "localhost:1")
    assert status == KAFKA
    assert "refused" in found["kafka"]["detail"]
    assert "topics" not in found
    assert "delivery" not in found


@pytest.mark.kafka
def test_a_message_that_is_refused_is_an_error(kafka: Any) -> None:
    topic = kafka.create_topic()
    publisher = Publisher({"bootstrap.servers": kafka.bootstrap, "message.max.bytes": 2000})
    with pytest.raises(KafkaError, match=topic):
        publisher.send(topic, "key", bytes(10_000), {})
