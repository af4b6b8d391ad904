"""The audit: source, outputs, dead letters and ledger held against each other, from the topics alone.

Everything below the group's committed offsets must have been answered once. So the committed offsets
are read first, then the topics up to where they end at that time, transactions that are open then
included: an audit of a live stream is of what was committed when it began. Offsets that hold
control records or were compacted away are not in what a read_committed reader sees, so they are no gaps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from space2vec.schemas.settings import ClusterSettings, Settings
from space2vec.stream.dead_letters import REDRIVEN
from space2vec.stream.group_offsets import committed_offsets
from space2vec.stream.kafka_config import admin_properties, sink_cluster
from space2vec.stream.protocols import Partition
from space2vec.stream.seated_source import seat_topic
from space2vec.stream.source_topics import source_partitions
from space2vec.stream.tally import Finding, Tally
from space2vec.stream.topic_reader import TopicReader

_CALL_S = 30.0

Line = Mapping[str, Any]
"""Of the ledger, as JSON says it."""


@dataclass
class Account:
    """How one source partition stands.

    ``first`` and ``committed`` bound the offsets audited; ``ledger`` are the messages that the
    ledger has counted there.
    """

    partition: Partition
    first: int
    committed: int
    messages: int = 0
    missing: int = 0
    doubled: int = 0
    ledger: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def balanced(self) -> bool:
        """Whether every message was answered once, and the ledger says the same."""
        return not self.missing and not self.doubled and self.ledger in (self.messages, -1)


def audit(settings: Settings) -> list[Account]:
    """Recount a stream from its topics, from where each source partition begins now or the group began.

    Parameters
    ----------
    settings : Settings
        Those of the run: source, group, and sink.

    Raises
    ------
    KafkaError
        If a cluster cannot be reached.
    """
    partitions = sorted(source_partitions(settings.source))
    home = sink_cluster(settings.sink, settings.source)
    committed = _committed(settings, home, partitions)
    source, sink = (
        TopicReader(settings.source, settings.source.group),
        TopicReader(home, settings.source.group),
    )
    ledger = settings.sink.ledger
    try:
        accounts = _open(source, committed)
        outputs = _output_topics(sink, settings)
        sink.await_open([ledger, *outputs] if ledger else outputs)
        lines = _read_ledger(sink, ledger, accounts) if ledger else []
        for partition, begun in _begun(lines).items():
            accounts[partition].first = max(accounts[partition].first, begun)  # a group may have begun late
        tallies = {partition: Tally(account.first) for partition, account in accounts.items()}
        for message in source.messages({p: (account.first, committed[p]) for p, account in accounts.items()}):
            tallies[message.partition].source(message.offset)
        expected = "source_answers" if settings.sink.classifications else "source_records"
        for topic in outputs:
            _read_outputs(sink, topic, tallies, expected)
    finally:
        source.close()
        sink.close()
    for line in lines:
        for offset in line["silent"]:
            tallies[_partition(line)].silent(offset)
    _hold_against_ledger(lines, accounts, tallies)
    for account in accounts.values():
        tally = tallies[account.partition]
        account.messages = tally.messages(account.committed)
        account.missing, account.doubled = tally.totals(account.committed)
        account.findings = list(tally.findings(account.committed))
        account.ledger = account.ledger if ledger else -1
    return list(accounts.values())


def _open(source: TopicReader, committed: Mapping[Partition, int]) -> dict[Partition, Account]:
    spans: dict[Partition, tuple[int, int]] = {}
    for topic in {partition.topic for partition in committed}:
        spans |= source.spans(topic)
    return {partition: Account(partition, spans[partition][0], end) for partition, end in committed.items()}


def _committed(
    settings: Settings, home: ClusterSettings, partitions: list[Partition]
) -> dict[Partition, int]:
    """The group's offsets, from the seats where the source is on another cluster."""
    group = settings.source.group
    asked = [
        TopicPartition(p.topic if settings.one_cluster else seat_topic(group, p.topic), p.number)
        for p in partitions
    ]
    consumer = Consumer(admin_properties(home) | {"group.id": group, "enable.auto.commit": False})
    try:
        found = committed_offsets(consumer, asked, _CALL_S)
    finally:
        consumer.close()
    return {p: tp.offset for p, tp in zip(partitions, found, strict=True) if tp.offset >= 0}


def _output_topics(reader: TopicReader, settings: Settings) -> list[str]:
    """Topics to count answers in: one kind of output is enough, and the dead letters."""
    templates = [settings.sink.classifications or settings.sink.annotated, settings.sink.rejected]
    patterns = [re.compile(re.escape(t).replace(r"\{survey\}", "[^.]+") + "$") for t in templates]
    return [name for name in reader.topics() if any(p.match(name) for p in patterns)]


def _read_outputs(reader: TopicReader, topic: str, tallies: Mapping[Partition, Tally], expected: str) -> None:
    """Count answers; the header ``expected`` of each says how many there must be."""
    for message in reader.messages(reader.spans(topic)):
        headers = {name: value or b"" for name, value in message.headers}
        if "source_offset" not in headers or REDRIVEN in headers:
            continue
        partition = Partition(headers["source_topic"].decode(), int(headers["source_partition"]))
        if partition in tallies:
            records = int(headers.get("rejected_records", b"1"))
            tallies[partition].answer(int(headers["source_offset"]), records, int(headers[expected]))


def _read_ledger(reader: TopicReader, topic: str, accounts: Mapping[Partition, Account]) -> list[Line]:
    """The ledger's lines on these partitions, up to what was committed."""
    lines = (json.loads(message.value) for message in reader.messages(reader.spans(topic)))
    return [
        line
        for line in lines
        if (account := accounts.get(_partition(line))) is not None and line["next"] <= account.committed
    ]


def _begun(lines: Sequence[Line]) -> dict[Partition, int]:
    """Where the ledger begins on each partition."""
    begun: dict[Partition, int] = {}
    for line in lines:
        begun[_partition(line)] = min(line["first"], begun.get(_partition(line), line["first"]))
    return begun


def _hold_against_ledger(
    lines: Sequence[Line], accounts: Mapping[Partition, Account], tallies: Mapping[Partition, Tally]
) -> None:
    """Add up what the ledger counted; of a line that the source's retention has cut into, what is left there."""
    for line in lines:
        tally = tallies[_partition(line)]
        cut = line["first"] < tally.first
        accounts[_partition(line)].ledger += tally.messages(line["next"]) if cut else line["messages"]


def _partition(line: Line) -> Partition:
    return Partition(line["topic"], line["partition"])
