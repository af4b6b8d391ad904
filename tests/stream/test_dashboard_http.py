"""The page over HTTP: what is served, to whom, and that hostile packets stay text."""

from __future__ import annotations

import hmac
import json
import re
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from functools import cache
from http.client import HTTPMessage
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nightfall import as_read, with_object_id
from PIL import Image

from space2vec.schemas.alert import Alert, Plane
from space2vec.schemas.errors import ConfigError
from space2vec.schemas.reader import PacketReader
from space2vec.schemas.settings import DashboardSettings
from space2vec.stream.cli import run_command
from space2vec.stream.config import explain_settings, load_settings
from space2vec.stream.dashboard.access import HEADERS, Access
from space2vec.stream.dashboard.entries import entry_of
from space2vec.stream.dashboard.server import Server, Site
from space2vec.stream.dashboard.store import Store
from space2vec.stream.protocols import OutputRecord
from space2vec.workers.quality import Flag

HOSTILE = "<b>\"'&amp;</b>"
TOKEN = "a token of twenty-four"
PAGE = Path(__file__).parents[2] / "stream" / "dashboard" / "page"


class Visitor:
    """A browser without eyes."""

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str, **headers: str) -> tuple[int, HTTPMessage, bytes]:
        request = urllib.request.Request(
            self.address + path.removeprefix("/"),
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )
        try:
            with urllib.request.build_opener(_NoRedirect).open(request, timeout=20) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


@pytest.fixture
def visit(store: Store, reader: PacketReader) -> Iterator[Callable[..., Visitor]]:
    servers: list[Server] = []

    def start(**settings: Any) -> Visitor:
        server = Server(DashboardSettings(port=0, **settings), store, reader)
        servers.append(server)
        server.__enter__()
        return Visitor(server.address)

    yield start
    for server in servers:
        server.__exit__(None, None, None)


def test_page_api_and_stamps(visit: Callable[..., Visitor], store: Store) -> None:
    visitor = visit()
    assert visitor.address.startswith("http://127.0.0.1:")
    status, headers, body = visitor.get("/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    for name in re.findall(rb'(?:src|href)="/([\w.]+)"', body):
        assert visitor.get(f"/{name.decode()}")[0] == 200, name
    wall = json.loads(visitor.get("/api/alerts?class=real&most=3")[2])
    assert len(wall["alerts"]) == 3
    assert all(alert["label"] == "real" for alert in wall["alerts"])
    one = wall["alerts"][0]
    assert (
        json.loads(visitor.get(f"/api/{store.run}/alerts/{one['number']}")[2])["alert_id"] == one["alert_id"]
    )
    assert len(json.loads(visitor.get("/api/rejected")[2])["letters"]) == 7
    status, headers, body = visitor.get(f"/stamps/{store.run}/{one['number']}/science")
    assert (status, headers["Content-Type"]) == (200, "image/png")
    with Image.open(BytesIO(body)) as picture:
        assert picture.mode == "LA"


def test_pixels_without_a_value_are_transparent(visit: Callable[..., Visitor], store: Store) -> None:
    visitor = visit()
    number, held = next((n, e) for n, e in store.ring.newest() if "nan" in e.flags)
    (alert,) = PacketReader().read(held.value)
    assert isinstance(alert, Alert)
    stamp = alert.stamps[Plane.SCIENCE]
    body = visitor.get(f"/stamps/{store.run}/{number}/science")[2]
    with Image.open(BytesIO(body)) as picture:
        alpha = np.asarray(picture.getchannel("A"))
    assert np.array_equal(alpha[::-1] == 255, np.isfinite(stamp))
    assert 0 < (alpha == 0).sum() < alpha.size


@pytest.mark.parametrize(
    "path",
    [
        "/nothing", "/../server.py", "/page/../server.py", "/%2e%2e/server.py", "/api/other/alerts/0", "/stamps/x/0/science",
        "/api/{run}/alerts/-1", "/api/{run}/alerts/99999999999", "/api/{run}/alerts/1e3", "/api/{run}/alerts/²",
        "/stamps/{run}/0/mask", "/stamps/{run}/999999/science", "/token.html/x",
    ],
)  # fmt: skip
def test_what_is_not_there_is_not_there(visit: Callable[..., Visitor], store: Store, path: str) -> None:
    target = urllib.parse.quote(path.format(run=store.run), safe="/%")
    status, headers, _ = visit().get(target)
    assert status == 404
    assert headers["Content-Type"].startswith("text/plain")


def test_a_wrong_wish_is_400(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    for query in ("low=x", "order=y", "most=z", "&".join(f"a{i}=1" for i in range(30))):
        assert visitor.get(f"/api/alerts?{query}")[0] == 400, query


@cache
def site_with(token: str) -> Site:
    settings = DashboardSettings.model_validate({"token": token} if token else {})
    return Site(Store(10, 1000), Access(settings), PacketReader())


@given(
    st.text(max_size=60) | st.from_regex(r"(/[a-z0-9.%?=&\[\]]{0,9}){1,5}"),
    st.fixed_dictionaries({}, optional={name: st.text(max_size=40) for name in ("Cookie", "Authorization")}),
)
def test_any_request_gets_an_answer(path: str, headers: dict[str, str]) -> None:
    for token, expected in (("", (200, 400, 404)), (TOKEN, (200, 400, 401))):
        assert site_with(token).answer(path, {"Host": "localhost", **headers}).status in expected


def test_nothing_can_be_sent_or_changed(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "<script>"):
        request = urllib.request.Request(visitor.address, method=method, data=b"x")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        assert refused.value.code == 501
        assert b"<script>" not in refused.value.read()
        assert refused.value.headers["Content-Security-Policy"] == HEADERS["Content-Security-Policy"]


def test_every_answer_carries_a_strict_policy(visit: Callable[..., Visitor], store: Store) -> None:
    visitor = visit()
    for path in (
        "/",
        "/main.js",
        "/api/state",
        "/nothing",
        "/api/alerts?low=x",
        f"/stamps/{store.run}/0/science",
    ):
        headers = visitor.get(path)[1]
        policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["img-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"


def test_the_page_holds_no_inline_script_and_fetches_nothing_from_outside() -> None:
    for path in PAGE.iterdir():
        text = path.read_text()
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), path
        assert "innerHTML" not in text
        assert "eval(" not in text
        if path.suffix == ".html":
            assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=|javascript:", text), path


def test_hostile_ids_come_as_json_strings(
    night: list[OutputRecord], reader: PacketReader, visit: Callable[..., Visitor], store: Store
) -> None:
    record = next(record for record in night if record.topic == "ztf-annotated")
    hostile = with_object_id(record, HOSTILE)
    store.ring.add(entry_of(as_read([hostile])[0], reader))
    visitor = visit()
    _, headers, body = visitor.get("/api/alerts?most=1")
    assert headers["Content-Type"] == "application/json"
    (first,) = json.loads(body)["alerts"]
    assert first["object_id"] == HOSTILE


def test_every_flag_is_explained_on_the_page() -> None:
    text = (PAGE / "format.js").read_text().partition("export const FLAGS")[2]
    assert set(re.findall(r"^  (\w+): ", text, re.MULTILINE)) == {str(flag) for flag in Flag}


# -- who may see it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org"])
def test_an_address_that_others_reach_needs_a_token(host: str) -> None:
    with pytest.raises(ConfigError, match="token"):
        Access(DashboardSettings(host=host))
    Access(DashboardSettings(host=host, token=TOKEN))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_on_this_machine_none_is_needed(host: str) -> None:
    assert Access(DashboardSettings(host=host)).admits("", "")


def test_a_short_token_is_refused() -> None:
    with pytest.raises(ConfigError, match="16 characters"):
        Access(DashboardSettings(token="guess"))


def test_without_the_token_nothing_is_shown(visit: Callable[..., Visitor], store: Store) -> None:
    visitor = visit(token=TOKEN)
    for path in (
        "/",
        "/main.js",
        "/api/state",
        "/api/alerts",
        "/api/rejected",
        f"/stamps/{store.run}/0/science",
        "/x",
    ):
        status, headers, body = visitor.get(path)
        assert status == 401, path
        assert b"broker:9092" not in body
        assert "Set-Cookie" not in headers
    assert visitor.get("/style.css")[0] == 200
    for wrong in ("", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"):
        assert visitor.get("/api/state", Authorization=wrong)[0] == 401, wrong
    assert visitor.get("/?token=wrong")[0] == 401
    assert visitor.get("/?token=")[0] == 401
    assert visitor.get("/", Cookie='space2vec=; other="')[0] == 401
    assert visitor.get("/", Cookie=f"space2vec={urllib.parse.quote(TOKEN)}")[0] == 401


def test_the_token_opens_by_header_or_once_by_address(
    visit: Callable[..., Visitor], capfd: pytest.CaptureFixture[str]
) -> None:
    visitor = visit(token=TOKEN)
    assert visitor.get("/api/state", Authorization=f"Bearer {TOKEN}")[0] == 200
    status, headers, _ = visitor.get(f"/?token={urllib.parse.quote(TOKEN)}")
    assert (status, headers["Location"]) == (303, "/")
    cookie = headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
    assert TOKEN not in cookie
    held = cookie.partition(";")[0]
    assert visitor.get("/api/state", Cookie=f"other=1; {held}")[0] == 200
    assert visitor.get("/api/state", Cookie=held[:-1])[0] == 401
    other = visit(token=TOKEN + "2")
    assert other.get("/api/state", Cookie=held)[0] == 401
    told = capfd.readouterr()
    assert TOKEN not in told.out + told.err
    assert urllib.parse.quote(TOKEN) not in told.out + told.err


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    honest = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return honest(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    access = Access(DashboardSettings(token=TOKEN))
    assert access.knows(TOKEN)
    assert not access.admits(f"Bearer {TOKEN[:-1]}", "")
    assert not access.admits("", "space2vec=0")
    assert len(compared) == 3


def test_a_name_that_was_pointed_here_is_turned_away(store: Store, reader: PacketReader) -> None:
    site = Site(store, Access(DashboardSettings()), reader)
    for good in ("localhost:8321", "127.0.0.1:1", "LocalHost", "[::1]:9", "127.0.0.1"):
        assert site.answer("/api/state", {"Host": good}).status == 200, good
    for bad in ("evil.example:8321", "evil.example", "192.0.2.1:8321", "localhost.evil.example", ""):
        assert site.answer("/api/state", {"Host": bad}).status == 421, bad
    behind_a_token = Site(store, Access(DashboardSettings(token=TOKEN)), reader)
    told = {"Host": "night.example", "Authorization": f"Bearer {TOKEN}"}
    assert behind_a_token.answer("/api/state", told).status == 200


def test_a_token_is_never_shown_by_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    monkeypatch.setenv("SPACE2VEC_DASHBOARD__TOKEN_FILE", str(tmp_path / "token"))
    settings = load_settings()
    assert settings.dashboard.token is not None
    assert settings.dashboard.token.get_secret_value() == TOKEN
    assert TOKEN not in repr(settings) + repr(explain_settings())
    monkeypatch.delenv("SPACE2VEC_DASHBOARD__TOKEN_FILE")
    assert run_command(["dashboard", "--host", "0.0.0.0", "--port", "0"]) == 2
    assert "SPACE2VEC_DASHBOARD__TOKEN_FILE" in capsys.readouterr().err


def test_a_port_in_use_is_a_wrong_setting(
    visit: Callable[..., Visitor], store: Store, reader: PacketReader
) -> None:
    port = int(visit().address.rstrip("/").rpartition(":")[2])
    with pytest.raises(ConfigError, match=str(port)):
        Server(DashboardSettings(port=port), store, reader)


def test_connections_are_bounded(visit: Callable[..., Visitor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("space2vec.stream.dashboard.server._CONNECTIONS", 3)
    visitor = visit()
    port = int(visitor.address.rstrip("/").rpartition(":")[2])
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
    try:
        time.sleep(0.2)
        with pytest.raises((OSError, urllib.error.URLError)):
            visitor.get("/api/state")
    finally:
        for connection in idle:
            connection.close()
    deadline = time.monotonic() + 20
    while True:
        try:
            assert visitor.get("/api/state")[0] == 200
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
