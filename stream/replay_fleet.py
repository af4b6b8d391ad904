"""Many archives: one after the other in this process, or side by side on a Ray cluster.

On a cluster each worker has one archive at a time and asks for the next when it is through, so no more is read
than can be scored. A worker that dies leaves its archive where it was; another goes on from there.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any, Final

import structlog

from space2vec.schemas.errors import Space2vecError
from space2vec.stream.local_scorer import LocalScorer
from space2vec.stream.logs import configure_logs, log_level
from space2vec.stream.protocols import Scorer
from space2vec.stream.replay import Progress, Replay, replay_archive
from space2vec.stream.replay_archives import Archive
from space2vec.workers.backends import open_backend
from space2vec.workers.bundle import Bundle, load_bundle
from space2vec.workers.niceness import give_way
from space2vec.workers.ray_runtime import ray_runtime

log = structlog.get_logger()

_LOOK_S: Final = 0.5
_MOST_DEATHS: Final = 3  # of workers, while they had the same archive

Tell = Callable[[Progress], None]


def replay_here(replay: Replay, archives: Sequence[Archive], stop: Event, tell: Tell) -> list[Progress]:
    """Replay archives in this process, one after the other.

    An archive whose storage fails is left where it is, and the next one follows.

    Raises
    ------
    ConfigError, KafkaError, ModelError
        If the destination cannot be written to, or the model not be had.
    """
    ended: list[Progress] = []
    opened: list[LocalScorer] = []

    def open_scorer(bundle: Bundle) -> LocalScorer:
        if not opened:
            model = replay.settings.model
            opened.append(LocalScorer(open_backend(bundle, model.device, model.threads)))
        return opened[0]

    for archive in archives:
        if stop.is_set():
            break
        try:
            ended.append(replay_archive(replay, archive, open_scorer, stop, tell))
        except OSError as error:
            ended.append(_failed(archive, error))
        tell(ended[-1])
    return ended


def replay_on_ray(replay: Replay, archives: Sequence[Archive], stop: Event, tell: Tell) -> list[Progress]:
    """Replay archives on a Ray cluster: ``ray.workers`` of them at a time, over ``ray.classifiers``.

    Raises
    ------
    ConfigError, KafkaError, ModelError
        If the destination cannot be written to, or the model not be had.
    """
    with ray_runtime(replay.settings.ray):
        from space2vec.workers.classifier import start_classifiers

        settings = replay.settings
        bundle = load_bundle(settings.model.bundle)
        classifiers = start_classifiers(bundle, settings.ray.classifiers, settings, replay.nice)
        return _Fleet(replay, archives, classifiers, tell).run(stop)


class ReplayWorker:
    """A Ray actor that replays one archive at a time.

    Parameters
    ----------
    replay : Replay
        What is asked for.
    classifiers : sequence of actor handles
        Of :class:`space2vec.workers.classifier.Classifier`.
    level : int
        Of the lines that it logs, as in :mod:`logging`.
    """

    def __init__(self, replay: Replay, classifiers: Sequence[Any], level: int = logging.INFO) -> None:
        configure_logs(level)
        give_way(replay.nice)
        self._replay, self._classifiers = replay, classifiers
        self._stop = Event()
        self._progress: Progress | None = None

    def run(self, archive: Archive) -> Progress:
        """Replay an archive until its end or :meth:`stop`."""
        from space2vec.stream.ray_scorer import RayScorer

        def scorer(_: Bundle) -> Scorer:
            return RayScorer(self._classifiers)

        def note(progress: Progress) -> None:
            self._progress = progress

        try:
            return replay_archive(self._replay, archive, scorer, self._stop, note)
        except OSError as error:
            return _failed(archive, error)

    def stop(self) -> None:
        """Finish what is in flight."""
        self._stop.set()

    def progress(self) -> Progress | None:
        """How the archive stands."""
        return self._progress


@dataclass(slots=True)
class _Voyage:
    """An archive under way with a worker."""

    archive: Archive
    worker: Any
    asked: Any = None


class _Fleet:
    def __init__(self, replay: Replay, archives: Sequence[Archive], classifiers: Any, tell: Tell) -> None:
        self._replay, self._classifiers, self._tell = replay, classifiers, tell
        self._waiting = deque(archives)
        self._idle: list[Any] = []
        self._under_way: dict[Any, _Voyage] = {}
        self._deaths: dict[str, int] = {}
        self._ended: list[Progress] = []

    def run(self, stop: Event) -> list[Progress]:
        import ray

        try:
            told = False
            while self._under_way or (self._waiting and not stop.is_set()):
                if stop.is_set() and not told:
                    told = True
                    for voyage in self._under_way.values():
                        voyage.worker.stop.remote()
                while not stop.is_set() and self._waiting and self._has_room():
                    self._send(self._waiting.popleft())
                done, _ = ray.wait(list(self._under_way), timeout=_LOOK_S)
                for call in done:
                    self._on_return(call)
                self._look()
            return self._ended
        finally:
            for actor in [*self._idle, *(v.worker for v in self._under_way.values()), *self._classifiers]:
                ray.kill(actor)

    def _has_room(self) -> bool:
        return len(self._under_way) < self._replay.settings.ray.workers

    def _send(self, archive: Archive) -> None:
        import ray

        if self._idle:
            worker = self._idle.pop()
        else:
            actor = ray.remote(ReplayWorker).options(num_cpus=1, max_concurrency=3)
            worker = actor.remote(self._replay, self._classifiers, log_level())
        self._under_way[worker.run.remote(archive)] = _Voyage(archive, worker)

    def _on_return(self, call: Any) -> None:
        import ray
        from ray.exceptions import RayActorError

        voyage = self._under_way.pop(call)
        try:
            progress = ray.get(call)
        except RayActorError as error:
            shard = voyage.archive.shard
            self._deaths[shard] = self._deaths.get(shard, 0) + 1
            if self._deaths[shard] > _MOST_DEATHS:
                raise Space2vecError(f"{voyage.archive.name}: worker after worker died with it") from error
            log.warning("replay worker died; another goes on", archive=voyage.archive.name)
            self._waiting.append(voyage.archive)
            return
        except Exception as error:  # noqa: BLE001 - of whatever kind, it ended the archive's call
            cause = getattr(error, "cause", error)
            raise cause if isinstance(cause, Space2vecError) else error from None
        self._idle.append(voyage.worker)
        self._ended.append(progress)
        self._tell(progress)

    def _look(self) -> None:
        """Ask every worker how it stands; who is busy answers the next time."""
        import ray
        from ray.exceptions import RayError

        for voyage in self._under_way.values():
            if voyage.asked is None:
                voyage.asked = voyage.worker.progress.remote()
            done, _ = ray.wait([voyage.asked], timeout=0)
            if not done:
                continue
            try:
                progress = ray.get(voyage.asked)
            except RayError:  # it died: its call says so
                continue
            voyage.asked = None
            if progress is not None and progress.archive == voyage.archive:
                self._tell(progress)


def _failed(archive: Archive, error: OSError) -> Progress:
    log.error("storage failed; run again to go on", archive=archive.name, detail=str(error))
    return Progress(archive, "", faults=(f"storage failed: {error}",))
