"""Kafka to Kafka with Ray and the shipped bundle, on the best broker to be had."""

from __future__ import annotations

import io
import os
import signal
import threading
from pathlib import Path

import fastavro
import pytest

from space2vec.stream.app import run_application
from space2vec.stream.audit import audit
from space2vec.training.packet_schemas import lsst_writer_schema
from space2vec.workers.bundle import load_bundle
from trial import Outputs, Run, actor_pid, assert_all_answered, await_that


@pytest.mark.timeout(240)
def test_every_alert_comes_out_whole_with_its_annotation(
    kafka, ray_cluster, settings_for, make_alerts
) -> None:
    sent = make_alerts(ztf=60, lsst=60, poison=8)
    topic = kafka.create_topic(partitions=4, max_message_bytes=4 << 20)
    kafka.produce(topic, [s.packet for s in sent])
    settings = settings_for(topic, ray={"workers": 2, "classifiers": 2, "gpus_per_classifier": 1})

    summary = run_application(settings, threading.Event())

    outputs = Outputs(kafka, settings)
    assert_all_answered(outputs, sent, exactly=True)
    assert summary.counts.messages == len(sent)
    assert (summary.counts.scored + summary.counts.degraded, summary.counts.rejected) == (120, 8)
    assert summary.unanswered == 0

    sha256 = load_bundle("core").sha256
    for survey, messages in outputs.annotated.items():
        originals = {s.alert_id: s.packet for s in sent if s.survey == survey}
        assert len(messages) == 60
        for message in messages:
            check_annotated(message.value(), survey, originals, sha256)
    assert all(account.balanced for account in audit(settings))


def check_annotated(value: bytes, survey: str, originals: dict[int, bytes], sha256: str) -> None:
    """Read an annotated alert with fastavro alone, by its own schema and by the original one."""
    (record,) = fastavro.reader(io.BytesIO(value))
    original = originals[record["candid" if survey == "ztf" else "diaSourceId"]]
    if survey == "ztf":
        reader = fastavro.reader(io.BytesIO(original))
        (plain,) = reader
        schema = reader.writer_schema
    else:
        schema = fastavro.parse_schema(lsst_writer_schema("11.0"))
        plain = fastavro.schemaless_reader(io.BytesIO(original[5:]), schema, None)
    (annotation,) = record.pop("annotations")
    assert record == plain
    assert annotation["sha256"] == sha256
    assert 0 <= annotation["score"] <= 1
    (by_old_schema,) = fastavro.reader(io.BytesIO(value), schema)
    assert by_old_schema == plain
    body = original[5:] if survey == "lsst" else _body_of(original)
    assert body in value  # byte for byte


def _body_of(container: bytes) -> bytes:
    (block,) = fastavro.block_reader(io.BytesIO(container))
    return block.bytes_.getvalue()


@pytest.mark.timeout(240)
def test_classifiers_are_pinned_to_devices_of_their_own(ray_cluster, settings_for, kafka) -> None:
    from space2vec.workers.classifier import start_classifiers

    settings = settings_for("test-pinning", ray={"classifiers": 2, "gpus_per_classifier": 1})
    classifiers = start_classifiers(load_bundle("core"), 2, settings)
    seen = [ray_cluster.get(classifier.ready.remote()).gpu_ids for classifier in classifiers]
    for classifier in classifiers:
        ray_cluster.kill(classifier)
    assert sorted(seen) == [("0",), ("1",)]


@pytest.mark.timeout(300)
def test_a_second_member_joins_and_leaves_in_the_middle(
    kafka, broker, ray_cluster, settings_for, make_alerts
) -> None:
    sent = make_alerts(ztf=240, lsst=240, seed=2)
    topic = kafka.create_topic(partitions=4, max_message_bytes=4 << 20)
    half = len(sent) // 2
    kafka.produce(topic, [s.packet for s in sent[:half]])
    settings = settings_for(topic, stream={"batch_alerts": 8, "until_eof": False})
    first = Run(settings)
    assert first.seen.wait(90)
    second = Run(settings)
    kafka.produce(topic, [s.packet for s in sent[half:]])
    await_that(lambda: len(Outputs(kafka, settings).ids()) >= len(sent))
    second.stop.set()
    second.finish()
    first.stop.set()
    first.finish()
    exactly = broker.kind != "embedded"
    assert_all_answered(Outputs(kafka, settings), sent, exactly=exactly)
    if exactly:
        assert all(account.balanced for account in audit(settings))


@pytest.mark.timeout(300)
def test_killing_a_worker_and_a_classifier_loses_nothing(
    kafka, broker, ray_cluster, settings_for, make_alerts
) -> None:
    sent = make_alerts(ztf=300, lsst=300, seed=3, poison=4)
    topic = kafka.create_topic(partitions=4, max_message_bytes=4 << 20)
    kafka.produce(topic, [s.packet for s in sent])
    settings = settings_for(topic, stream={"batch_alerts": 8}, ray={"workers": 2, "classifiers": 1})
    run = Run(settings)
    assert run.seen.wait(90)
    os.kill(actor_pid("StreamWorker"), signal.SIGKILL)
    os.kill(actor_pid("Classifier"), signal.SIGKILL)
    summary = run.finish()
    assert summary.restarts >= 1
    exactly = broker.kind != "embedded"
    assert_all_answered(Outputs(kafka, settings), sent, exactly=exactly)
    if exactly:
        assert all(account.balanced for account in audit(settings))


@pytest.mark.timeout(240)
def test_a_source_that_is_only_ours_to_read(
    kafka, ray_cluster, settings_for, make_alerts, monkeypatch
) -> None:
    """Offsets stand in seats on the sink's cluster; the source's group is never touched."""
    sent = make_alerts(ztf=80, lsst=80, seed=4, poison=4)
    topic = kafka.create_topic(partitions=3, max_message_bytes=4 << 20)
    kafka.produce(topic, [s.packet for s in sent])
    # The same broker by another name stands for another cluster.
    host, _, port = kafka.bootstrap.split(",")[0].rpartition(":")
    other = f"{'localhost' if host == '127.0.0.1' else '127.0.0.1'}:{port}"
    settings = settings_for(topic, sink={"brokers": other}, stream={"max_alerts": 60, "until_eof": False})
    first = run_application(settings, threading.Event())
    assert first.counts.messages >= 60
    settings = settings_for(topic, sink={"brokers": other}, ray={"workers": 2})
    run_application(settings, threading.Event())
    assert_all_answered(Outputs(kafka, settings), sent, exactly=True)
    assert all(account.balanced for account in audit(settings))


@pytest.mark.timeout(300)
def test_real_packets_pass(kafka, ray_cluster, settings_for, shared: Path) -> None:
    packets = [
        p.read_bytes()
        for folder in ("ztf", "lsst", "lsst_fink", "other", "corrupt", "ztf_nostamp")
        for p in sorted((shared / "packets" / folder).glob("*.avro"))
    ]
    topic = kafka.create_topic(partitions=4, max_message_bytes=8 << 20)
    kafka.produce(topic, packets)
    settings = settings_for(topic, sink={"max_message_bytes": 8 << 20})
    summary = run_application(settings, threading.Event())
    assert summary.counts.messages == len(packets)
    assert summary.counts.scored + summary.counts.degraded >= 680
    assert all(account.balanced for account in audit(settings))
