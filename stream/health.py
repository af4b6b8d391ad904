"""What an operator's machinery asks of the service: ``/livez``, ``/readyz`` and ``/metrics``, over HTTP.

========== ===================================================== ==============================================
path       200                                                   503
========== ===================================================== ==============================================
/livez     starting, draining, or looked after its actors lately its loop has not turned for ``SILENCE_S``
/readyz    group joined and every classifier serves              starting, draining, or an actor is missing
/metrics   always, in Prometheus' or OpenMetrics' form
========== ===================================================== ==============================================
"""

from __future__ import annotations

import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from types import TracebackType
from typing import Final, Self

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from space2vec.schemas.errors import ConfigError
from space2vec.schemas.settings import Settings
from space2vec.stream.lag import LagReader, LagWatch
from space2vec.stream.metrics import ServiceMetrics
from space2vec.stream.summary import Summary
from space2vec.workers.bundle import Bundle

log = structlog.get_logger()

SILENCE_S: Final = 120.0
"""So long may one turn of the application's loop take: it asks Ray, and Kafka for the source's partitions."""
_REQUEST_S: Final = 10.0


class Health:
    """How the service does, by its summaries.

    Parameters
    ----------
    stop : Event
        Set when the service drains.
    clock : callable
        Monotonic seconds; another one in tests.
    """

    def __init__(self, stop: Event, clock: Callable[[], float] = time.monotonic) -> None:
        self._stop = stop
        self._clock = clock
        self._summary: Summary | None = None
        self._heard = 0.0

    def note(self, summary: Summary) -> None:
        """Take the news."""
        self._summary, self._heard = summary, self._clock()

    def dead(self) -> str:
        """Why the process should be ended; empty: no reason. How long a start or a drain takes is not judged here."""
        if self._summary is None or self._stop.is_set():
            return ""
        silent = self._clock() - self._heard
        return f"the loop has not turned for {silent:.0f} s" if silent > SILENCE_S else ""

    def unready(self) -> str:
        """What the service lacks to answer alerts; empty: nothing."""
        if self._stop.is_set():
            return "draining"
        if self._summary is None:
            return "starting"
        missing = sum(load is None for load in self._summary.loads)
        if missing:
            return f"{missing} of {len(self._summary.loads)} stream workers do not run"
        if not all(load is not None and load.joined for load in self._summary.loads):
            return "the consumer group is not joined yet"
        missing = sum(status is None for status in self._summary.classifiers)
        if missing:
            return f"{missing} of {len(self._summary.classifiers)} classifiers do not serve"
        return self.dead()


class Endpoint:
    """The HTTP server of a run, in threads of its own, from ``with`` to the end of the block.

    Parameters
    ----------
    settings : Settings
        Those of the run; ``settings.metrics`` says where to listen.
    bundle : Bundle
        What scores.
    stop : Event
        Set when the service drains.

    Raises
    ------
    ConfigError
        If the address cannot be listened on.
    """

    def __init__(self, settings: Settings, bundle: Bundle, stop: Event) -> None:
        self._health = Health(stop)
        self._metrics = ServiceMetrics(settings, bundle)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self._metrics)
        ProcessCollector(registry=self._registry)
        self._lag = LagWatch(lambda: LagReader(settings))
        host, port = settings.metrics.host, settings.metrics.port
        try:
            self._server = ThreadingHTTPServer((host, port or 0), self._handler())
        except OSError as error:
            raise ConfigError(f"metrics: cannot listen on {host}:{port}: {error.strerror}") from error
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def note(self, summary: Summary) -> None:
        """Take the news."""
        self._health.note(summary)
        self._metrics.summary = summary

    def __enter__(self) -> Self:
        self._thread.start()
        self._lag.start()
        log.info("metrics", address=f"{self._server.server_address[0]!s}:{self.port}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._lag.stop()

    def _answer(self, path: str, accept: str) -> tuple[int, str, bytes]:
        """Status, content type and body for a request."""
        if path in ("/livez", "/readyz"):
            complaint = self._health.dead() if path == "/livez" else self._health.unready()
            return (503 if complaint else 200), "text/plain; charset=utf-8", f"{complaint or 'ok'}\n".encode()
        if path == "/metrics":
            self._metrics.ready = not self._health.unready()
            self._metrics.lag = self._lag.latest
            encode, content_type = choose_encoder(accept)
            return 200, content_type, encode(self._registry)
        return 404, "text/plain; charset=utf-8", b"/livez, /readyz, /metrics\n"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self._answer

        class Handler(BaseHTTPRequestHandler):
            timeout = _REQUEST_S
            server_version = "space2vec"
            sys_version = ""

            def do_GET(self) -> None:
                status, content_type, body = answer(
                    self.path.partition("?")[0], self.headers.get("Accept", "")
                )
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                log.debug("metrics request", detail=format % args)

        return Handler
