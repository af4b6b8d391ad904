"""The page in Chromium, for everybody: by keyboard, on a phone, in the dark, with contrast enough."""

from __future__ import annotations

from typing import Any

import pytest
from dashboard_page import PHONE, Page, needs_chromium

pytestmark = needs_chromium


def focused(browser: Page) -> int:
    place: int = browser.run(
        "return [...document.querySelectorAll('#wall .card')].indexOf(document.activeElement)"
    )
    return place


def test_by_keyboard_alone(page: Page) -> None:
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
    names = page.texts(".name")
    page.press("Enter")
    page.until_opened()
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


def test_every_control_is_reached_by_tab_and_shows_it(page: Page) -> None:
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
def test_contrast_is_enough(page: Page, scheme: str) -> None:
    """At least 4.5 to 1 for every text, as WCAG 2.2 AA (1.4.3) asks of small ones."""
    page.scheme(scheme)
    page.open_card()
    ratios: dict[str, float] = page.run(CONTRAST)
    assert len(ratios) > 20
    assert {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}


def test_the_theme_follows_the_system_or_the_switch(page: Page) -> None:
    ground = "return getComputedStyle(document.documentElement).backgroundColor"
    light = page.run(ground)
    page.scheme("dark")
    dark = page.run(ground)
    assert dark != light
    page.press("t")
    assert page.run(ground) == light
    page.run("location.reload()")
    page.shown()
    assert page.run(ground) == light
    page.scheme("light")
    page.press("t")
    assert page.run(ground) == dark
    page.press("t")
    assert page.run(ground) == light


def test_on_a_phone_nothing_runs_off_the_side(page: Page) -> None:
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
    page.open_card()
    assert too_wide() == []
    page.press("Escape")
    page.run("document.getElementById('tab-rejected').click()")
    page.until("document.querySelectorAll('#letters tr').length === 7")
    assert too_wide() == []
    small = page.run(
        "return [...document.querySelectorAll('button, input, select')].filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 24).map(e => e.outerHTML)"
    )
    assert small == []  # WCAG 2.2, 2.5.8
