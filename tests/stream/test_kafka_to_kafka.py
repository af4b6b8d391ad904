"""Kafka to Kafka with Ray and the shipped bundle, on the best broker to be had."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fastavro
import pytest

from space2vec.schemas.classification import decode_classification
from space2vec.schemas.settings import Settings
from space2vec.stream.app import Summary, run_application
from space2vec.stream.audit import audit
from space2vec.training.packets import lsst_writer_schema
from space2vec.workers.bundle import load_bundle


@pytest.fixture
def settings_for(kafka, broker, tmp_path) -> Callable[..., Settings]:
    """Give a function ``(topic, **sections)`` that makes settings with topics of the test's own."""
    (tmp_path / "1100.avsc").write_text(_json(lsst_writer_schema("11.0")))

    def make(topic: str, **sections: dict[str, Any]) -> Settings:
        prefix = topic.removeprefix("test-")
        base: dict[str, dict[str, Any]] = {
            "source": {
                "brokers": kafka.bootstrap,
                "topics": (topic,),
                "group": f"group-{prefix}",
                "options": {"session.timeout.ms": "6000", "topic.metadata.refresh.interval.ms": "2000"},
            },
            "sink": {
                "annotated": f"{{survey}}-annotated-{prefix}",
                "classifications": f"{{survey}}-classifications-{prefix}",
                "rejected": f"rejected-{prefix}",
                "ledger": f"ledger-{prefix}",
                "partitions": 2,
            },
            "schemas": {"folder": str(tmp_path)},
            "model": {"device": "cpu", "max_wait_ms": 2},
            "ray": {"workers": 1, "classifiers": 1},
            "stream": {
                "until_eof": True,
                "batch_alerts": 32,
                "commit_interval_s": 0.2,
                # The embedded broker shows aborted transactions to everybody.
                "delivery": "at-least-once" if broker.kind == "embedded" else "auto",
            },
        }
        for section, values in sections.items():
            base[section] |= values
        return Settings.model_validate(base)

    return make


def _json(schema: object) -> str:
    import json

    return json.dumps(schema)


class Outputs:
    """What came out, read back as any consumer would."""

    def __init__(self, kafka, settings: Settings, expect: int) -> None:
        sink = settings.sink
        self.annotated = {s: self._read(kafka, sink.annotated.format(survey=s)) for s in ("ztf", "lsst")}
        self.classified = [
            message
            for s in ("ztf", "lsst")
            for message in self._read(kafka, sink.classifications.format(survey=s))
        ]
        self.rejected = self._read(kafka, sink.rejected)

    @staticmethod
    def _read(kafka, topic: str) -> list[Any]:
        try:
            return kafka.read(topic)
        except KeyError:
            return []

    def ids(self) -> Counter[tuple[str, int]]:
        return Counter(
            (record["survey"], record["alert_id"])
            for record in (decode_classification(message.value()) for message in self.classified)
        )


def expected_ids(sent: Sequence[Any]) -> Counter[tuple[str, int]]:
    return Counter((s.survey, s.alert_id) for s in sent if s.alert_id is not None)


def assert_all_answered(outputs: Outputs, sent: Sequence[Any], *, exactly: bool) -> None:
    answered, expected = outputs.ids(), expected_ids(sent)
    rejected = Counter(message.value() for message in outputs.rejected)
    poison = Counter(s.packet for s in sent if s.alert_id is None)
    if exactly:
        assert answered == expected
        assert rejected == poison
    else:  # at least once: doubles are allowed after a crash, gaps never
        assert set(answered) == set(expected)
        assert set(rejected) == set(poison)


@pytest.mark.timeout(240)
def test_every_alert_comes_out_whole_with_its_annotation(
    kafka, ray_cluster, settings_for, make_alerts
) -> None:
    sent = make_alerts(ztf=60, lsst=60, poison=8)
    topic = kafka.create_topic(partitions=4, max_message_bytes=4 << 20)
    kafka.produce(topic, [s.packet for s in sent])
    settings = settings_for(topic, ray={"workers": 2, "classifiers": 2, "gpus_per_classifier": 1})

    summary = run_application(settings, threading.Event())

    outputs = Outputs(kafka, settings, len(sent))
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
    classifiers = start_classifiers("core", 2, settings)
    seen = [ray_cluster.get(classifier.ready.remote()).gpu_ids for classifier in classifiers]
    for classifier in classifiers:
        ray_cluster.kill(classifier)
    assert sorted(seen) == [("0",), ("1",)]


class Run(threading.Thread):
    """The application in a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(daemon=True)
        self.settings, self.stop = settings, threading.Event()
        self.summary: Summary | None = None
        self.latest = Summary.__new__(Summary)
        self.error: BaseException | None = None
        self.seen = threading.Event()
        self.start()

    def run(self) -> None:
        try:
            self.summary = run_application(self.settings, self.stop, self._on_status)
        except BaseException as error:  # noqa: BLE001 - raised again by finish()
            self.error = error

    def _on_status(self, summary: Summary) -> None:
        self.latest = summary
        if summary.counts.messages:
            self.seen.set()

    def finish(self, timeout: float = 180) -> Summary:
        self.join(timeout)
        assert not self.is_alive(), "the application did not end"
        if self.error is not None:
            raise self.error
        assert self.summary is not None
        return self.summary


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
    answered = await_answers(kafka, settings, len(sent))
    second.stop.set()
    second.finish()
    first.stop.set()
    first.finish()
    assert answered >= len(sent)
    exactly = broker.kind != "embedded"
    assert_all_answered(Outputs(kafka, settings, len(sent)), sent, exactly=exactly)
    if exactly:
        assert all(account.balanced for account in audit(settings))


def await_answers(kafka, settings: Settings, count: int, deadline_s: float = 150) -> int:
    """Wait until so many different alerts have been classified, and say how many there are."""
    deadline = time.monotonic() + deadline_s
    found = 0
    while found < count and time.monotonic() < deadline:
        time.sleep(1)
        found = len(Outputs(kafka, settings, count).ids())
    return found


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
    assert_all_answered(Outputs(kafka, settings, len(sent)), sent, exactly=exactly)
    if exactly:
        assert all(account.balanced for account in audit(settings))


def actor_pid(name: str) -> int:
    """A process that runs such an actor: Ray titles them so."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(f"ray::{name}".encode()):
            return int(process.name)
    raise AssertionError(f"no {name} is alive")


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
    assert_all_answered(Outputs(kafka, settings, len(sent)), sent, exactly=True)
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
