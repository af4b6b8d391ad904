"""What signals do to a verb: drain it, end it, have it read its settings again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event
from typing import TYPE_CHECKING, Any

from space2vec.schemas.errors import ConfigError
from space2vec.schemas.exit_codes import INTERRUPTED

if TYPE_CHECKING:
    from space2vec.schemas.settings import Settings


def interrupt_on_signals() -> None:
    """Have SIGTERM raise ``KeyboardInterrupt`` as Ctrl-C does, and SIGINT as well.

    A shell starts what it puts in the background with SIGINT ignored.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def wait_for_the_end() -> None:
    """Return at Ctrl-C or SIGTERM."""
    interrupt_on_signals()
    with suppress(KeyboardInterrupt):
        Event().wait()


@contextmanager
def draining_on_signals() -> Iterator[Event]:
    """Give an event that the first SIGTERM or SIGINT sets; the second ends the process."""
    import structlog

    stop = Event()

    def on_signal(number: int, _: object) -> None:
        if stop.is_set():
            os._exit(INTERRUPTED)
        stop.set()
        with suppress(RuntimeError):  # it came while a line was being written
            structlog.get_logger().info("draining; once more to end now")

    former: dict[int, Callable[[int, Any], Any] | int | None] = {
        number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def reloading_on_hangup(load: Callable[[], Settings]) -> Iterator[Callable[[], Settings | None]]:
    """Give what loads the settings once after each SIGHUP; settings that are wrong change nothing."""
    import structlog

    asked = Event()
    former = signal.signal(signal.SIGHUP, lambda *_: asked.set())

    def reload() -> Settings | None:
        if not asked.is_set():
            return None
        asked.clear()
        try:
            return load()
        except ConfigError as error:
            structlog.get_logger().error("models not changed", detail=str(error))
            return None

    try:
        yield reload
    finally:
        signal.signal(signal.SIGHUP, former)
