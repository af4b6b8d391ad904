"""The audit of replays: what a topic or a folder holds, against what the ledger or the manifests say.

A replay's packets are numbered without gaps, so an archive need not be there to know what should have been
answered: every number below where its ledger or manifest stands, once.
"""

from __future__ import annotations

import glob
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from space2vec.schemas.errors import ConfigError
from space2vec.schemas.settings import Settings
from space2vec.stream.audit import Account
from space2vec.stream.dead_letters import REDRIVEN
from space2vec.stream.kafka_config import sink_cluster
from space2vec.stream.protocols import Message, Partition
from space2vec.stream.replay_kafka import all_messages, ledger_lines
from space2vec.stream.replay_manifest import Manifest, read_manifests
from space2vec.stream.replay_source import PROVENANCE
from space2vec.stream.tally import Finding, Tally
from space2vec.stream.topic_reader import TopicReader


def audit_replay(settings: Settings, to: str) -> list[Account]:
    """Recount what has been replayed somewhere, one account per archive and run.

    Parameters
    ----------
    settings : Settings
        They say which cluster.
    to : str
        ``kafka:TOPIC``, ``parquet:DIR`` or ``avro:DIR``, as the replay had it.

    Raises
    ------
    ConfigError
        If it is none of these, or nothing has been replayed there.
    KafkaError
        If the cluster cannot be reached.
    """
    kind, _, name = to.partition(":")
    if kind == "kafka" and name:
        accounts = _audit_topic(settings, name)
    elif kind in ("parquet", "avro") and Path(name).is_dir():
        accounts = [_audit_manifest(Path(name), manifest) for manifest in read_manifests(Path(name))]
    else:
        raise ConfigError(f"--replay {to}: expected kafka:TOPIC, or parquet:DIR or avro:DIR that is there")
    if not accounts:
        raise ConfigError(f"--replay {to}: nothing has been replayed there")
    return accounts


def _audit_topic(settings: Settings, topic: str) -> list[Account]:
    reader = TopicReader(sink_cluster(settings.sink, settings.source), settings.source.group)
    accounts: dict[str, Account] = {}
    tallies: dict[str, Tally] = {}
    try:
        for line in ledger_lines(reader):
            if line["to"] != topic:
                continue
            run, shard = line["run"], Partition(f"{line['topic']} {line['run']}", 0)
            account = accounts.setdefault(run, Account(shard, 0, 0))
            tally = tallies.setdefault(run, Tally(0))
            account.committed = max(account.committed, line["next"])
            account.ledger += line["messages"]
            for number in line["silent"]:
                tally.silent(number)
        pattern = re.compile(re.escape(topic).replace(r"\{survey\}", "[^.]+") + "(-rejected)?$")
        for name in reader.topics():
            if pattern.match(name):
                for message in all_messages(reader, name):
                    _count(message, tallies)
    finally:
        reader.close()
    for run, account in accounts.items():
        for number in range(account.committed):
            tallies[run].source(number)
        account.messages = account.committed
        account.missing, account.doubled = tallies[run].totals(account.committed)
        account.findings = list(tallies[run].findings(account.committed))
    return list(accounts.values())


def _count(message: Message, tallies: Mapping[str, Tally]) -> None:
    headers = {name: value or b"" for name, value in message.headers}
    if PROVENANCE not in headers or REDRIVEN in headers:
        return
    tally = tallies.get(json.loads(headers[PROVENANCE])["run"])
    if tally is not None:
        records = int(headers.get("rejected_records", b"1"))
        tally.answer(int(headers["source_offset"]), records, int(headers["source_records"]))


def _audit_manifest(folder: Path, manifest: Manifest) -> Account:
    account = Account(Partition(f"{manifest.archive} {manifest.run}", 0), 0, manifest.next)
    expected = 0
    for part in manifest.parts:
        there = part.end - part.first
        account.ledger += int(part.counts["messages"])
        if part.first > expected:
            account.findings.append(Finding(expected, part.first - 1, 0, 1))
            account.missing += part.first - expected
        if not all(_sound(folder / name, sha256) for name, sha256 in part.files.items()):
            account.findings.append(Finding(part.first, part.end - 1, 0, 1))
            account.missing += there
        expected = part.end
    for first, end in sorted(_uncounted(folder, manifest)):
        if (
            first < manifest.next
        ):  # what is beyond, a stopped replay left: it is written again, and counts then
            account.findings.append(Finding(first, end - 1, 2, 1))
            account.doubled += end - first
    account.messages = manifest.next
    return account


def _uncounted(folder: Path, manifest: Manifest) -> set[tuple[int, int]]:
    """Find which ranges of packets there are part files of that no part has: whoever reads the folder reads them too."""
    named = {folder / name for part in manifest.parts for name in part.files}
    shard = glob.escape(f"{manifest.archive}@{manifest.digest[:12]}")
    found = [path for path in folder.rglob(f"{shard}-*-*") if path not in named]
    ranges = [path.stem.rsplit("-", 2)[1:] for path in found]
    return {(int(first), int(end)) for first, end in ranges}


def _sound(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False
