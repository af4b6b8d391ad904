"""The Ray application: stream workers and classifiers, started, watched, restarted, drained."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import structlog

from space2vec.schemas.errors import ConfigError, KafkaError, ModelError, Space2vecError
from space2vec.schemas.settings import Settings
from space2vec.stream.counts import Counts
from space2vec.stream.deadline import Deadline
from space2vec.stream.kafka_sink import fence
from space2vec.stream.logs import log_level
from space2vec.stream.measures import Measures
from space2vec.stream.protocols import Partition
from space2vec.stream.scaling import Autoscaler
from space2vec.stream.seated_source import make_seats
from space2vec.stream.serving import Serving
from space2vec.stream.source_topics import source_partitions
from space2vec.stream.summary import Summary
from space2vec.stream.worker_seat import Seat
from space2vec.workers.ray_runtime import ray_runtime

log = structlog.get_logger()

_LOOK_S = 0.5  # between two looks at the workers
_SOURCE_S = 30.0  # between two looks at the source's partitions
_ANSWER_S = 1.0  # for all workers together to say how they are; who does not is heard at a later look
_START_S = 90.0  # a stream worker that has said nothing yet is given up after so long
# One that says nothing any more is replaced after so long. The group gives its partitions away sooner; but until its
# transaction is ended, readers of what is committed see nothing new.
_SILENCE_S = 20.0
# A loop that does not come round for so long is stuck in a call that should have come back, and its worker is replaced.
# The consumer itself has left the group by then (max.poll.interval.ms).
_STILL_S = 300.0
_GRACE_S = 5.0  # beyond the drain's own budget, for the answers to come back
_MOST_FAILURES = 10  # of one worker in a row without a single alert answered between
_HOPELESS = (ConfigError, ModelError)  # a restart does not cure these


def run_application(
    settings: Settings,
    stop: Event,
    on_status: Callable[[Summary], None] = lambda _: None,
    reload: Callable[[], Settings | None] = lambda: None,
) -> Summary:
    """Run the service until ``stop``, the end of the source, or the number of alerts asked for.

    Parameters
    ----------
    settings : Settings
        Everything.
    stop : Event
        Set by the caller to drain and return.
    on_status : callable
        Called about twice a second.
    reload : callable
        Asked as often; settings that it gives say which models shall serve from then on.

    Raises
    ------
    ConfigError, ModelError, KafkaError
        If it cannot start, or a worker fails again and again.
    """
    partitions = source_partitions(settings.source)
    if settings.ray.workers > len(partitions):
        log.warning(
            "more stream workers than partitions", workers=settings.ray.workers, partitions=len(partitions)
        )
    models = 1 + len(settings.model.also) + bool(settings.model.shadow)
    with ray_runtime(settings.ray, models):
        return _Application(settings, partitions, on_status, reload).run(stop)


class _Application:
    def __init__(
        self,
        settings: Settings,
        partitions: frozenset[Partition],
        on_status: Callable[[Summary], None],
        reload: Callable[[], Settings | None],
    ) -> None:
        self._settings = settings
        self._seated: frozenset[Partition] = frozenset()
        self._look_at_source_at = 0.0
        self._on_status = on_status
        self._began = time.monotonic()
        instance = settings.stream.instance or f"{socket.gethostname()}-{os.getpid()}"
        self._prefix = f"{settings.source.group}.{instance}"
        self._seats = [Seat(f"{self._prefix}.{i}") for i in range(settings.ray.workers)]
        self._left: list[Seat] = []
        self._note_partitions(partitions)
        self._reload = reload
        self._serving = Serving(settings)
        self._scaler = Autoscaler(settings) if settings.ray.scales else None
        self._fencing = ThreadPoolExecutor(32, thread_name_prefix="fence")

    def run(self, stop: Event) -> Summary:
        try:
            while not stop.is_set() and not self._complete():
                for seat in list(self._seats):
                    self._look_after(seat)
                self._ask_status()
                self._look_for_the_stuck()
                self._scale()
                self._look_at_models()
                self._look_at_ray()
                self._look_at_source()
                self._on_status(self._summary())
                stop.wait(_LOOK_S)
            return self._drain()
        finally:
            self._stop_actors()

    def _complete(self) -> bool:
        settings = self._settings.stream
        if settings.max_alerts is not None and self._total().messages >= settings.max_alerts:
            return True
        if not settings.until_eof:
            return False
        finished: frozenset[Partition] = frozenset().union(*(seat.finished for seat in self._seats))
        return finished >= self._partitions

    # ---- workers ---------------------------------------------------------------------------------

    def _look_after(self, seat: Seat) -> None:
        """Seat a worker where there is none, and note the end of one."""
        import ray

        if seat.running is None:
            if seat.leaving:
                self._seats.remove(seat)
                self._left.append(seat)
            elif time.monotonic() >= seat.free_at and (seat.fenced is None or seat.fenced.done()):
                self._hire(seat)
            return
        done, _ = ray.wait([seat.running], timeout=0)
        if done:
            try:
                status = ray.get(seat.running)
                if seat.leaving:
                    seat.note(status)
                    seat.end_worker()
                    return
                error: Exception = KafkaError("stopped by itself")
            except Exception as raised:  # noqa: BLE001 - whatever ended the worker, it is replaced
                error = raised
            self._on_failure(seat, error)

    def _look_at_source(self) -> None:
        """See whether the source has new partitions; a cluster that is away for a while is no failure."""
        if time.monotonic() < self._look_at_source_at:
            return
        try:
            self._note_partitions(source_partitions(self._settings.source, timeout=5.0))
        except KafkaError as error:
            log.warning("cannot look at the source", detail=str(error))
            self._look_at_source_at = time.monotonic() + _SOURCE_S

    def _note_partitions(self, partitions: frozenset[Partition]) -> None:
        if not self._settings.one_cluster and partitions != self._seated:
            make_seats(self._settings.sink, self._settings.source.group, partitions)
            self._seated = partitions
        self._partitions = partitions
        self._look_at_source_at = time.monotonic() + _SOURCE_S

    def _look_at_ray(self) -> None:
        """End with a failure when Ray cannot run anything any more: whoever started us starts us again."""
        import ray

        if not any(node["Alive"] for node in ray.nodes()):
            raise Space2vecError("no Ray node is alive any more")

    def _look_for_the_stuck(self) -> None:
        """Replace a worker that says nothing, or whose loop has stopped."""
        for seat in self._seats:
            if seat.worker is None:
                continue
            # From the question on: while this loop was itself held up (Ray's control store away, say), it asked nobody.
            silent_s = 0.0 if seat.asked is None else time.monotonic() - seat.asked_at
            if seat.in_use is None and silent_s > _START_S:
                seat.failures = 0  # it waits for room, of which a lost node has taken some: nobody's failure
                told = f"not started within {_START_S:.0f} s: it needs 1 CPU, {_free_cpus():g} are free"
                self._on_failure(seat, TimeoutError(told))
            elif seat.in_use is not None and silent_s > _SILENCE_S:
                self._on_failure(seat, TimeoutError(f"silent for {_SILENCE_S:.0f} s"))
            elif seat.still_s > _STILL_S:
                self._on_failure(seat, TimeoutError(f"its loop has not come round for {_STILL_S:.0f} s"))

    def _hire(self, seat: Seat) -> None:
        import ray

        from space2vec.stream.stream_worker import StreamWorker

        # Spread, so that a lost node takes few of them; but not onto nodes that are there for their GPUs.
        where = "DEFAULT" if self._settings.ray.gpus_per_classifier else "SPREAD"
        actor = ray.remote(StreamWorker).options(num_cpus=1, max_concurrency=3, scheduling_strategy=where)
        seat.worker = actor.remote(self._settings, seat.name, self._serving.lineup, log_level())
        seat.models, seat.in_use = self._serving.roles, None
        seat.running = seat.worker.run.remote()
        seat.still_s = 0.0

    def _on_failure(self, seat: Seat, error: Exception) -> None:
        cause = getattr(error, "cause", error)
        if isinstance(cause, _HOPELESS):
            raise cause
        seat.failures = 1 if seat.counts.messages else seat.failures + 1
        if seat.failures > _MOST_FAILURES:
            raise cause if isinstance(cause, Space2vecError) else KafkaError(f"{seat.name}: {cause}")
        log.warning(
            "stream worker failed; restarting", worker=seat.name, error=str(cause).strip().splitlines()[-1]
        )
        seat.end_worker()
        seat.fenced = self._fencing.submit(fence, self._settings, seat.name)
        seat.restarts += 1
        seat.free_at = time.monotonic() + min(30.0, 0.5 * 2**seat.failures)

    def _ask_status(self) -> None:
        """Hear all workers at once: those who do not answer keep nobody waiting, and are asked once, not again."""
        import ray
        from ray.exceptions import RayError

        for seat in self._seats:
            if seat.worker is not None and seat.asked is None:
                seat.asked, seat.asked_at = seat.worker.status.remote(), time.monotonic()
        calls = {seat.asked: seat for seat in self._seats if seat.asked is not None}
        answered = ray.wait(list(calls), num_returns=len(calls), timeout=_ANSWER_S)[0] if calls else []
        for call in answered:
            seat = calls[call]
            seat.asked = None
            try:
                status = ray.get(call)
            except RayError:  # dead: the next look tells
                continue
            seat.note(status)
        self._serving.status.look()

    # ---- more and fewer --------------------------------------------------------------------------

    def _scale(self) -> None:
        """Follow the lag within the bounds; while anyone comes or goes, nothing else is changed."""
        settled = all(seat.load is not None and not seat.leaving for seat in self._seats)
        if self._scaler is None or self._serving.changing or not settled:
            return
        there = len(self._seats), self._serving.count
        workers, classifiers = self._scaler.look(self._summary(), *there)
        if (workers, classifiers) != there:
            log.info("scaling", workers=workers, classifiers=classifiers, before=there)
        self._seats += [self._seat_again(f"{self._prefix}.{i}") for i in range(there[0], workers)]
        for seat in self._seats[workers:]:
            seat.leaving = True
            seat.worker.stop.remote()
        if classifiers != there[1]:
            self._serving.start(classifiers)

    def _seat_again(self, name: str) -> Seat:
        """The seat of that name which was left, so that what was done on it stays counted; else a new one."""
        for seat in self._left:
            if seat.name == name:
                self._left.remove(seat)
                seat.leaving, seat.failures = False, 0
                return seat
        return Seat(name, added=True)

    def _look_at_models(self) -> None:
        """Begin a change of models that is asked for, and carry on the one under way."""
        if not self._serving.starting:
            asked = self._reload()
            if asked is not None:
                self._serving.start(self._serving.count, asked)
        self._serving.look([seat for seat in self._seats if seat.worker is not None])

    # ---- the end ---------------------------------------------------------------------------------

    def _drain(self) -> Summary:
        """Let every worker finish what it has in flight, within one budget for all."""
        import ray

        deadline = Deadline(self._settings.stream.drain_s + _GRACE_S)
        # One that has not told anything yet, for want of room say, has nothing in flight, and would not come back.
        seats = [seat for seat in self._seats if seat.worker is not None and seat.in_use is not None]
        for seat in seats:
            seat.worker.stop.remote()
        for seat in seats:
            try:
                status = ray.get(seat.running, timeout=deadline.left)
            except Exception as error:  # noqa: BLE001 - dead or late: what it left is not committed
                log.warning("stream worker did not drain", worker=seat.name, error=type(error).__name__)
                self._fencing.submit(fence, self._settings, seat.name)
                continue
            seat.note(status)
        return self._summary()

    def _stop_actors(self) -> None:
        import ray

        for seat in self._seats:
            if seat.worker is not None:
                ray.kill(seat.worker)
        self._serving.end()
        self._fencing.shutdown()
        if self._scaler is not None:
            self._scaler.stop()

    def _total(self) -> Counts:
        total = Counts()
        for seat in [*self._seats, *self._left]:
            total.add(seat.former)
            total.add(seat.counts)
        return total

    def _summary(self) -> Summary:
        measures = Measures()
        for seat in [*self._seats, *self._left]:
            measures.add(seat.former_measures)
            measures.add(seat.measures)
        return Summary(
            self._total(),
            sum(seat.unanswered for seat in self._seats),
            sum(seat.restarts for seat in [*self._seats, *self._left]),
            time.monotonic() - self._began,
            measures,
            # One that was added counts from when it works: the service is ready without it.
            tuple(seat.load for seat in self._seats if not seat.added or seat.load is not None),
            tuple(self._serving.status.latest),
            self._serving.status.restarts,
            tuple((served.bundle, served.shadow) for served in self._serving.lineup),
        )


def _free_cpus() -> float:
    """CPUs that no actor in the cluster has taken."""
    import ray

    return float(ray.available_resources().get("CPU", 0.0))
