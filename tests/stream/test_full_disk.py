"""A broker whose disk runs full: it stops; given room and started again, nothing is lost or doubled."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer

from space2vec.stream.audit import audit
from trial import Outputs, Run, assert_all_answered, await_that

ROOM_MIB = 72


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of a few MiB, and a function that makes it larger."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options: str) -> int:
        command = ["mount", *options, "-t", "tmpfs", "tmpfs", str(folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode

    if os.geteuid() != 0 or mount("-o", f"size={ROOM_MIB}m"):
        pytest.skip("needs root, to mount a small file system")
    yield folder, lambda: mount("-o", "remount,size=2g")
    subprocess.run(["umount", "-l", str(folder)], check=False)


@pytest.mark.timeout(290)
def test_a_full_disk_stops_the_stream_and_loses_nothing(
    small_disk, apache_cluster, topics_at, ray_cluster, settings_for, make_alerts
) -> None:
    folder, enlarge = small_disk
    small = {
        "log.dirs": str(folder),
        "log.index.size.max.bytes": "65536",
        "metadata.log.segment.bytes": "8388608",
    }
    cluster = apache_cluster(brokers=1, properties=small)
    kafka = topics_at(cluster.bootstrap)
    topic = kafka.create_topic(partitions=2, max_message_bytes=4 << 20)
    settings = settings_for(
        topic,
        source={"brokers": cluster.bootstrap},
        stream={"until_eof": False, "delivery": "exactly-once"},
    )
    run = Run(settings)
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "enable.idempotence": True, "log_level": 0})
    sent, acknowledged = make_alerts(ztf=700, seed=41), set()

    def arrived(number: int):
        def note(error, _) -> None:
            if error is None:
                acknowledged.add(number)

        return note

    for number, alert in enumerate(sent):
        producer.produce(topic, alert.packet, on_delivery=arrived(number))
        producer.poll(0.01)
        if cluster.ended() is not None:
            break
    await_that(lambda: cluster.ended() is not None, 90)  # alerts and answers together are too many

    assert enlarge() == 0
    cluster.kill(1)
    cluster.start(1)
    assert producer.flush(90) == 0
    for number in sorted(set(range(len(sent))) - acknowledged):
        producer.produce(topic, sent[number].packet, on_delivery=arrived(number))
    try:
        assert producer.flush(60) == 0
    except KafkaException:
        pytest.fail("the producer did not recover")
    await_that(lambda: len(Outputs(kafka, settings).ids()) == len(sent))
    run.stop.set()
    run.finish()
    assert_all_answered(Outputs(kafka, settings), sent, exactly=True)
    assert all(account.balanced for account in audit(settings))
