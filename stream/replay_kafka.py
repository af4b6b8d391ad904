"""Replaying into Kafka: the ledger says how far each archive is, in lines written with the answers they count.

Where there are transactions, answers and line are one: who comes next begins behind exactly what is there. Where
there are none, the line follows the answers' acknowledgement: nothing is missed, and a crash between the two is
answered twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from space2vec.schemas.errors import KafkaError
from space2vec.schemas.settings import ClusterSettings, Settings
from space2vec.stream.assembly import sink_of
from space2vec.stream.kafka_config import admin_properties, cluster_properties, sink_cluster
from space2vec.stream.kafka_sink import AtLeastOnceSink
from space2vec.stream.ledger import Entry, Ledger
from space2vec.stream.protocols import Message, OutputRecord, Partition, Sink
from space2vec.stream.publish import Publisher
from space2vec.stream.replay_archives import Archive
from space2vec.stream.replay_source import ArchiveSource
from space2vec.stream.replay_standing import Standing, counted
from space2vec.stream.topic_reader import TopicReader

_BEYOND: Final = 1 << 62
LEDGER: Final = "space2vec-replays"
"""Ledger of all replays into a cluster; kept for good, since it says what is done."""


def apart(settings: Settings) -> Settings:
    """Settings under a client id of the replays' own, so that a broker's quotas can hold them back."""

    def named(cluster: ClusterSettings) -> dict[str, str]:
        return {"client.id": "space2vec-replay"} | cluster.options

    source, sink = settings.source, settings.sink
    return settings.model_copy(
        update={
            "source": source.model_copy(update={"options": named(source)}),
            "sink": sink.model_copy(update={"options": named(sink)}),
        }
    )


class KafkaDestination:
    """Topics of a cluster, apart from those of the live stream.

    Parameters
    ----------
    settings : Settings
        Of the pipeline; source and sink say which cluster.
    topic : str
        Of the classification records; ``{survey}`` in it stands for the survey's name.
    annotated : str
        Of annotated alerts; empty: the packets do not go out again.
    model : str
        SHA-256 of the bundle's manifest: a replay by another model is another replay.
    """

    def __init__(self, settings: Settings, topic: str, annotated: str, model: str) -> None:
        sink = settings.sink.model_copy(
            update={
                "classifications": topic,
                "annotated": annotated,
                "rejected": f"{topic}-rejected",
                "ledger": LEDGER,
            }
        )
        self.settings = settings.model_copy(update={"sink": sink})
        self._topic = topic
        self._identity = f"{model} {topic} {annotated}"

    def standing(self, archive: Archive) -> Standing:
        """How far the ledger says the archive is.

        Raises
        ------
        KafkaError
            If the cluster cannot be reached.
        """
        base = self._base(archive)
        runs: dict[int, Standing] = {}
        with self._reader() as reader:
            for line in ledger_lines(reader):
                name, _, number = line["run"].rpartition("-")
                if name == base:
                    _advance(runs.setdefault(int(number), Standing(line["run"])), line)
        return runs[max(runs)] if runs else Standing(f"{base}-0")

    def begin_again(self, archive: Archive) -> None:
        """Begin another run, in the ledger too."""
        before = self.standing(archive)
        if before.done:
            base, _, number = before.run.rpartition("-")
            name = f"{base}-{int(number) + 1}"
            begun = {"run": name, "to": self._topic, "topic": archive.shard, "size": archive.size}
            nothing = {"partition": 0, "first": 0, "next": 0, "messages": 0, "silent": [], "done": False}
            self._put(json.dumps(begun | nothing).encode())

    def open(self, source: ArchiveSource) -> tuple[Sink, Ledger]:
        """A transactional producer of the archive's own: it fences whoever was writing this archive's answers.

        Raises
        ------
        KafkaError
            If the cluster cannot be reached or does not give the delivery asked for.
        """
        self._ensure_ledger()
        name = f"space2vec.replay.{self._base(source.archive)}"
        sink = sink_of(self.settings, source, name)
        if isinstance(sink, AtLeastOnceSink):
            return AnswersFirst(sink, LEDGER), ReplayLedger(source, self._topic, name)
        return sink, ReplayLedger(source, self._topic, name)

    def _base(self, archive: Archive) -> str:
        return hashlib.sha256(f"{archive.digest} {self._identity}".encode()).hexdigest()[:16]

    @contextmanager
    def _reader(self) -> Iterator[TopicReader]:
        cluster = sink_cluster(self.settings.sink, self.settings.source)
        reader = TopicReader(cluster, self.settings.source.group)
        try:
            yield reader
        finally:
            reader.close()

    def _put(self, line: bytes) -> None:
        self._ensure_ledger()
        publisher = Publisher(cluster_properties(sink_cluster(self.settings.sink, self.settings.source)))
        publisher.send(LEDGER, "again", line, {})
        publisher.close()

    def _ensure_ledger(self) -> None:
        settings = self.settings.sink
        admin = AdminClient(admin_properties(sink_cluster(settings, self.settings.source)))
        topic = NewTopic(
            LEDGER,
            num_partitions=1,
            replication_factor=settings.replication,
            config={"retention.ms": "-1", "max.message.bytes": str(settings.max_message_bytes)},
        )
        try:
            admin.create_topics([topic], operation_timeout=30)[LEDGER].result(timeout=60)
        except KafkaException as error:
            if error.args[0].code() != Code.TOPIC_ALREADY_EXISTS:
                raise KafkaError(f"ledger {LEDGER} cannot be made: {error.args[0].str()}") from error


class ReplayLedger(Ledger):
    """A ledger whose lines also say which replay they are of, and whether the archive is done.

    Parameters
    ----------
    source : ArchiveSource
        What is read.
    topic : str
        Of the classification records.
    worker : str
        Who writes.
    """

    def __init__(self, source: ArchiveSource, topic: str, worker: str) -> None:
        super().__init__(LEDGER, worker)
        self._source, self._to = source, topic

    def _line(self, partition: Partition, night: str, entry: Entry) -> dict[str, object]:
        done = entry.next == self._source.end
        return super()._line(partition, night, entry) | {
            "run": self._source.run,
            "to": self._to,
            "archive": self._source.archive.name,
            "digest": self._source.archive.digest,
            "size": self._source.archive.size,
            "done": done,
            "faults": self._source.faults if done else [],
        }


class AnswersFirst:
    """A sink without transactions that sends ledger lines once the answers they count are acknowledged."""

    def __init__(self, sink: AtLeastOnceSink, ledger: str) -> None:
        self._sink, self._ledger = sink, ledger
        self._lines: list[OutputRecord] = []

    def write(self, records: Sequence[OutputRecord]) -> None:
        """Send answers, keep lines."""
        self._lines += [record for record in records if record.topic == self._ledger]
        self._sink.write([record for record in records if record.topic != self._ledger])

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Wait for the answers, then send the lines and wait for them."""
        self._sink.commit(offsets)
        self._sink.write(self._lines)
        self._sink.commit(offsets)
        self._lines = []

    def abort(self) -> None:
        """Forget the lines; answers that are sent stay sent."""
        self._lines = []
        self._sink.abort()

    def close(self) -> None:
        """Release the connections."""
        self._sink.close()


def ledger_lines(reader: TopicReader) -> Iterator[dict[str, Any]]:
    """Every line of the replays' ledger; none where there has been no replay.

    Raises
    ------
    KafkaError
        If the cluster cannot be reached.
    """
    for message in all_messages(reader, LEDGER):
        yield json.loads(message.value)


def all_messages(reader: TopicReader, topic: str) -> Iterator[Message]:
    """Every message of a topic up to where a read_committed reader finds its end.

    The end is met, not asked for: the embedded broker tells of one that is too low.
    """
    return reader.messages({p: (begin, _BEYOND) for p, (begin, _) in reader.spans(topic).items()})


def _advance(standing: Standing, line: Mapping[str, Any]) -> None:
    standing.next = max(standing.next, line["next"])
    standing.size = line["size"]
    standing.done = standing.done or line["done"]
    standing.counts.add(counted(line))
    standing.faults += line.get("faults", [])
