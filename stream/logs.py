"""Logging: JSON lines for machines, short lines for people, always on stderr.

The standard library's loggers (Ray's, librdkafka's) go through the same renderer, so a log is one stream of one
kind. Secrets never get here: settings hold them as ``SecretStr``, which renders as stars.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

REPEATS = 5
"""How many warnings or errors with the same event get through in ``WINDOW_S``."""
WINDOW_S = 60.0


LIBRDKAFKA = logging.getLogger("librdkafka")
"""What Kafka clients that are polled write to; it comes through the same renderer, and repeats are held back."""


class RateLimit:
    """Hold back warnings and errors that repeat; the next one let through says how many were held.

    Parameters
    ----------
    repeats : int
        How many of one event may pass in a window.
    window_s : float
        Length of the window in seconds.
    clock : callable
        Monotonic seconds; another one in tests.
    """

    def __init__(
        self, repeats: int = REPEATS, window_s: float = WINDOW_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._repeats = repeats
        self._window_s = window_s
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Pass the event on, or drop it."""
        if method not in ("warning", "error", "critical", "exception"):
            return event
        key = (method, str(event.get("event")))
        now = self._clock()
        with self._lock:
            start, count = self._seen.get(key, (now, 0))
            held = 0
            if now - start >= self._window_s:
                held, start, count = max(0, count - self._repeats), now, 0
            self._seen[key] = (start, count + 1)
        if count >= self._repeats:
            raise structlog.DropEvent
        if held:
            event["held_back"] = held
        return event


class _KindsOfLine(logging.Filter):
    """The same for librdkafka's lines, by their kind: it tells of every try to connect, 20 times a second."""

    def __init__(self) -> None:
        super().__init__()
        self._limit = RateLimit()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written; its first argument is the kind, such as ``FAIL``."""
        kind = record.args[0] if isinstance(record.args, tuple) and record.args else record.msg
        try:
            self._limit(None, record.levelname.lower(), {"event": kind})
        except structlog.DropEvent:
            return False
        return True


def _timestamp(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    event["ts"] = (
        time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now := time.time())) + f".{int(now % 1 * 1000):03d}Z"
    )
    return event


def _ordered(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """``ts level event`` first, the rest as bound."""
    first = {key: event.pop(key) for key in ("ts", "level", "event") if key in event}
    return {**first, **event}


def log_level() -> int:
    """Level that this process writes its own lines from, for its actors to do the same."""
    return logging.getLogger("space2vec").level or logging.INFO


def configure_logs(level: int = logging.INFO, *, out: TextIO | None = None) -> None:
    """Set logging up for this process.

    Parameters
    ----------
    level : int
        Lowest level of our own that is written, as in :mod:`logging`; other libraries' from warning on.
    out : text stream, optional
        Where lines go; stderr by default. JSON unless it is a terminal.
    """
    out = out if out is not None else sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        _timestamp,
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: list[Processor]
    if out.isatty():
        renderer = [structlog.dev.ConsoleRenderer(pad_event_to=0, timestamp_key="ts")]
    else:
        renderer = [
            structlog.processors.format_exc_info,
            _ordered,
            structlog.processors.JSONRenderer(default=str),
        ]
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))
    rays = logging.getLogger("ray")  # keeps to itself once Ray is imported
    rays.handlers.clear()
    rays.propagate = True
    rays.setLevel(logging.NOTSET)
    LIBRDKAFKA.filters[:] = [_KindsOfLine()]
    logging.getLogger("space2vec").setLevel(level)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            RateLimit(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
