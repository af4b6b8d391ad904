"""A stream worker that is stuck is replaced: one that says nothing, and one whose loop stands still."""

from __future__ import annotations

import time
from threading import Event, Thread
from types import SimpleNamespace

from space2vec.schemas.settings import StreamSettings
from space2vec.stream.app import _SILENCE_S, _STILL_S, _Application
from space2vec.stream.ledger import Ledger
from space2vec.stream.memory import MemorySink, MemorySource
from space2vec.stream.pipeline import Pipeline
from space2vec.stream.worker_seat import Seat


def test_those_who_are_silent_or_stand_still_are_replaced_and_no_other() -> None:
    now = time.monotonic()
    well = Seat("well", worker=object(), heard=now, still_s=_STILL_S - 60)
    silent = Seat("silent", worker=object(), heard=now - _SILENCE_S - 1)
    stands = Seat("stands", worker=object(), heard=now, still_s=_STILL_S + 1)
    empty = Seat("empty")
    replaced: dict[str, str] = {}
    application = SimpleNamespace(
        _seats=[well, silent, stands, empty],
        _on_failure=lambda seat, error: replaced.update({seat.name: str(error)}),
    )
    _Application._look_for_the_stuck(application)  # type: ignore[arg-type]
    assert set(replaced) == {"silent", "stands"}
    assert "loop has not come round" in replaced["stands"]


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
