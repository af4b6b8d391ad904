"""Replaying: archives through the pipeline of the live stream, to where it has not been before.

Only the ends differ from the service: an archive is the source, and the destination says how far each archive is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Final

from space2vec.schemas.errors import ConfigError
from space2vec.schemas.profiles import Profiles
from space2vec.schemas.reader import PacketReader
from space2vec.schemas.settings import Settings
from space2vec.schemas.writers import writer_schemas
from space2vec.stream.assembly import opener_of
from space2vec.stream.counts import Counts
from space2vec.stream.models import Model
from space2vec.stream.pacing import Pacing
from space2vec.stream.pipeline import Pipeline
from space2vec.stream.protocols import Scorer
from space2vec.stream.redrive import UntilFinished
from space2vec.stream.replay_archives import Archive
from space2vec.stream.replay_source import ArchiveSource
from space2vec.stream.replay_standing import Destination
from space2vec.stream.replay_topics import open_archive
from space2vec.workers.bundle import Bundle, load_bundle

_TOLD_S: Final = 0.5
"""Between two looks at how far a replay is."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What is asked for.

    Attributes
    ----------
    settings : Settings
        Of the pipeline.
    to : str
        ``kafka:TOPIC``, ``parquet:DIR`` or ``avro:DIR``.
    annotated : str
        Kafka topic of annotated alerts; empty: the packets do not go out again.
    pacing : Pacing
        How fast.
    again : bool
        Whether to replay archives that are done.
    nice : int
        By how much actors on Ray give way to other processes.
    """

    settings: Settings
    to: str
    annotated: str = ""
    pacing: Pacing = field(default_factory=Pacing)
    again: bool = False
    nice: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How one archive's replay stands, or ended.

    Attributes
    ----------
    archive : Archive
        Which.
    run : str
        The replay's name.
    counts : Counts
        Of all packets answered so far, those of earlier calls included.
    fresh : int
        Packets answered by this call.
    bytes_read : int
        Of the archive's ``size``.
    seconds : float
        How long this call has taken.
    done, skipped : bool
        Whether the archive is answered to its end; whether it was so before.
    faults : tuple of str
        What of the archive could not be read.
    behind_s : float
        Most that the pace was behind.
    """

    archive: Archive
    run: str
    counts: Counts = field(default_factory=Counts)
    fresh: int = 0
    bytes_read: int = 0
    seconds: float = 0.0
    done: bool = False
    skipped: bool = False
    faults: tuple[str, ...] = ()
    behind_s: float = 0.0


def destination_of(replay: Replay, bundle: Bundle) -> Destination:
    """The destination that ``replay.to`` names.

    Raises
    ------
    ConfigError
        If it names none.
    """
    kind, _, name = replay.to.partition(":")
    if not name:
        raise ConfigError(f"--to {replay.to}: expected kafka:TOPIC, parquet:DIR or avro:DIR")
    if kind == "kafka":
        from space2vec.stream.replay_kafka import KafkaDestination

        return KafkaDestination(replay.settings, name, replay.annotated, bundle.sha256)
    if replay.annotated:
        raise ConfigError("annotated alerts go to Kafka only")
    from space2vec.stream.replay_folder import FolderDestination, form_named

    return FolderDestination(replay.settings, Path(name), form_named(kind), bundle)


def replay_archive(
    replay: Replay,
    archive: Archive,
    open_scorer: Callable[[Bundle], Scorer],
    stop: Event,
    tell: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """Put one archive through, from where an earlier replay left it.

    Parameters
    ----------
    open_scorer : callable
        Gives what scores; asked only where there is something to score.
    stop : Event
        Set to finish what is in flight and return; the next call goes on there.
    tell : callable
        Told about twice a second how it stands, on a thread of its own.

    Raises
    ------
    ConfigError, KafkaError, ModelError
        If the destination cannot be written to, the model not be had, or a topic is not what it was.
    OSError
        If storage fails.
    """
    began = time.monotonic()
    bundle = load_bundle(replay.settings.model.bundle)
    destination = destination_of(replay, bundle)
    if replay.again:
        destination.begin_again(archive)
    before = destination.standing(archive)
    if before.done:
        return Progress(
            archive, before.run, before.counts, done=True, skipped=True, faults=tuple(before.faults)
        )
    if before.next and before.size != archive.size:
        raise ConfigError(
            f"{archive.name}: between these times there are now {archive.size} offsets; there were {before.size} when "
            "this replay began, so it cannot go on: begin another, somewhere else"
        )
    reader = PacketReader(
        writer_schemas(replay.settings.schemas), Profiles.load(replay.settings.schemas.profiles)
    )
    source = ArchiveSource(
        archive,
        before.run,
        lambda: destination.standing(archive).next,
        replay.pacing.pace(reader),
        lambda: open_archive(archive, replay.settings),
    )
    sink, ledger = destination.open(source)
    opener, answerer = opener_of(destination.settings)
    pipeline = Pipeline(
        source,
        opener,
        [Model(bundle, open_scorer(bundle))],
        answerer,
        sink,
        ledger,
        destination.settings.stream,
    )

    def now() -> Progress:
        counts = Counts()
        counts.add(before.counts)
        counts.add(pipeline.counts)
        took = time.monotonic() - began
        fresh, read = pipeline.counts.messages, source.bytes_read
        return Progress(archive, before.run, counts, fresh, read, took, behind_s=source.behind)

    with _Telling(lambda: tell(now())):
        pipeline.run(UntilFinished(pipeline, stop))
    after = destination.standing(archive)
    ended = now()
    return Progress(
        archive,
        before.run,
        after.counts,
        after.counts.messages - before.counts.messages,
        ended.bytes_read,
        ended.seconds,
        after.done or source.end == 0,
        faults=tuple(source.faults),
        behind_s=source.behind,
    )


class _Telling:
    """Calls something twice a second for the length of a block."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._over = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(_TOLD_S):
            self._call()
