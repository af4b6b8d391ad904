"""What has come of a replay, in a folder or in Kafka, in a form that two of them can be compared in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pyarrow.parquet as pq

from space2vec.schemas.errors import KafkaError
from space2vec.schemas.settings import ClusterSettings
from space2vec.stream.protocols import Message
from space2vec.stream.replay_kafka import all_messages
from space2vec.stream.topic_reader import TopicReader

# ---- a folder --------------------------------------------------------------------------------------------


def parts(out: Path) -> int:
    """How many parts the manifest tells of."""
    return sum(len(json.loads(path.read_text())["parts"]) for path in out.glob("manifests/*.json"))


def files(folder: Path) -> dict[str, tuple[str, int]]:
    """Every table of a folder: digest and size; what a kill left half written is none."""
    found = [p for p in folder.rglob("*.parquet") if not p.name.startswith(".")]
    return {
        str(p.relative_to(folder)): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_size)
        for p in found
    }


def bytes_below(folder: str, stored: dict[str, tuple[str, int]]) -> int:
    """How much is stored in a folder."""
    return sum(size for name, (_, size) in stored.items() if name.startswith(f"{folder}/"))


def members(path: Path) -> Iterator[int]:
    """Which packets a table answers."""
    if not path.name.startswith("."):
        yield from pq.ParquetFile(path).read(["member"])["member"].to_pylist()


# ---- Kafka -----------------------------------------------------------------------------------------------


def reach(reader: TopicReader, topic: str) -> int:
    """How far the partitions of a topic reach, aborted answers included."""
    try:
        return sum(end for _, end in reader.spans(topic).values())
    except KafkaError:  # it has just been made
        return 0


def records(bootstrap: str, to: str) -> list[tuple[str, int, str]]:
    """Every answer that a read_committed reader sees: topic, packet, and the digest of all that is in it."""
    reader = TopicReader(ClusterSettings(brokers=bootstrap))
    try:
        return [
            (topic, int(dict(message.headers)["source_offset"] or b""), digest(message))
            for topic in (to, f"{to}-rejected")
            for message in sorted(
                all_messages(reader, topic), key=lambda found: (found.partition, found.offset)
            )
        ]
    finally:
        reader.close()


def digest(message: Message) -> str:
    """Digest of partition, key, headers and value, but for the moment at which it was made."""
    value: Any = message.value
    if not message.partition.topic.endswith("-rejected"):
        container = fastavro.reader(BytesIO(value))
        value = [record | {"classified_at": None} for record in container], container.metadata
    headers = [(name, content) for name, content in message.headers if name != "rejected_at"]
    return hashlib.sha256(repr((message.partition, message.key, headers, value)).encode()).hexdigest()
