"""The page in Chromium, against harm: ids that would be scripts, what the policy stops, and the token."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dashboard_page import Page, needs_chromium
from nightfall import as_read, with_object_id

from space2vec.schemas.reader import PacketReader
from space2vec.schemas.settings import DashboardSettings
from space2vec.stream.dashboard.entries import entry_of
from space2vec.stream.dashboard.server import Server
from space2vec.stream.dashboard.store import Store
from space2vec.stream.protocols import OutputRecord

TOKEN = "a token of twenty-four"

pytestmark = needs_chromium


@pytest.mark.parametrize(
    "hostile", ["<img src=x onerror=hit()>", "</button><script>hit()</script>", "\"'><svg/onload=hit()>"]
)
def test_hostile_ids_stay_text(
    page: Page, sky: tuple[Store, str], long_night: list[OutputRecord], reader: PacketReader, hostile: str
) -> None:
    record = next(record for record in long_night if record.topic == "ztf-annotated")
    message = as_read([with_object_id(record, hostile)])[0]
    entry = replace(
        entry_of(message, reader), flags=(hostile,), survey=hostile, truth={"real": True, "kind": hostile}
    )
    sky[0].ring.add(entry)
    page.run("window.hit = () => { window.hits = (window.hits ?? 0) + 1 }")
    page.until(f"document.querySelector('#wall .card .name').textContent === {hostile!r}")
    assert page.texts(".chip")[0] == hostile
    page.open_card()
    assert page.run("return document.getElementById('detail-title').textContent") == hostile
    assert hostile in page.run("return document.querySelector('#detail section:last-child').textContent")
    assert (
        page.run(
            "return document.querySelectorAll('#wall script, #detail script, svg[onload], img[onerror]').length"
        )
        == 0
    )
    assert page.run("return window.hits ?? 0") == 0


def test_the_policy_stops_what_would_get_in(page: Page) -> None:
    page.run(
        "const s = document.createElement('script'); s.textContent = 'window.hits = 1'; document.body.append(s)"
    )
    page.run("document.body.append(Object.assign(new Image(), {src: 'https://example.org/x.png'}))")
    page.until("performance.now() > 0")
    assert page.run("return window.hits ?? 0") == 0
    complaints = page.complaints()
    assert len(complaints) == 2
    assert all("Content Security Policy" in complaint for complaint in complaints)


def test_nothing_comes_from_outside(page: Page, sky: tuple[Store, str]) -> None:
    loaded = page.run("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert len(loaded) > 60
    assert all(name.startswith(sky[1]) for name in loaded)


def test_the_token_is_asked_for_once(browser: Page, sky: tuple[Store, str], reader: PacketReader) -> None:
    with Server(DashboardSettings(port=0, token=TOKEN), sky[0], reader) as server:  # type: ignore[arg-type]
        browser.open(server.address)
        assert browser.run("return document.querySelectorAll('.card').length") == 0
        browser.complaints()  # the 401 itself
        browser.press(TOKEN, "Enter")
        browser.shown()
        assert browser.run("return location.href") == server.address
        assert browser.run("return document.cookie") == ""
        browser.open(server.address)
        browser.shown()
        assert browser.complaints() == []
