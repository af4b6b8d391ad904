"""The audit: source, outputs, dead letters and ledger held against each other, from the topics alone.

Everything below the group's committed offsets must have been answered once. So the committed offsets
are read first, then the topics up to where they end at that time: an audit of a live stream is of
what was committed when it began. Offsets that hold control records or were compacted away are not in
what a read_committed reader sees, so they are no gaps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaException, TopicPartition

from space2vec.schemas.errors import KafkaError
from space2vec.schemas.settings import ClusterSettings, Settings
from space2vec.stream.dead_letters import REDRIVEN
from space2vec.stream.kafka_config import admin_properties, sink_cluster
from space2vec.stream.protocols import Partition
from space2vec.stream.seated_source import seat_topic
from space2vec.stream.source_topics import source_partitions
from space2vec.stream.tally import Finding, Tally
from space2vec.stream.topic_reader import TopicReader

_CALL_S = 30.0


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


def audit(settings: Settings, first: Mapping[Partition, int] | None = None) -> list[Account]:
    """Recount a stream from its topics.

    Parameters
    ----------
    settings : Settings
        Those of the run: source, group, and sink.
    first : mapping, optional
        Offsets to begin at; otherwise where each source partition begins now, or where the ledger
        does if that is later (the group started there).

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
    try:
        accounts, tallies = _open(source, committed, first)
        _read_ledger(sink, settings.sink.ledger, accounts, tallies, begin_there=first is None)
        for message in source.messages({p: (tallies[p].first, committed[p]) for p in committed}):
            tallies[message.partition].source(message.offset)
        for topic in _output_topics(sink, settings):
            _read_outputs(sink, topic, tallies)
    finally:
        source.close()
        sink.close()
    for account in accounts.values():
        tally = tallies[account.partition]
        account.first = tally.first
        account.messages = tally.messages(account.committed)
        account.missing, account.doubled = tally.totals(account.committed)
        account.findings = list(tally.findings(account.committed))
    return list(accounts.values())


def _open(
    source: TopicReader, committed: Mapping[Partition, int], first: Mapping[Partition, int] | None
) -> tuple[dict[Partition, Account], dict[Partition, Tally]]:
    accounts, tallies = {}, {}
    spans: dict[Partition, tuple[int, int]] = {}
    for topic in {partition.topic for partition in committed}:
        spans |= source.spans(topic)
    for partition, end in committed.items():
        begin = (first or {}).get(partition, spans[partition][0])
        accounts[partition] = Account(partition, begin, end)
        tallies[partition] = Tally(begin)
    return accounts, tallies


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
        found = consumer.committed(asked, timeout=_CALL_S)
    except KafkaException as error:
        raise KafkaError(f"offsets of group {group}: {error.args[0].str()}") from error
    finally:
        consumer.close()
    return {p: tp.offset for p, tp in zip(partitions, found, strict=True) if tp.offset >= 0}


def _output_topics(reader: TopicReader, settings: Settings) -> list[str]:
    """Topics to count answers in: one kind of output is enough, and the dead letters."""
    templates = [settings.sink.classifications or settings.sink.annotated, settings.sink.rejected]
    patterns = [re.compile(re.escape(t).replace(r"\{survey\}", "[^.]+") + "$") for t in templates]
    return [name for name in reader.topics() if any(p.match(name) for p in patterns)]


def _read_outputs(reader: TopicReader, topic: str, tallies: Mapping[Partition, Tally]) -> None:
    for message in reader.messages(reader.spans(topic)):
        headers = {name: value or b"" for name, value in message.headers}
        if "source_offset" not in headers or REDRIVEN in headers:
            continue
        partition = Partition(headers["source_topic"].decode(), int(headers["source_partition"]))
        if partition in tallies:
            records = int(headers.get("rejected_records", b"1"))
            tallies[partition].answer(int(headers["source_offset"]), records, int(headers["source_records"]))


def _read_ledger(
    reader: TopicReader,
    topic: str,
    accounts: Mapping[Partition, Account],
    tallies: Mapping[Partition, Tally],
    *,
    begin_there: bool,
) -> None:
    if not topic:
        for account in accounts.values():
            account.ledger = -1
        return
    lines = [json.loads(message.value) for message in reader.messages(reader.spans(topic))]
    lines = [line for line in lines if Partition(line["topic"], line["partition"]) in accounts]
    if begin_there:
        for partition, tally in tallies.items():
            # Retention may have cut into a line; a group may have begun late: start with the first whole line.
            firsts = [line["first"] for line in lines if (line["topic"], line["partition"]) == partition]
            tally.first = min((f for f in firsts if f >= tally.first), default=tally.first)
    for line in lines:
        partition = Partition(line["topic"], line["partition"])
        if line["next"] <= accounts[partition].committed and line["first"] >= tallies[partition].first:
            accounts[partition].ledger += line["messages"]
            for offset in line["silent"]:
                tallies[partition].silent(offset)
