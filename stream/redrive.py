"""Putting dead letters through again, each once, whatever was picked before.

A redrive reads a dead-letter topic from its beginning to its end. The ledger lists the dead letters
that earlier redrives have answered, written in the same transaction as their answers, so a redrive
that was stopped, or that picked other reasons, is simply run again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from threading import Event

from confluent_kafka import TopicPartition

from space2vec.schemas.errors import KafkaError
from space2vec.schemas.settings import ModelSettings, Settings
from space2vec.stream.assembly import opener_of, sink_of
from space2vec.stream.counts import Counts
from space2vec.stream.dead_letters import reason_of, revived
from space2vec.stream.kafka_config import sink_cluster
from space2vec.stream.ledger import Ledger
from space2vec.stream.lineup import named_bundles
from space2vec.stream.local_scorer import LocalScorer
from space2vec.stream.models import Model
from space2vec.stream.pipeline import Pipeline
from space2vec.stream.protocols import Message, Partition, PartitionListener
from space2vec.stream.topic_reader import TopicReader
from space2vec.workers.backends import open_backend
from space2vec.workers.bundle import load_bundle


class DeadLetterSource:
    """The dead letters of one topic that are wanted and not yet answered.

    Parameters
    ----------
    reader : TopicReader
        Of the sink's cluster.
    topic : str
        Dead-letter topic.
    answered : callable
        Gives the offsets that earlier redrives have answered. Asked once nobody else answers any more: when the
        sink, which fences an earlier redrive, is there.
    wanted : callable
        Which of the others to put through.
    """

    def __init__(
        self,
        reader: TopicReader,
        topic: str,
        answered: Callable[[], Mapping[Partition, AbstractSet[int]]],
        wanted: Callable[[Message], bool],
    ) -> None:
        self._answered = answered
        self._done: Mapping[Partition, AbstractSet[int]] = {}
        self._wanted = wanted
        self._reader = reader
        self._spans = reader.spans(topic)
        if not self._spans:
            raise KafkaError(f"no topic {topic}")
        self._letters = reader.messages(self._spans)
        self._exhausted = False

    def subscribe(self, listener: PartitionListener) -> None:
        """Every partition is ours: a second redrive of the same group fences this one's producer."""
        self._done = self._answered()
        listener.assigned(list(self._spans))

    def poll(self, limit: int, timeout: float) -> list[Message]:
        """The next wanted letters, as the messages that they were."""
        taken: list[Message] = []
        while len(taken) < limit:
            letter = next(self._letters, None)
            if letter is None:
                self._exhausted = True
                break
            if letter.offset not in self._done.get(letter.partition, ()) and self._wanted(letter):
                taken.append(revived(letter))
        return taken

    def rewind(self, offsets: Mapping[Partition, int]) -> None:
        """Read again from these offsets."""
        self._letters = self._reader.messages(
            {p: (offsets.get(p, begin), end) for p, (begin, end) in self._spans.items()}
        )
        self._exhausted = False

    def hold(self, partitions: frozenset[Partition]) -> None:
        """Letters whose schema cannot be had wait in the pipeline; there are few."""

    def at_end(self) -> frozenset[Partition]:
        """All partitions, once every letter has been handed out."""
        return frozenset(self._spans) if self._exhausted else frozenset()

    def close(self) -> None:
        """Nothing to leave."""

    # ---- as a sink sees it: the ledger alone says what is done, no group has offsets here ----

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Nothing to commit."""

    def positions(self, offsets: Mapping[Partition, int]) -> list[TopicPartition]:
        """No offsets go into the transaction."""
        return []

    def group_metadata(self) -> object:
        """Never asked for, since there are no positions."""
        raise NotImplementedError


def redrive(
    settings: Settings, topic: str, reasons: AbstractSet[str], since_ms: int, until_ms: int, stop: Event
) -> Counts:
    """Put the dead letters of a topic through again.

    Parameters
    ----------
    settings : Settings
        Those of the run, as mended.
    topic : str
        Dead-letter topic.
    reasons : set of str
        Reason codes to pick; empty: all.
    since_ms, until_ms : int
        Times of rejection to pick, milliseconds since 1970.
    stop : Event
        Set to stop early; what is done stays done.

    Returns
    -------
    Counts
        Of the letters put through; those rejected again are dead letters anew.

    Raises
    ------
    KafkaError
        If the topic does not exist or the cluster cannot be reached.
    """

    def wanted(letter: Message) -> bool:
        at = letter.timestamp_ms or 0
        return (not reasons or reason_of(letter) in reasons) and since_ms <= at < until_ms

    reader = TopicReader(sink_cluster(settings.sink, settings.source), settings.source.group)
    try:
        source = DeadLetterSource(
            reader, topic, lambda: answered_letters(reader, settings.sink.ledger, topic), wanted
        )
        opener, answerer = opener_of(settings)
        name = f"{settings.source.group}.redrive"
        pipeline = Pipeline(
            source,
            opener,
            _models(settings.model),
            answerer,
            sink_of(settings, source, name),
            Ledger(settings.sink.ledger, name, listing=True),
            settings.stream,
        )
        pipeline.run(UntilFinished(pipeline, stop))
    finally:
        reader.close()
    return pipeline.counts


def _models(settings: ModelSettings) -> list[Model]:
    bundles = [(load_bundle(name), shadow) for name, shadow in named_bundles(settings)]
    return [
        Model(bundle, LocalScorer(open_backend(bundle, settings.device, settings.threads)), shadow)
        for bundle, shadow in bundles
    ]


def answered_letters(reader: TopicReader, ledger: str, topic: str) -> dict[Partition, set[int]]:
    """Offsets of a dead-letter topic that the ledger lists as put through."""
    done: dict[Partition, set[int]] = {}
    for message in reader.messages(reader.spans(ledger)):
        line = json.loads(message.value)
        if line["topic"] == topic:
            done.setdefault(Partition(topic, line["partition"]), set()).update(line.get("offsets", ()))
    return done


class UntilFinished(Event):
    """Set by ``stop``, or by the source's end with everything answered and committed."""

    def __init__(self, pipeline: Pipeline, stop: Event) -> None:
        super().__init__()
        self._pipeline, self._stop = pipeline, stop

    def is_set(self) -> bool:
        """Whether to stop."""
        return self._stop.is_set() or bool(self._pipeline.finished)
