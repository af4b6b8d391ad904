"""Rebalances leave no partition that nobody reads: killed in the middle of one, or full during one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from space2vec.schemas.errors import ConfigError
from space2vec.schemas.settings import SourceSettings
from space2vec.stream.kafka_config import consumer_properties
from space2vec.stream.kafka_source import KafkaSource
from space2vec.stream.protocols import Partition

PARTITIONS = 6


class Holder:
    """Notes what it is given, in a file where there is one; may be killed as soon as something is taken from it."""

    def __init__(self, told: Path | None = None, killed: bool = False) -> None:
        self.has: set[Partition] = set()
        self._told, self._killed = told, killed

    def assigned(self, partitions: Sequence[Partition]) -> None:
        self.has.update(partitions)
        if self._told is not None:
            self._told.write_text(" ".join(str(partition.number) for partition in self.has))

    def revoked(self, partitions: Sequence[Partition]) -> None:
        if self._killed:
            os.kill(os.getpid(), signal.SIGKILL)
        self.has.difference_update(partitions)

    lost = revoked


def settings_of(brokers: str, topic: str) -> SourceSettings:
    return SourceSettings(brokers=brokers, topics=(topic,), group=f"group-{topic}")


def test_a_member_killed_as_it_lets_go_leaves_no_partition_unread(kafka, broker, tmp_path) -> None:
    if broker.kind == "embedded":
        pytest.skip("the embedded broker takes partitions back otherwise")
    topic = kafka.create_topic(partitions=PARTITIONS)
    told = tmp_path / "told"
    child = subprocess.Popen([sys.executable, __file__, kafka.bootstrap, topic, str(told)])
    try:
        deadline = time.monotonic() + 60
        while not told.exists() or len(told.read_text().split()) < PARTITIONS:
            assert time.monotonic() < deadline, "the first member was given nothing"
            time.sleep(0.1)
        holders = [Holder(), Holder()]
        sources = [KafkaSource(settings_of(kafka.bootstrap, topic))]
        sources[0].subscribe(holders[0])
        while child.poll() is None:  # it is killed as it lets go of what is to be the second member's
            sources[0].poll(10, 0.1)
            assert time.monotonic() < deadline + 30, "nothing was taken from the first member"
        assert child.returncode == -signal.SIGKILL
        sources.append(KafkaSource(settings_of(kafka.bootstrap, topic)))  # as a worker that is started again
        sources[1].subscribe(holders[1])
        deadline = time.monotonic() + 60
        while len(holders[0].has | holders[1].has) < PARTITIONS or not all(holder.has for holder in holders):
            for source in sources:
                source.poll(10, 0.1)
            assert time.monotonic() < deadline, f"{[sorted(holder.has) for holder in holders]}"
        for source in sources:
            source.close()
    finally:
        child.kill()
        child.wait()


def test_a_member_reads_again_what_was_taken_from_it_while_it_was_full(kafka, monkeypatch) -> None:
    """librdkafka remembers that a partition was paused, also when it is taken away and comes back."""
    monkeypatch.setattr("space2vec.stream.kafka_source._PATIENCE_S", -1.0)
    topic = kafka.create_topic(partitions=2)
    settings = settings_of(kafka.bootstrap, topic)
    settings = settings.model_copy(update={"options": {"session.timeout.ms": "6000"}})
    holder, guest = Holder(), Holder()
    source, other = KafkaSource(settings), KafkaSource(settings)

    def until(polled: Sequence[tuple[KafkaSource, int]], holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not holds():
            for one, limit in polled:
                one.poll(limit, 0.1)
            assert time.monotonic() < deadline, f"{sorted(holder.has)}, {sorted(guest.has)}"

    source.subscribe(holder)
    until([(source, 10)], lambda: len(holder.has) == 2)
    other.subscribe(guest)
    until(
        [(source, 0), (other, 10)], lambda: len(holder.has) == len(guest.has) == 1
    )  # full: it takes nothing
    source.poll(10, 0.1)
    other.close()
    until([(source, 10)], lambda: len(holder.has) == 2)
    kafka.produce(topic, [b"%d" % number for number in range(40)])
    read: set[bytes] = set()
    deadline = time.monotonic() + 20
    while len(read) < 40 and time.monotonic() < deadline:
        read |= {message.value for message in source.poll(10, 0.1)}
    source.close()
    assert len(read) == 40


def test_nobody_is_a_static_member() -> None:
    properties = consumer_properties(SourceSettings(topics=("t",)))
    assert "group.instance.id" not in properties
    with pytest.raises(ConfigError, match="static member"):
        consumer_properties(SourceSettings(topics=("t",), options={"group.instance.id": "a"}))


def main(brokers: str, topic: str, told: str) -> None:
    """Be the member that is killed."""
    source = KafkaSource(settings_of(brokers, topic))
    source.subscribe(Holder(Path(told), killed=True))
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        source.poll(10, 0.1)


if __name__ == "__main__":
    main(*sys.argv[1:])
