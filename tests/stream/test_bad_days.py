"""Bad days: what brokers, topics and operators do to a running service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from space2vec.stream.app import run_application
from space2vec.stream.audit import audit
from space2vec.stream.redrive import redrive
from trial import Outputs, Run, assert_all_answered, await_that


@pytest.fixture
def transactions(broker):
    if broker.kind == "embedded":
        pytest.skip(f"not provable on the embedded broker: {broker.cannot_prove}")


def scored(kafka, settings) -> int:
    return len(Outputs(kafka, settings).ids())


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("transactions")
def test_an_output_topic_that_takes_no_large_alerts_gets_none_and_nothing_is_lost(
    kafka, ray_cluster, settings_for, make_alerts
) -> None:
    sent = make_alerts(ztf=20, lsst=20, seed=11)
    topic = kafka.create_topic(partitions=2, max_message_bytes=4 << 20)
    kafka.produce(topic, [s.packet for s in sent])
    settings = settings_for(topic)
    small = NewTopic(settings.sink.annotated.format(survey="ztf"), 2, config={"max.message.bytes": "20000"})
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for future in admin.create_topics([small]).values():
        future.result(30)
    run_application(settings, threading.Event())
    outputs = Outputs(kafka, settings)
    assert {survey for survey, _ in outputs.ids()} == {"lsst"}
    assert len(outputs.ids()) == 20
    refused = [dict(m.headers()) for m in outputs.rejected]
    assert Counter(h["reason"] for h in refused) == {b"output_refused": 20}
    assert Counter(m.value() for m in outputs.rejected) == Counter(
        s.packet for s in sent if s.survey == "ztf"
    )
    assert all(account.balanced for account in audit(settings))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("clusters", [1, 2])
def test_a_topic_that_grows_partitions_is_read_whole(
    kafka, ray_cluster, settings_for, make_alerts, monkeypatch, clusters
) -> None:
    monkeypatch.setattr("space2vec.stream.app._SOURCE_S", 1.0)
    sent = make_alerts(ztf=60, seed=12)
    topic = kafka.create_topic(partitions=1, max_message_bytes=4 << 20)
    kafka.produce(topic, [s.packet for s in sent[:30]])
    # Where the seats are, they too are looked at often.
    often = {"topic.metadata.refresh.interval.ms": "2000"}
    home = {"brokers": kafka.bootstrap.replace("127.0.0.1", "localhost"), "options": often}
    sink = home if clusters == 2 else {}
    settings = settings_for(topic, stream={"until_eof": False}, sink=sink)
    if clusters == 2 and settings.one_cluster:
        pytest.skip("the broker is not on 127.0.0.1: it cannot stand for two")
    run = Run(settings)
    await_that(lambda: scored(kafka, settings) == 30)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for future in admin.create_partitions([NewPartitions(topic, 3)]).values():
        try:
            future.result(30)
        except Exception as error:  # noqa: BLE001 - the embedded broker cannot
            run.stop.set()
            pytest.skip(f"this broker cannot add partitions: {error}")
    # The controller has made them; a producer knows of them once the broker does.
    await_that(lambda: len(admin.list_topics(topic, 10).topics[topic].partitions) == 3)
    for n in (1, 2):
        kafka.produce(topic, [s.packet for s in sent[30 + 15 * (n - 1) : 30 + 15 * n]], partition=n)
    await_that(lambda: scored(kafka, settings) == 60)
    run.stop.set()
    run.finish()
    assert_all_answered(Outputs(kafka, settings), sent, exactly=True)
    assert all(account.balanced for account in audit(settings))


@pytest.mark.timeout(240)
def test_a_nights_topic_that_comes_later_is_read_and_old_ones_are_not(
    kafka, ray_cluster, settings_for, make_alerts
) -> None:
    sent = make_alerts(ztf=45, seed=13)
    prefix = kafka.create_topic(partitions=1)
    template = f"{prefix}_{{night}}_programid1"
    nights = [(datetime.now(UTC) - timedelta(days=d)).strftime("%Y%m%d") for d in (0, 1, 2)]
    today, yesterday, expired = (template.replace("{night}", night) for night in nights)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})

    def make(*names: str) -> None:
        topics = [NewTopic(n, 2, 1, config={"max.message.bytes": str(4 << 20)}) for n in names]
        for future in admin.create_topics(topics).values():
            future.result(30)
        time.sleep(1)

    make(yesterday, expired)
    kafka.produce(yesterday, [s.packet for s in sent[:15]])
    kafka.produce(expired, [s.packet for s in sent[15:30]])
    run = Run(settings_for(prefix, source={"topics": (template,)}, stream={"until_eof": False}))
    settings = run.settings
    await_that(lambda: scored(kafka, settings) == 15)
    make(today)  # the first alert of the night comes while the service runs
    kafka.produce(today, [s.packet for s in sent[30:]])
    await_that(lambda: scored(kafka, settings) == 30)
    run.stop.set()
    run.finish()
    assert_all_answered(Outputs(kafka, settings), sent[:15] + sent[30:], exactly=True)


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("transactions")
def test_dead_letters_are_put_through_again_once_after_a_fix(
    kafka, ray_cluster, settings_for, make_alerts, tmp_path
) -> None:
    """No source knew the schema; now one does. Redriving twice, or by reason, doubles nothing."""
    known = make_alerts(lsst=24, seed=14, poison=2)
    unknown = (4242).to_bytes(4, "big")  # an id that nobody has
    sent = [replace(s, packet=b"\x00" + unknown + s.packet[5:]) if s.survey == "lsst" else s for s in known]
    topic = kafka.create_topic(partitions=2, max_message_bytes=4 << 20)
    kafka.produce(topic, [s.packet for s in sent])
    settings = settings_for(topic)
    summary = run_application(settings, threading.Event())
    assert summary.counts.rejected == len(sent)
    rejected = settings.sink.rejected
    (tmp_path / "4242.avsc").write_text((tmp_path / "1100.avsc").read_text())
    first = redrive(settings, rejected, {"unknown_schema"}, 0, 1 << 62, threading.Event())
    assert (first.scored + first.degraded, first.rejected) == (24, 0)
    again = redrive(settings, rejected, {"unknown_schema"}, 0, 1 << 62, threading.Event())
    assert again.messages == 0
    rest = redrive(settings, rejected, set(), 0, 1 << 62, threading.Event())
    assert (rest.messages, rest.rejected) == (2, 2)  # still poison: dead letters anew
    outputs = Outputs(kafka, settings)
    assert Counter(outputs.ids().values()) == {1: 24}
    (headers, *_) = [dict(m.headers()) for m in outputs.classified]
    assert headers["source_topic"] == topic.encode()
    assert headers["redriven_from"].startswith(rejected.encode())
    assert all(account.balanced for account in audit(settings))


@pytest.mark.timeout(240)
def test_sigterm_finishes_commits_and_leaves(kafka, broker, settings_for, make_alerts, tmp_path) -> None:
    sent = make_alerts(ztf=400, seed=15)
    topic = kafka.create_topic(partitions=2, max_message_bytes=4 << 20)
    kafka.produce(topic, [s.packet for s in sent])
    settings = settings_for(topic)
    process = start_service(settings, tmp_path, "--metrics-port", "0")
    await_that(lambda: scored(kafka, settings) > 0)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=90)
    assert process.returncode == 0
    summary = json.loads(out)
    assert summary["unanswered"] == 0
    answered = Outputs(kafka, settings).ids()
    assert max(answered.values()) == 1
    assert committed(kafka, settings, topic) == len(answered) == summary["alerts"]
    # The actors' lines are among them.
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert "delivery" in {line["event"] for line in lines}
    assert [line for line in lines if line["level"] != "info"] == []


@pytest.mark.timeout(240)
def test_a_second_signal_ends_now_and_loses_nothing(
    kafka, broker, settings_for, make_alerts, tmp_path
) -> None:
    sent = make_alerts(ztf=400, seed=16)
    topic = kafka.create_topic(partitions=2, max_message_bytes=4 << 20)
    kafka.produce(topic, [s.packet for s in sent])
    settings = settings_for(topic)
    process = start_service(settings, tmp_path)
    await_that(lambda: scored(kafka, settings) > 0)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=90)
    assert process.returncode in (0, 130)  # 0 where it had drained between the two
    process = start_service(settings, tmp_path, "--until-eof")
    process.communicate(timeout=150)
    assert_all_answered(Outputs(kafka, settings), sent, exactly=broker.kind != "embedded")


def start_service(settings, tmp_path, *flags: str) -> subprocess.Popen[str]:
    """``space2vec run`` as an operator starts it, with a settings file."""
    config = tmp_path / "settings.yaml"
    tree = settings.model_dump(mode="json", exclude_none=True)
    tree["stream"]["until_eof"] = False
    config.write_text(json.dumps(tree))  # JSON is YAML
    with (tmp_path / "log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "space2vec.stream", "run", "--config", str(config), "--json", *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | {"RAY_AUTH_MODE": "disabled"},
        )


def committed(kafka, settings, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": settings.source.group})
    try:
        asked = [TopicPartition(topic, n) for n in range(2)]
        return sum(max(0, tp.offset) for tp in consumer.committed(asked, timeout=20))
    finally:
        consumer.close()


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("transactions")
def test_the_new_group_protocol_delivers_exactly_once_too(
    kafka, ray_cluster, settings_for, make_alerts
) -> None:
    """KIP-848, where the broker allows it."""
    sent = make_alerts(ztf=60, lsst=60, seed=17, poison=2)
    topic = kafka.create_topic(partitions=4, max_message_bytes=4 << 20)
    kafka.produce(topic, [s.packet for s in sent])
    settings = settings_for(topic, source={"options": {"group.protocol": "consumer"}}, ray={"workers": 2})
    run_application(settings, threading.Event())
    assert_all_answered(Outputs(kafka, settings), sent, exactly=True)
    assert all(account.balanced for account in audit(settings))


@pytest.mark.timeout(240)
def test_clocks_that_are_wrong_do_no_harm(kafka, ray_cluster, settings_for, make_alerts) -> None:
    sent = make_alerts(ztf=12, seed=18)
    topic = kafka.create_topic(partitions=1, max_message_bytes=4 << 20)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for i, s in enumerate(sent):
        producer.produce(topic, s.packet, timestamp=1 + 86_400_000 * i)  # January 1970
    assert producer.flush(30) == 0
    settings = settings_for(topic)
    run_application(settings, threading.Event())
    assert_all_answered(Outputs(kafka, settings), sent, exactly=True)
    assert all(account.balanced for account in audit(settings))


@pytest.mark.timeout(240)
def test_a_topic_that_is_deleted_stops_no_other(kafka, ray_cluster, settings_for, make_alerts) -> None:
    sent = make_alerts(ztf=45, seed=19)
    goes = kafka.create_topic(partitions=2, max_message_bytes=4 << 20)
    stays = kafka.create_topic(partitions=2, max_message_bytes=4 << 20)
    kafka.produce(goes, [s.packet for s in sent[:15]])
    kafka.produce(stays, [s.packet for s in sent[15:30]])
    settings = settings_for(stays, source={"topics": (goes, stays)}, stream={"until_eof": False})
    run = Run(settings)
    await_that(lambda: scored(kafka, settings) == 30)
    kafka.delete_topic(goes)
    time.sleep(3)  # the client learns of it with its next look at the metadata
    kafka.produce(stays, [s.packet for s in sent[30:]])
    await_that(lambda: scored(kafka, settings) == 45)
    run.stop.set()
    run.finish()
    assert_all_answered(Outputs(kafka, settings), sent, exactly=True)


def test_work_left_at_the_deadline_is_told_by_the_exit_code(monkeypatch) -> None:
    from space2vec.stream import app
    from space2vec.stream.cli import run_command
    from space2vec.stream.counts import Counts

    monkeypatch.setattr(app, "run_application", lambda *_: app.Summary(Counts(), unanswered=3))
    assert run_command(["run", "-b", "localhost:1", "-t", "alerts"]) == 5
    monkeypatch.setattr(app, "run_application", lambda *_: app.Summary(Counts()))
    assert run_command(["run", "-b", "localhost:1", "-t", "alerts"]) == 0
