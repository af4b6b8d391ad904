"""The audit against topics that would confuse a plain count, and against real losses and doubles."""

from __future__ import annotations

import threading
import time

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from space2vec.schemas.settings import ClusterSettings
from space2vec.stream.app import run_application
from space2vec.stream.audit import audit
from space2vec.stream.protocols import Partition
from space2vec.stream.topic_reader import TopicReader
from trial import Outputs, Run, assert_all_answered


@pytest.fixture
def transactions(broker):
    if broker.kind == "embedded":
        pytest.skip(f"not provable on the embedded broker: {broker.cannot_prove}")


@pytest.mark.usefixtures("transactions")
def test_what_is_committed_is_awaited_where_its_marker_is_still_to_come(kafka) -> None:
    topic = kafka.create_topic(partitions=1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": kafka.group()})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"answer")
    producer.flush(30)
    reader = TopicReader(ClusterSettings(brokers=kafka.bootstrap))
    assert reader.spans(topic) == {Partition(topic, 0): (0, 0)}
    marked = threading.Timer(1.0, producer.commit_transaction, (30,))
    marked.start()
    reader.await_open([topic])
    assert [message.value for message in reader.messages(reader.spans(topic))] == [b"answer"]
    marked.join()
    reader.close()


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("transactions")
def test_control_records_and_aborted_messages_are_no_gaps(
    kafka, ray_cluster, settings_for, make_alerts
) -> None:
    sent = make_alerts(ztf=30, seed=31)
    aborted = make_alerts(ztf=5, seed=32)
    topic = kafka.create_topic(partitions=1, max_message_bytes=4 << 20)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": kafka.group()})
    producer.init_transactions(30)
    for first in range(0, 30, 10):
        for alerts, end in (
            (aborted, producer.abort_transaction),
            (sent[first : first + 10], producer.commit_transaction),
        ):
            producer.begin_transaction()
            for alert in alerts:
                producer.produce(topic, alert.packet)
            producer.flush(30)
            end(30)
    settings = settings_for(topic)
    run_application(settings, threading.Event())
    assert_all_answered(Outputs(kafka, settings), sent, exactly=True)
    (account,) = audit(settings)
    assert account.balanced
    assert account.messages == 30
    assert account.committed > 45  # five aborted three times, and the marks of six transactions


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("transactions")
def test_what_retention_took_from_the_source_is_no_gap(kafka, ray_cluster, settings_for, make_alerts) -> None:
    sent = make_alerts(ztf=40, seed=33)
    topic = kafka.create_topic(partitions=1, max_message_bytes=4 << 20)
    kafka.produce(topic, [s.packet for s in sent])
    settings = settings_for(topic, stream={"batch_alerts": 10})
    run_application(settings, threading.Event())
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for future in admin.delete_records([TopicPartition(topic, 0, 15)]).values():
        future.result(30)
    (account,) = audit(settings)
    assert account.balanced, account
    assert account.first == 15
    assert account.messages == account.ledger == 25


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("transactions")
def test_compaction_of_the_source_is_no_gap(
    apache_cluster, topics_at, ray_cluster, settings_for, make_alerts
):
    cluster = apache_cluster(brokers=1, properties={"log.cleaner.backoff.ms": "200"})
    kafka = topics_at(cluster.bootstrap)
    sent = make_alerts(ztf=60, seed=34)
    topic = kafka.create_topic(
        partitions=1,
        max_message_bytes=4 << 20,
        cleanup_policy="compact",
        segment_bytes=1 << 20,
        min_cleanable_dirty_ratio=0.01,
        max_compaction_lag_ms=1000,
    )
    keys = [b"object-%d" % (n % 30) for n in range(60)]  # the first thirty alerts go
    kafka.produce(topic, [s.packet for s in sent], keys)
    deadline = time.monotonic() + 90
    while len(left := kafka.read(topic)) == 60:
        assert time.monotonic() < deadline, "nothing was compacted"
        time.sleep(1)
    settings = settings_for(topic, source={"brokers": cluster.bootstrap})
    run_application(settings, threading.Event())
    (account,) = audit(settings)
    assert account.balanced
    assert 0 < account.messages <= len(left)


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("transactions")
def test_a_gap_and_a_double_are_listed_by_offset(kafka, ray_cluster, settings_for, make_alerts) -> None:
    """An output that another program copies, and an offset committed without an answer."""
    sent = make_alerts(ztf=20, seed=35)
    topic = kafka.create_topic(partitions=1, max_message_bytes=4 << 20)
    kafka.produce(topic, [s.packet for s in sent[:15]])
    settings = settings_for(topic)
    run_application(settings, threading.Event())
    copied = Outputs(kafka, settings).classified[4]
    copies = settings.sink.classifications.format(survey="ztf")
    kafka.produce(copies, [copied.value()], headers=[copied.headers()])
    kafka.produce(topic, [s.packet for s in sent[15:]])
    skip_to(kafka, settings, topic, 20)
    (account,) = audit(settings)
    doubled = int(dict(copied.headers())["source_offset"])
    assert not account.balanced
    assert sorted(map(str, account.findings)) == sorted(
        [f"offset {doubled} doubled: 2 of 1 answered", "offsets 15-19 missing: 0 of 1 answered"]
    )
    assert (account.missing, account.doubled) == (5, 1)


def skip_to(kafka, settings, topic: str, offset: int) -> None:
    from confluent_kafka import Consumer

    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": settings.source.group})
    consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
    consumer.close()


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("transactions")
def test_a_live_stream_is_audited_as_of_its_last_commits(
    kafka, ray_cluster, settings_for, make_alerts
) -> None:
    sent = make_alerts(ztf=200, seed=36)
    topic = kafka.create_topic(partitions=2, max_message_bytes=4 << 20)
    stream = {"batch_alerts": 8, "commit_interval_s": 0.05, "until_eof": False}
    settings = settings_for(topic, stream=stream)
    run = Run(settings)
    seen = {0}
    for sent_now in (100, 200):  # the rest comes when this is committed, so one look at least is on its way
        kafka.produce(topic, [s.packet for s in sent[sent_now - 100 : sent_now]])
        while max(seen) < sent_now:
            assert run.is_alive(), run.error
            accounts = audit(settings)
            assert all(account.balanced for account in accounts), accounts
            seen.add(sum(account.committed for account in accounts))
    run.stop.set()
    run.finish()
    assert len(seen - {0}) > 1  # it was looked at more than once on its way
    assert all(account.balanced for account in audit(settings))
    assert {a.partition for a in audit(settings)} == {Partition(topic, 0), Partition(topic, 1)}
