"""The page in Chromium: what is seen, by keyboard, on a phone, in the dark; and the pictures in the documentation.

``SPACE2VEC_TEST_IMAGES=docs/images`` says where to put the pictures; else they are made and thrown away.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from chromium import Browser, missing
from nightfall import answered, as_read, fill, with_object_id
from PIL import Image

from space2vec.schemas.alert import Plane
from space2vec.schemas.reader import PacketReader
from space2vec.schemas.settings import DashboardSettings
from space2vec.stream.dashboard.entries import Entry, entry_of
from space2vec.stream.dashboard.server import Server
from space2vec.stream.dashboard.store import Store
from space2vec.stream.protocols import OutputRecord

IMAGES = os.environ.get("SPACE2VEC_TEST_IMAGES")
TOKEN = "a token of twenty-four"
ALERTS = 240
PHONE = (390, 844)
DESK = (1440, 900)

pytestmark = pytest.mark.skipif(
    bool(missing()),
    reason=f"not tried in a browser: no {missing()} (Debian: apt-get install chromium chromium-driver)",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[OutputRecord]:
    return answered(ALERTS, tmp_path_factory.mktemp("schemas"), seed=6)


@pytest.fixture(scope="module")
def sky(records: list[OutputRecord], reader: PacketReader) -> Iterator[tuple[Store, str]]:
    """A night, and where its page is."""
    store = Store(2000, 192 << 20, "broker.example:9092 · group space2vec")
    messages = as_read(records)
    alerts = [message for message in messages if message.partition.topic.endswith("annotated")]
    flagged = next(message for message in reversed(alerts) if entry_of(message, reader).flags)
    seventh = alerts[-7]
    times = [header for header in seventh.headers if header[0] == "source_timestamp"]
    # For the pictures: one with lacking pixels is to be seen.
    early = replace(flagged, timestamp_ms=seventh.timestamp_ms, headers=(*flagged.headers, *times))
    messages.remove(flagged)
    messages.insert(messages.index(seventh), early)
    fill(store, messages, reader)
    with Server(DashboardSettings(port=0), store, reader) as server:
        yield store, server.address


@pytest.fixture
def page(browser: Browser, sky: tuple[Store, str]) -> Iterator[Browser]:
    """The page of that night, freshly opened; what it complains of is a failure."""
    browser.screen(*DESK)
    browser.scheme("light")
    browser.open(f"{sky[1]}token.html")  # a small page of the same origin
    browser.run("localStorage.clear()")
    browser.complaints()  # of that page Chromium would have a user name
    browser.open(sky[1])
    shown(browser)
    yield browser
    assert browser.complaints() == []


def shown(browser: Browser) -> None:
    """Wait until the wall is there, with every picture that is within the window."""
    browser.until("document.querySelectorAll('#wall .card').length > 0")
    browser.until(
        "document.querySelector('#rate svg path') !== null && document.querySelector('#scores svg rect') !== null"
    )
    browser.until("[...document.images].every(image => image.complete && image.naturalWidth > 0)")


def card_texts(browser: Browser, part: str) -> list[str]:
    found: list[str] = browser.run(
        f"return [...document.querySelectorAll('#wall .card {part}')].map(e => e.textContent)"
    )
    return found


def await_cards(browser: Browser, part: str, texts: list[Any]) -> None:
    cards = f"[...document.querySelectorAll('#wall .card {part}')].map(e => e.textContent).join()"
    browser.until(f"{cards} === {','.join(texts)!r}")


def save(browser: Browser, name: str, tmp_path: Path) -> None:
    folder = Path(IMAGES) if IMAGES else tmp_path
    browser.picture(folder / f"dashboard-{name}.png")
    with Image.open(folder / f"dashboard-{name}.png") as picture:
        colours = picture.convert("RGB").resize((200, 200)).getcolors(40_000)
        assert colours is not None
        assert len(colours) > 500, "hardly anything is to be seen"


# -- what is seen -------------------------------------------------------------------------------------------------


def test_the_wall_shows_triplets_scores_flags_and_kind(page: Browser, sky: tuple[Store, str]) -> None:
    assert page.run("return document.querySelectorAll('#wall .card').length") == 60
    assert page.run("return document.querySelectorAll('#wall .card:first-child img').length") == 3
    newest = [entry for _, entry in sky[0].ring.newest()][:60]
    assert card_texts(page, ".name") == [entry.object_id for entry in newest]
    assert card_texts(page, ".score") == [f"{round(entry.score, 6):.4f}" for entry in newest]
    assert card_texts(page, ".label") == [f"{e.label}: {e.kind.replace('_', ' ')}" for e in newest]
    assert {"sn", "agn"} < {entry.kind for entry in newest}
    assert card_texts(page, ".chip") == [flag for entry in newest for flag in entry.flags]
    assert card_texts(page, ".truth")[0].startswith("simulated: ")
    for name in ("rate", "lag", "latency", "scores"):
        assert page.run(f"return document.querySelector('#{name} .reading b').textContent") != "–"
    page.run("document.getElementById('more').click()")
    page.until("document.querySelectorAll('#wall .card').length === 120")


def test_pictures_for_the_documentation(page: Browser, sky: tuple[Store, str], tmp_path: Path) -> None:
    for late in range(0, 25, 5):  # the night goes on
        at = datetime.fromtimestamp(time.time() - late, UTC)
        sky[0].rates.add({"scored": 3, "degraded": 0, "rejected": {}, "at": at.isoformat()})
    page.until("Number(document.querySelector('#rate .reading b').textContent) > 0.3")
    save(page, "light", tmp_path)
    page.scheme("dark")
    save(page, "dark", tmp_path)
    page.run("document.querySelectorAll('#wall .card')[2].click()")
    page.until("document.querySelector('#detail[open] .near .card') !== null")
    page.until("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    save(page, "alert", tmp_path)
    page.press("Escape")
    page.screen(*PHONE, scale=2, mobile=True)
    page.run("document.activeElement.blur(); scrollTo(0, 0)")
    page.until("document.querySelector('#health .words').textContent === 'live'")
    save(page, "phone", tmp_path)


def test_one_alert_opens_with_packet_annotation_and_neighbours(page: Browser, sky: tuple[Store, str]) -> None:
    page.run("document.querySelectorAll('#wall .card')[2].click()")
    page.until("document.querySelector('#detail[open] .near .card') !== null")
    _, entry = sky[0].ring.newest()[2]
    assert page.run("return document.getElementById('detail-title').textContent") == entry.object_id
    text = page.run("return document.getElementById('detail').innerText")
    for part in (f"{entry.score:.4f}", entry.source, entry.output, entry.sha256, "Annotation", "Packet"):
        assert part in text
    near = "document.querySelectorAll('#detail .near .card')"
    assert page.run(f"return {near}.length") == 8
    similarity = page.run(
        f"return [...{near}].map(card => Number(card.querySelector('.similarity').textContent))"
    )
    assert similarity == sorted(similarity, reverse=True)
    fields = (
        "[...document.querySelectorAll('#detail section:last-child tr')].filter(row => !row.hidden).length"
    )
    every = page.run(f"return {fields}")
    page.run("document.querySelector('.find-field').focus()")
    page.press("ra")
    assert 0 < page.run(f"return {fields}") < every
    page.run(f"{near}[0].click()")
    page.until(f"document.getElementById('detail-title').textContent !== {entry.object_id!r}")


def test_the_filter(page: Browser, sky: tuple[Store, str]) -> None:
    def wish(**fields: str) -> None:
        page.run(
            "for (const [name, value] of Object.entries(arguments[0])) document.forms.filter.elements[name].value = value;"
            "document.forms.filter.dispatchEvent(new Event('input'))",
            fields,
        )

    entries = [entry for _, entry in sky[0].ring.newest()]
    flagged = [entry for entry in entries if entry.flags]
    assert flagged
    wish(flag="*")
    await_cards(page, ".name", [entry.object_id for entry in flagged][:60])
    assert (
        page.run("return document.getElementById('matched').textContent")
        == f"{len(flagged)} of {len(entries)}"
    )
    wish(flag="", **{"class": "bogus"}, low="0.2", order="best")
    some = sorted((e for e in entries if e.label == "bogus" and e.score >= 0.2), key=lambda e: -e.logit)
    scores = [f"{entry.score:.4f}" for entry in some][:60]
    await_cards(page, ".score", scores)
    assert "low=0.2" in page.run("return location.hash")
    page.run("location.reload()")
    await_cards(page, ".score", scores)
    wish(low="", order="", text="no such object", **{"class": ""})
    page.until("!document.getElementById('nothing').hidden")
    page.run("document.forms.filter.reset()")
    page.until("document.querySelectorAll('#wall .card').length === 60")


def test_a_range_of_scores_is_picked_by_dragging(page: Browser) -> None:
    box = page.run(
        "const b = document.querySelector('#scores .plot').getBoundingClientRect(); return [b.left, b.top, b.width, b.height]"
    )
    y = round(box[1] + box[3] / 2)
    page.drag((round(box[0] + 0.71 * box[2]), y), (round(box[0] + 0.93 * box[2]), y))
    assert page.run("const f = document.forms.filter.elements; return [f.low.value, f.high.value]") == [
        "0.7",
        "0.95",
    ]
    page.until("document.getElementById('matched').textContent !== ''")
    assert all(0.7 <= float(score) <= 0.95 for score in card_texts(page, ".score"))


def test_the_rejected_with_their_reasons(page: Browser, sky: tuple[Store, str]) -> None:
    page.run("document.getElementById('tab-rejected').click()")
    page.until("document.querySelectorAll('#letters tr').length === 7")
    told = page.run("return document.getElementById('letters').innerText")
    for letter in sky[0].rejections:
        assert letter.reason in told
        assert letter.detail in told
        assert letter.source in told
    page.run("document.querySelector('#reasons button').click()")
    page.until("document.querySelectorAll('#letters tr').length === 1")
    assert page.run("return document.activeElement.getAttribute('aria-pressed')") == "true"


def test_what_comes_is_shown_unless_paused(page: Browser, sky: tuple[Store, str]) -> None:
    store = sky[0]
    oldest: Entry = store.ring.newest()[-1][1]
    store.ring.add(replace(oldest, object_id="ZTF26newcome"))
    page.until("document.querySelector('#wall .card .name').textContent === 'ZTF26newcome'")
    page.press("p")
    store.ring.add(
        replace(oldest, object_id="ZTF26pausing", planes={**oldest.planes, Plane.TEMPLATE: "stamp_missing"})
    )
    page.run("return new Promise(done => setTimeout(done, 4500))")
    assert "ZTF26pausing" not in card_texts(page, ".name")
    assert page.run("return document.querySelector('#health .words').textContent") == "paused"
    page.press("p")
    page.until("document.querySelector('#wall .card .name').textContent === 'ZTF26pausing'")
    assert card_texts(page, ".absent")[0] == "stamp missing"


# -- hostile packets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hostile", ["<img src=x onerror=hit()>", "</button><script>hit()</script>", "\"'><svg/onload=hit()>"]
)
def test_hostile_ids_stay_text(
    page: Browser, sky: tuple[Store, str], records: list[OutputRecord], reader: PacketReader, hostile: str
) -> None:
    record = next(record for record in records if record.topic == "ztf-annotated")
    message = as_read([with_object_id(record, hostile)])[0]
    entry = replace(
        entry_of(message, reader), flags=(hostile,), survey=hostile, truth={"real": True, "kind": hostile}
    )
    sky[0].ring.add(entry)
    page.run("window.hit = () => { window.hits = (window.hits ?? 0) + 1 }")
    page.until(f"document.querySelector('#wall .card .name').textContent === {hostile!r}")
    assert card_texts(page, ".chip")[0] == hostile
    page.run("document.querySelector('#wall .card').click()")
    page.until("document.querySelector('#detail[open] .near .card') !== null")
    assert page.run("return document.getElementById('detail-title').textContent") == hostile
    assert hostile in page.run("return document.querySelector('#detail section:last-child').textContent")
    assert (
        page.run(
            "return document.querySelectorAll('#wall script, #detail script, svg[onload], img[onerror]').length"
        )
        == 0
    )
    assert page.run("return window.hits ?? 0") == 0


def test_the_policy_stops_what_would_get_in(page: Browser) -> None:
    page.run(
        "const s = document.createElement('script'); s.textContent = 'window.hits = 1'; document.body.append(s)"
    )
    page.run("document.body.append(Object.assign(new Image(), {src: 'https://example.org/x.png'}))")
    page.until("performance.now() > 0")
    assert page.run("return window.hits ?? 0") == 0
    complaints = page.complaints()
    assert len(complaints) == 2
    assert all("Content Security Policy" in complaint for complaint in complaints)


def test_nothing_comes_from_outside(page: Browser, sky: tuple[Store, str]) -> None:
    loaded = page.run("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert len(loaded) > 60
    assert all(name.startswith(sky[1]) for name in loaded)


# -- keyboard -----------------------------------------------------------------------------------------------------


def focused(browser: Browser) -> int:
    place: int = browser.run(
        "return [...document.querySelectorAll('#wall .card')].indexOf(document.activeElement)"
    )
    return place


def test_by_keyboard_alone(page: Browser) -> None:
    columns = page.run(
        "return getComputedStyle(document.getElementById('wall')).gridTemplateColumns.split(' ').length"
    )
    assert columns > 2
    page.press("Right")
    assert focused(page) == 0
    page.press("Right", "Right", "Down")
    assert focused(page) == 2 + columns
    page.press("Up", "Left")
    assert focused(page) == 1
    assert (
        page.run(
            "const s = getComputedStyle(document.activeElement); return s.outlineStyle + ' ' + s.outlineWidth"
        )
        == "solid 2px"
    )
    page.press("End")
    assert focused(page) == 59
    page.press("Home", "Right")
    names = card_texts(page, ".name")
    page.press("Enter")
    page.until("document.querySelector('#detail[open] .near .card') !== null")
    title = "document.getElementById('detail-title').textContent"
    assert page.run(f"return {title}") == names[1]
    page.press("Right")
    page.until(f"{title} === {names[2]!r}")
    page.press("Left", "Left")
    page.until(f"{title} === {names[0]!r}")
    page.press("Escape")
    page.until("document.querySelector('dialog[open]') === null")
    assert focused(page) >= 0
    page.press("/")
    assert page.run("return document.activeElement.name") == "text"
    page.press(names[3][-6:])
    page.until("document.getElementById('matched').textContent !== ''")
    page.until(
        f"document.querySelectorAll('#wall .card').length < 10 && document.querySelector('#wall .name').textContent.includes({names[3][-6:]!r})"
    )
    page.press("Escape")
    page.until("document.querySelectorAll('#wall .card').length === 60")
    page.press("?")
    assert page.run("return document.querySelector('#help').open")
    page.press("Escape", "r")
    page.until("!document.getElementById('rejected').hidden")


def test_every_control_is_reached_by_tab_and_shows_it(page: Browser) -> None:
    seen = []
    for _ in range(16):
        page.press("Tab")
        seen.append(
            page.run(
                "const e = document.activeElement; const s = getComputedStyle(e);"
                "return [e.id || e.name || e.type || e.className, s.outlineStyle, parseFloat(s.outlineWidth)]"
            )
        )
    names = [name for name, _, _ in seen]
    for name in (
        "pause",
        "theme",
        "keys",
        "tab-wall",
        "text",
        "class",
        "survey",
        "flag",
        "low",
        "high",
        "order",
    ):
        assert name in names
    assert all(style == "solid" and width >= 2 for name, style, width in seen if name)


# -- light, dark, phone -------------------------------------------------------------------------------------------

CONTRAST = """
const channel = c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const parse = text => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3]));
const ground = element => {
  const layers = [];
  for (let e = element; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
  return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
};
const worst = {};
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const element = walk.currentNode.parentElement;
  if (!walk.currentNode.textContent.trim() || !element.checkVisibility()) continue;
  const under = ground(element);
  const [one, other] = [light(over(parse(getComputedStyle(element).color), under)), light(under)];
  const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  const name = element.className || element.tagName;
  worst[name] = Math.min(worst[name] ?? 99, ratio);
}
return worst;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough(page: Browser, scheme: str) -> None:
    """At least 4.5 to 1 for every text, as WCAG 2.2 AA (1.4.3) asks of small ones."""
    page.scheme(scheme)
    page.run("document.querySelector('#wall .card').click()")
    page.until("document.querySelector('#detail[open] .near .card') !== null")
    ratios: dict[str, float] = page.run(CONTRAST)
    assert len(ratios) > 20
    assert {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}


def test_the_theme_follows_the_system_or_the_switch(page: Browser) -> None:
    ground = "return getComputedStyle(document.documentElement).backgroundColor"
    light = page.run(ground)
    page.scheme("dark")
    dark = page.run(ground)
    assert dark != light
    page.press("t")
    assert page.run(ground) == light
    page.run("location.reload()")
    shown(page)
    assert page.run(ground) == light
    page.scheme("light")
    page.press("t")
    assert page.run(ground) == dark
    page.press("t")
    assert page.run(ground) == light


def test_on_a_phone_nothing_runs_off_the_side(page: Browser) -> None:
    page.screen(*PHONE, scale=2, mobile=True)

    def too_wide() -> list[Any]:
        found: list[Any] = page.run(
            "return [...document.querySelectorAll('html, body *')].filter(e => e.checkVisibility() && !e.closest('svg, .sr, .skip')"
            " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
        )
        return found

    assert page.run("return innerWidth") == PHONE[0]
    assert too_wide() == []
    page.run("document.querySelector('.unfold').click()")
    assert page.run("return document.querySelector('#choices').checkVisibility()")
    assert too_wide() == []
    page.run("document.querySelector('#wall .card').click()")
    page.until("document.querySelector('#detail[open] .near .card') !== null")
    assert too_wide() == []
    page.press("Escape")
    page.run("document.getElementById('tab-rejected').click()")
    page.until("document.querySelectorAll('#letters tr').length === 7")
    assert too_wide() == []
    small = page.run(
        "return [...document.querySelectorAll('button, input, select')].filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 24).map(e => e.outerHTML)"
    )
    assert small == []  # WCAG 2.2, 2.5.8


# -- the token ----------------------------------------------------------------------------------------------------


def test_the_token_is_asked_for_once(browser: Browser, sky: tuple[Store, str], reader: PacketReader) -> None:
    with Server(DashboardSettings(port=0, token=TOKEN), sky[0], reader) as server:  # type: ignore[arg-type]
        browser.open(server.address)
        assert browser.run("return document.querySelectorAll('.card').length") == 0
        browser.complaints()  # the 401 itself
        browser.press(TOKEN, "Enter")
        shown(browser)
        assert browser.run("return location.href") == server.address
        assert browser.run("return document.cookie") == ""
        browser.open(server.address)
        shown(browser)
        assert browser.complaints() == []
