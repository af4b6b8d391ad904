"""A stream worker that is stuck is replaced: one that says nothing, and one whose loop stands still."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from threading import Event, Thread
from types import SimpleNamespace

import pytest
import structlog

from space2vec.schemas.settings import Settings, StreamSettings
from space2vec.stream.app import _MOST_FAILURES, _SILENCE_S, _START_S, _STILL_S, _Application
from space2vec.stream.ledger import Ledger
from space2vec.stream.memory import MemorySink, MemorySource
from space2vec.stream.pipeline import Pipeline
from space2vec.stream.stream_worker import StreamWorker, WorkerStatus
from space2vec.stream.worker_seat import Seat


def test_those_who_are_silent_or_stand_still_are_replaced_and_no_other() -> None:
    now = time.monotonic()
    told = frozenset[str]()
    long_ago, question = now - _SILENCE_S - 1, object()
    well = Seat("well", worker=object(), asked_at=long_ago, still_s=_STILL_S - 60, in_use=told)
    silent = Seat("silent", worker=object(), asked=question, asked_at=long_ago, in_use=told)
    starts = Seat("starts", worker=object(), asked=question, asked_at=long_ago)
    stands = Seat("stands", worker=object(), asked=question, asked_at=now, still_s=_STILL_S + 1, in_use=told)
    empty = Seat("empty")
    replaced: dict[str, str] = {}
    application = SimpleNamespace(
        _seats=[well, silent, starts, stands, empty],
        _on_failure=lambda seat, error: replaced.update({seat.name: str(error)}),
    )
    _Application._look_for_the_stuck(application)  # type: ignore[arg-type]
    assert set(replaced) == {"silent", "stands"}
    assert "silent" in replaced["silent"]
    assert "loop has not come round" in replaced["stands"]


def test_one_for_whom_there_is_no_room_is_waited_for_without_end(seats) -> None:
    """Those who are well go on meanwhile: to end the application for it would take them down too."""
    fencing = SimpleNamespace(submit=lambda *_: None)
    application = SimpleNamespace(_seats=seats, _settings=None, _fencing=fencing)
    application._on_failure = lambda seat, error: _Application._on_failure(application, seat, error)
    waits, *others = seats
    for _ in range(2 * _MOST_FAILURES):
        waits.asked, waits.asked_at = object(), time.monotonic() - _START_S - 1
        pending = waits.worker
        _Application._look_for_the_stuck(application)  # type: ignore[arg-type]
        assert waits.worker is None
        waits.worker = pending  # hired again, which is not what is tried here
    assert waits.restarts == 2 * _MOST_FAILURES
    assert waits.free_at < time.monotonic() + 2
    assert not any(seat.restarts for seat in others)


class Worker:
    """Stands for a stream worker that does nothing."""

    def status(self) -> WorkerStatus:
        return WorkerStatus(os.getpid())

    def run(self) -> WorkerStatus:
        return self.status()

    def stop(self) -> None:
        pass


@pytest.fixture
def seats(ray_cluster) -> Iterator[list[Seat]]:
    """Six whose worker finds no room, as after the loss of a node, and one who is well."""
    pending = [ray_cluster.remote(Worker).options(num_cpus=1000).remote() for _ in range(6)]
    well = ray_cluster.remote(Worker).options(num_cpus=0.1).remote()
    ray_cluster.get(well.status.remote())
    seats = [Seat(f"w{i}", worker=w, running=w.run.remote()) for i, w in enumerate([*pending, well])]
    yield seats
    for seat in seats:
        ray_cluster.kill(seat.worker)


def test_those_who_do_not_answer_keep_nobody_waiting(seats) -> None:
    """Else many of them would hold up the loop until those who are well count as silent."""
    serving = SimpleNamespace(status=SimpleNamespace(look=lambda: None))
    application = SimpleNamespace(_seats=seats, _serving=serving)
    began = time.monotonic()
    _Application._ask_status(application)  # type: ignore[arg-type]
    assert time.monotonic() - began < 5
    assert [seat.in_use for seat in seats] == [None] * 6 + [frozenset()]
    asked = [seat.asked for seat in seats]
    _Application._ask_status(application)  # type: ignore[arg-type]
    assert [seat.asked for seat in seats] == asked, "a call that is under way is not made again"
    assert asked[-1] is None


def test_nobody_is_silent_while_the_application_is_held_up_itself(seats, monkeypatch) -> None:
    """As for a minute where Ray's control store is away; the workers go on without it."""
    monkeypatch.setattr("space2vec.stream.app._SILENCE_S", 1.5)
    replaced: list[Exception] = []
    nothing = ("_look_after", "_scale", "_look_at_models", "_look_at_source", "_on_status", "_stop_actors")
    application = SimpleNamespace(
        **dict.fromkeys(nothing, lambda *_: None),
        _seats=seats[-1:],
        _complete=iter([False, False, True]).__next__,
        _serving=SimpleNamespace(status=SimpleNamespace(look=lambda: None)),
        _look_at_ray=lambda: time.sleep(2.0),
        _on_failure=lambda seat, error: replaced.append(error),
        _summary=lambda: None,
        _drain=lambda: None,
    )
    application._ask_status = lambda: _Application._ask_status(application)
    application._look_for_the_stuck = lambda: _Application._look_for_the_stuck(application)
    _Application.run(application, Event())  # type: ignore[arg-type]
    assert not replaced


def test_a_drain_has_one_budget_for_all(seats, monkeypatch) -> None:
    monkeypatch.setattr("space2vec.stream.app._GRACE_S", 0.5)
    settings = SimpleNamespace(stream=SimpleNamespace(drain_s=0.5))
    fenced: list[str] = []
    fencing = SimpleNamespace(submit=lambda _, settings, name: fenced.append(name))
    application = SimpleNamespace(
        _seats=seats, _settings=settings, _summary=lambda: "ended", _fencing=fencing
    )
    for seat in seats:
        seat.in_use = frozenset({"a bundle"})
    began = time.monotonic()
    assert _Application._drain(application) == "ended"  # type: ignore[arg-type]
    assert time.monotonic() - began < 5
    assert fenced == [seat.name for seat in seats[:-1]]
    assert seats[-1].in_use == frozenset(), "the one who is well has been noted, though the last"


def test_a_drain_does_not_wait_for_those_who_have_not_begun(seats) -> None:
    """A service with a place for which there is no room would take all its budget to stop."""
    settings = SimpleNamespace(stream=SimpleNamespace(drain_s=20.0))
    application = SimpleNamespace(_seats=seats, _settings=settings, _summary=lambda: "ended")
    seats[-1].in_use, seats[-1].unanswered = frozenset(), 3
    began = time.monotonic()
    assert _Application._drain(application) == "ended"  # type: ignore[arg-type]
    assert time.monotonic() - began < 5
    assert seats[-1].unanswered == 0


def test_a_loop_in_a_call_that_does_not_come_back_is_seen_from_another_thread() -> None:
    called, go_on, stop = Event(), Event(), Event()

    class Stuck(MemorySource):
        def poll(self, limit: int, timeout: float) -> list:
            called.set()
            go_on.wait(30)
            return super().poll(limit, timeout)

    source = Stuck({})
    pipeline = Pipeline(source, None, (), None, MemorySink(source), Ledger("ledger", "w"), StreamSettings())  # type: ignore[arg-type]
    loop = Thread(target=pipeline.run, args=(stop,))
    loop.start()
    assert called.wait(30)
    before = pipeline.still_s
    time.sleep(0.05)
    assert pipeline.still_s >= before + 0.05
    stood = pipeline.still_s
    go_on.set()
    deadline = time.monotonic() + 30
    while pipeline.still_s >= stood and time.monotonic() < deadline:
        time.sleep(0.005)
    assert pipeline.still_s < stood
    stop.set()
    loop.join(30)


def test_a_worker_that_nobody_asks_how_it_is_leaves_the_group(monkeypatch) -> None:
    """Cut off from the application but not from Kafka it would keep its partitions, and another have its place."""
    monkeypatch.setattr("space2vec.stream.stream_worker._UNASKED_S", 1.0)
    monkeypatch.setattr("space2vec.stream.stream_worker.configure_logs", lambda level: None)
    source = MemorySource({})
    pipeline = Pipeline(source, None, (), None, MemorySink(source), Ledger("ledger", "w"), StreamSettings())  # type: ignore[arg-type]
    monkeypatch.setattr("space2vec.stream.stream_worker.kafka_pipeline", lambda *_: pipeline)
    worker = StreamWorker(Settings.model_validate({"source": {"brokers": "none", "topics": ["t"]}}), "w", ())
    loop = Thread(target=worker.run)
    loop.start()
    for _ in range(30):
        time.sleep(0.1)
        worker.status()
    assert loop.is_alive()
    loop.join(30)
    assert not loop.is_alive()


def test_a_worker_that_takes_long_to_stop_is_not_cut_off(monkeypatch) -> None:
    monkeypatch.setattr("space2vec.stream.stream_worker._UNASKED_S", 0.1)
    monkeypatch.setattr("space2vec.stream.stream_worker.configure_logs", lambda level: None)
    drains = SimpleNamespace(run=lambda stop: time.sleep(0.3))
    monkeypatch.setattr("space2vec.stream.stream_worker.kafka_pipeline", lambda *_: drains)
    worker = StreamWorker(Settings.model_validate({"source": {"brokers": "none", "topics": ["t"]}}), "w", ())
    monkeypatch.setattr(worker, "status", lambda: None)
    with structlog.testing.capture_logs() as logged:
        worker.run()
        assert len(logged) == 1, "one that was not told to"
        worker.stop()
        worker.run()
    assert len(logged) == 1
