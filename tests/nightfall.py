"""A simulated night as the service answers it, without Kafka or Ray: for what reads the output topics."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import numpy as np

from space2vec.schemas.alert import Alert
from space2vec.schemas.annotate import Annotator
from space2vec.schemas.annotation import Annotation
from space2vec.schemas.errors import PacketError
from space2vec.schemas.reader import PacketReader
from space2vec.schemas.settings import SchemaSettings
from space2vec.schemas.writers import writer_schemas
from space2vec.stream.dashboard.entries import entry_of, rejection_of
from space2vec.stream.dashboard.store import SPAN_S, Store
from space2vec.stream.poison import poison
from space2vec.stream.protocols import Message, OutputRecord, Partition
from space2vec.stream.simulated import simulated_alerts, writer_schema_files
from space2vec.workers.backends import open_backend
from space2vec.workers.bundle import load_bundle
from space2vec.workers.preprocess import Preprocessor

VISIT_S = 5.0


def answered(count: int, folder: Path, seed: int = 1) -> list[OutputRecord]:
    """Answer ``count`` simulated alerts and seven spoilt ones: annotated alerts, classifications, dead letters.

    Messages were published in visits over the last ten minutes, and are answered by a real model.
    """
    for name, text in writer_schema_files().items():
        (folder / name).write_text(text)
    alerts = list(simulated_alerts("both", count, seed))
    first = {survey: next(a for a in alerts if a.survey == survey) for survey in ("ztf", "lsst")}
    sent = [(a.survey, a.object_id, a.packet, a.truth()) for a in alerts]
    sent += [(p.survey, "poison", p.packet, "{}") for p in poison(first["ztf"], first["lsst"])]
    order = np.random.default_rng(seed).permutation(len(sent))
    times = visits(len(sent))
    messages = [
        Message(
            Partition(f"{survey}-alerts", i % 4),
            i,
            packet,
            key.encode(),
            int(1000 * times[i]),
            (("truth", truth.encode()),),
        )
        for i, (survey, key, packet, truth) in enumerate(sent[j] for j in order)
    ]
    return _answers(messages, PacketReader(writer_schemas(SchemaSettings(folder=folder))))


def _answers(messages: Sequence[Message], reader: PacketReader) -> list[OutputRecord]:
    bundle = load_bundle("core")
    outputs = bundle.manifest.outputs
    opened = [(message, record) for message in messages for record in reader.read(message.value)]
    alerts = [(message, record) for message, record in opened if isinstance(record, Alert)]
    ready = Preprocessor(bundle.manifest.input).prepare([alert for _, alert in alerts])
    scores = open_backend(bundle, "cpu", 1).score(ready.stamps)
    rejected = [(message, record) for message, record in opened if isinstance(record, PacketError)]
    rejected += [(alerts[i][0], error) for i, error in ready.rejects.items()]
    answers = [letter(message, error) for message, error in rejected]
    for row, i in enumerate(ready.rows):
        score = float(scores.probability[row])
        groups = scores.groups[row].tolist()
        annotation = Annotation(
            classifier=bundle.manifest.name,
            version=bundle.manifest.version,
            sha256=bundle.sha256,
            score=score,
            logit=float(scores.logit[row]),
            spread=None,
            classes={"real": score, "bogus": 1.0 - score},
            flags=tuple(str(flag) for flag in ready.flags[row]),
            embedding=tuple(scores.embedding[row].tolist()),
            classified_at=datetime.now(UTC),
            kinds=dict(zip(outputs.kinds, groups, strict=False)),
            causes=dict(zip(outputs.causes, groups[len(outputs.kinds) :], strict=True)),
        )
        answers.append(annotated(*alerts[i], annotation))
    return sorted(answers, key=lambda answer: answer.source.offset)


def letter(message: Message, error: PacketError) -> OutputRecord:
    """Give the dead letter of a message, with the headers that docs/delivery.md promises."""
    told = {
        "reason": error.reason,
        "detail": error.detail,
        "field": error.field,
        "survey": error.survey,
        "alert_id": error.alert_id,
    }
    headers = tuple((name, str(value).encode()) for name, value in told.items() if value is not None)
    topic = f"{error.survey or 'unknown'}-rejected"
    return OutputRecord(topic, message.key, message.value, (*headers, *places(message)), message)


def places(message: Message) -> tuple[tuple[str, bytes], ...]:
    """Give the headers that say where a message stood."""
    told = {
        "topic": message.partition.topic,
        "partition": message.partition.number,
        "offset": message.offset,
        "timestamp": message.timestamp_ms,
    }
    return tuple((f"source_{name}", str(value).encode()) for name, value in told.items())


def annotated(message: Message, alert: Alert, annotation: Annotation) -> OutputRecord:
    """Give the output record of one annotated alert."""
    headers = (*message.headers, ("sha256", annotation.sha256.encode()), *places(message))
    value = Annotator().annotate(alert.packet, [annotation])
    return OutputRecord(f"{alert.survey}-annotated", message.key, value, headers, message)


def visits(count: int) -> list[float]:
    """Times of publication, seconds since 1970: bursts, one a visit."""
    now = time.time()
    weights = [1 + 0.6 * math.sin(i / 9) + 0.5 * (i % 6 == 0) for i in range(int(0.9 * SPAN_S / VISIT_S))]
    chosen = np.random.default_rng(count).choice(len(weights), count, p=np.array(weights) / sum(weights))
    return sorted(now - VISIT_S * (len(weights) - i) for i in chosen)


def as_read(records: Sequence[OutputRecord], seed: int = 2) -> list[Message]:
    """Give outputs as they are read: each with a place, and a time some while after its source message's.

    The newest was published just now, whenever the records were made.
    """
    delays = np.random.default_rng(seed).lognormal(-0.3, 0.5, len(records))
    times = [record.source.timestamp_ms or 0 for record in records]
    later = int(1000 * (time.time() - VISIT_S)) - max(times)
    read = []
    for i, (record, published, delay) in enumerate(zip(records, times, delays, strict=True)):
        sent = str(published + later).encode()
        headers = tuple(
            (name, sent if name == "source_timestamp" else value) for name, value in record.headers
        )
        written = published + later + int(1000 * delay)
        read.append(
            Message(Partition(record.topic, i % 2), i, record.value or b"", record.key, written, headers)
        )
    return sorted(read, key=lambda message: message.timestamp_ms or 0)


def fill(store: Store, messages: Sequence[Message], reader: PacketReader) -> None:
    """Fill a store as the feed does, lag and ledger included."""
    for message in messages:
        flagged = False
        if message.partition.topic.endswith("-rejected"):
            store.rejections.append(rejection_of(message))
        else:
            entry = entry_of(message, reader)
            store.ring.add(entry)
            flagged = bool(entry.flags)
        store.rates.add(ledger_line(message, flagged))
    now = time.time()
    behind = 0.0
    for i in range(120):
        behind = behind * 0.7 + 60 * (i % 6 == 0) * (1 + math.sin(i / 9))
        lag = {
            Partition("ztf-alerts", n): int(behind * share) for n, share in enumerate((0.4, 0.2, 0.3, 0.1))
        }
        store.lags.append((now - 5 * (119 - i), lag))


def ledger_line(message: Message, flagged: bool = False) -> dict[str, Any]:
    """Give the ledger's line for one output."""
    dead = message.partition.topic.endswith("-rejected")
    at = datetime.fromtimestamp((message.timestamp_ms or 0) / 1000, UTC)
    rejected = {"bad_record": 1} if dead else {}
    scored = not dead and not flagged
    return {"scored": int(scored), "degraded": int(flagged), "rejected": rejected, "at": at.isoformat()}


def with_object_id(record: OutputRecord, object_id: str) -> OutputRecord:
    """Give an annotated ZTF alert another object id."""
    packets = fastavro.reader(BytesIO(record.value or b""))
    (packet,) = packets
    assert isinstance(packet, dict)
    schema = {name: value for name, value in packets.writer_schema.items() if not name.startswith("__")}
    out = BytesIO()
    fastavro.writer(out, schema, [{**packet, "objectId": object_id}])
    return replace(record, key=object_id.encode(), value=out.getvalue())
