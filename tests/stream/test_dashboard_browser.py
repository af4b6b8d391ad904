"""The page in Chromium: what is seen, and the pictures in the documentation.

``SPACE2VEC_TEST_IMAGES=docs/images`` says where to put the pictures; else they are made and thrown away.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from dashboard_page import PHONE, Page, needs_chromium
from PIL import Image

from space2vec.schemas.alert import Plane
from space2vec.stream.dashboard.entries import Entry
from space2vec.stream.dashboard.store import Store

IMAGES = os.environ.get("SPACE2VEC_TEST_IMAGES")

pytestmark = needs_chromium


def save(browser: Page, name: str, tmp_path: Path) -> None:
    folder = Path(IMAGES) if IMAGES else tmp_path
    browser.picture(folder / f"dashboard-{name}.png")
    with Image.open(folder / f"dashboard-{name}.png") as picture:
        colours = picture.convert("RGB").resize((200, 200)).getcolors(40_000)
        assert colours is not None
        assert len(colours) > 500, "hardly anything is to be seen"


def test_the_wall_shows_triplets_scores_flags_and_kind(page: Page, sky: tuple[Store, str]) -> None:
    assert page.run("return document.querySelectorAll('#wall .card').length") == 60
    assert page.run("return document.querySelectorAll('#wall .card:first-child img').length") == 3
    newest = [entry for _, entry in sky[0].ring.newest()][:60]
    assert page.texts(".name") == [entry.object_id for entry in newest]
    assert page.texts(".score") == [f"{round(entry.score, 6):.4f}" for entry in newest]
    assert page.texts(".label") == [f"{e.label}: {e.kind.replace('_', ' ')}" for e in newest]
    assert {"sn", "agn"} < {entry.kind for entry in newest}
    assert page.texts(".chip") == [flag for entry in newest for flag in entry.flags]
    assert page.texts(".truth")[0].startswith("simulated: ")
    for name in ("rate", "lag", "latency", "scores"):
        assert page.run(f"return document.querySelector('#{name} .reading b').textContent") != "–"
    page.run("document.getElementById('more').click()")
    page.until("document.querySelectorAll('#wall .card').length === 120")


def test_pictures_for_the_documentation(page: Page, sky: tuple[Store, str], tmp_path: Path) -> None:
    for late in range(0, 25, 5):  # the night goes on
        at = datetime.fromtimestamp(time.time() - late, UTC)
        sky[0].rates.add({"scored": 3, "degraded": 0, "rejected": {}, "at": at.isoformat()})
    page.until("Number(document.querySelector('#rate .reading b').textContent) > 0.3")
    save(page, "light", tmp_path)
    page.scheme("dark")
    save(page, "dark", tmp_path)
    page.open_card(2)
    page.until_pictures()
    save(page, "alert", tmp_path)
    page.press("Escape")
    page.screen(*PHONE, scale=2, mobile=True)
    page.run("document.activeElement.blur(); scrollTo(0, 0)")
    page.until("document.querySelector('#health .words').textContent === 'live'")
    save(page, "phone", tmp_path)


def test_one_alert_opens_with_packet_annotation_and_neighbours(page: Page, sky: tuple[Store, str]) -> None:
    page.open_card(2)
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


def test_the_filter(page: Page, sky: tuple[Store, str]) -> None:
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
    page.await_texts(".name", [entry.object_id for entry in flagged][:60])
    assert (
        page.run("return document.getElementById('matched').textContent")
        == f"{len(flagged)} of {len(entries)}"
    )
    wish(flag="", **{"class": "bogus"}, low="0.2", order="best")
    some = sorted((e for e in entries if e.label == "bogus" and e.score >= 0.2), key=lambda e: -e.logit)
    scores = [f"{entry.score:.4f}" for entry in some][:60]
    page.await_texts(".score", scores)
    assert "low=0.2" in page.run("return location.hash")
    page.run("location.reload()")
    page.await_texts(".score", scores)
    wish(low="", order="", text="no such object", **{"class": ""})
    page.until("!document.getElementById('nothing').hidden")
    page.run("document.forms.filter.reset()")
    page.until("document.querySelectorAll('#wall .card').length === 60")


def test_a_range_of_scores_is_picked_by_dragging(page: Page) -> None:
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
    assert all(0.7 <= float(score) <= 0.95 for score in page.texts(".score"))


def test_the_rejected_with_their_reasons(page: Page, sky: tuple[Store, str]) -> None:
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


def test_what_comes_is_shown_unless_paused(page: Page, sky: tuple[Store, str]) -> None:
    store = sky[0]
    oldest: Entry = store.ring.newest()[-1][1]
    store.ring.add(replace(oldest, object_id="ZTF26newcome"))
    page.until("document.querySelector('#wall .card .name').textContent === 'ZTF26newcome'")
    page.press("p")
    store.ring.add(
        replace(oldest, object_id="ZTF26pausing", planes={**oldest.planes, Plane.TEMPLATE: "stamp_missing"})
    )
    page.run("return new Promise(done => setTimeout(done, 4500))")
    assert "ZTF26pausing" not in page.texts(".name")
    assert page.run("return document.querySelector('#health .words').textContent") == "paused"
    page.press("p")
    page.until("document.querySelector('#wall .card .name').textContent === 'ZTF26pausing'")
    assert page.texts(".absent")[0] == "stamp missing"
