"""The page over HTTP: a few fixed files, and what they ask for as JSON and PNG. It can only be read from."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import PurePath
from socket import AF_INET6, socket
from threading import BoundedSemaphore, Thread
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qsl, urlsplit

import structlog

from space2vec.schemas.alert import Plane
from space2vec.schemas.errors import ConfigError
from space2vec.schemas.reader import PacketReader
from space2vec.schemas.settings import DashboardSettings
from space2vec.stream.dashboard import views
from space2vec.stream.dashboard.access import HEADERS, Access
from space2vec.stream.dashboard.entries import UnreadableError
from space2vec.stream.dashboard.ring import Wanted
from space2vec.stream.dashboard.stamps import Stamps
from space2vec.stream.dashboard.store import Store

log = structlog.get_logger()

_CONNECTIONS: Final = 64
_IDLE_S: Final = 30.0
_SHOWN: Final = 60
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request gets."""

    status: int
    content_type: str
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)


class Site:
    """Answers requests; knows nothing of sockets.

    Parameters
    ----------
    store : Store
        What is shown.
    access : Access
        Who may see it.
    reader : PacketReader
        Opens alerts that are looked at.
    """

    def __init__(self, store: Store, access: Access, reader: PacketReader) -> None:
        self._store = store
        self._access = access
        self._reader = reader
        self._stamps = Stamps(store.ring, reader)
        self._files = {
            f"/{file.name}": Answer(200, _TYPES[PurePath(file.name).suffix], file.read_bytes())
            for file in files("space2vec.stream.dashboard").joinpath("page").iterdir()
        }

    def answer(self, target: str, headers: Mapping[str, str]) -> Answer:
        """Answer ``GET target``; names of headers are in title case."""
        if self._access.refuses(headers.get("Host", "")):
            return Answer(421, _TEXT, b"not under this name: open the page as localhost or 127.0.0.1\n")
        try:
            parts = urlsplit(target)
            query = dict(parse_qsl(parts.query, max_num_fields=20))
        except ValueError:
            return Answer(400, _TEXT, b"no such address\n")
        if "token" in query and self._access.knows(query["token"]):
            return Answer(303, _TEXT, b"", {"Location": "/", "Set-Cookie": self._access.cookie()})
        public = parts.path in ("/style.css", "/icon.svg")
        if not public and not self._access.admits(
            headers.get("Authorization", ""), headers.get("Cookie", "")
        ):
            return Answer(401, self._files["/token.html"].content_type, self._files["/token.html"].body)
        return self._page(parts.path, query)

    def _page(self, path: str, query: Mapping[str, str]) -> Answer:
        match path.split("/")[1:]:
            case [""]:
                return self._files["/index.html"]
            case ["api", "state"]:
                return _json(views.state(self._store))
            case ["api", "alerts"]:
                try:
                    most = int(query.get("most") or _SHOWN)
                    return _json(views.wall(self._store, Wanted.parse(query), most))
                except ValueError as error:
                    return Answer(400, _TEXT, f"{error}\n".encode())
            case ["api", "rejected"]:
                return _json(views.rejected(self._store))
            case ["api", run, "alerts", number]:
                return self._detail(run, number)
            case ["stamps", run, number, plane]:
                return self._stamp(run, number, plane)
            case _:
                return self._files.get(path, _MISSING)

    def _detail(self, run: str, number: str) -> Answer:
        try:
            found = views.detail(self._store, self._held(run, number), self._reader)
        except UnreadableError:
            found = None
        return _json(found) if found is not None else _MISSING

    def _stamp(self, run: str, number: str, plane: str) -> Answer:
        if plane not in set(Plane):
            return _MISSING
        png = self._stamps.png(self._held(run, number), Plane(plane))
        return Answer(200, "image/png", png) if png is not None else _MISSING

    def _held(self, run: str, number: str) -> int:
        """An alert's number; of another run, or none at all: one that no alert has."""
        whole = number.isascii() and number.isdigit() and len(number) < 16
        return int(number) if whole and run == self._store.run else -1


_MISSING: Final = Answer(404, _TEXT, b"not here, or not any more\n")


def _json(value: dict[str, Any]) -> Answer:
    return Answer(200, "application/json", json.dumps(value, allow_nan=False).encode())


class Server:
    """Listens, in threads of its own, from ``with`` to the end of the block.

    Parameters
    ----------
    settings : DashboardSettings
        Where to listen, and the token.
    store : Store
        What is shown.
    reader : PacketReader
        Opens alerts that are looked at.

    Raises
    ------
    ConfigError
        If the address cannot be listened on, or is open to others without a token.
    """

    def __init__(self, settings: DashboardSettings, store: Store, reader: PacketReader) -> None:
        site = Site(store, Access(settings), reader)
        host, port = settings.host, settings.port
        try:
            self._server = (_Server6 if ":" in host else _Server)((host, port), _handler(site))
        except OSError as error:
            raise ConfigError(f"dashboard: cannot listen on {host}:{port}: {error.strerror}") from error
        self._thread = Thread(target=self._server.serve_forever, args=(0.1,), name="page", daemon=True)

    @property
    def address(self) -> str:
        """Where the page is, as a URL without any token."""
        host, port = self._server.server_address[:2]
        name = host.decode() if isinstance(host, bytes) else host
        return f"http://{f'[{name}]' if ':' in name else name}:{port}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    """Holds a bounded number of connections; what comes above that is closed at once."""

    daemon_threads = True
    request_queue_size = 32

    def __init__(self, *arguments: Any) -> None:
        self._free = BoundedSemaphore(_CONNECTIONS)
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Browsers go away in the middle; that is no failure of ours."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            log.error("page", detail=f"{type(error).__name__}: {error}")


class _Server6(_Server):
    address_family = AF_INET6


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = _IDLE_S
        server_version = "space2vec"
        sys_version = ""
        connection: socket

        def do_GET(self) -> None:
            if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
                self.close_connection = True  # what follows is no request
            answer = site.answer(self.path, {name.title(): value for name, value in self.headers.items()})
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def end_headers(self) -> None:
            for name, value in HEADERS.items():
                self.send_header(name, value)
            super().end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: a request's first line may hold the token."""

    return Handler
