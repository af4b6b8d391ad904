"""The dashboard's page in Chromium: a browser that knows its way about it."""

from __future__ import annotations

from typing import Any

import pytest
from chromium import Browser, missing

PHONE = (390, 844)
DESK = (1440, 900)

needs_chromium = pytest.mark.skipif(
    bool(missing()),
    reason=f"not tried in a browser: no {missing()} (Debian: apt-get install chromium chromium-driver)",
)


class Page(Browser):
    """What is waited for, read and pressed again and again."""

    def shown(self) -> None:
        """Wait until the wall is there, with every picture that is within the window."""
        self.until("document.querySelectorAll('#wall .card').length > 0")
        self.until(
            "document.querySelector('#rate svg path') !== null && document.querySelector('#scores svg rect') !== null"
        )
        self.until_pictures()

    def until_pictures(self) -> None:
        """Wait for every picture that has been begun."""
        self.until("[...document.images].every(image => image.complete && image.naturalWidth > 0)")

    def texts(self, part: str) -> list[str]:
        """What a part of each card says, from the newest on."""
        found: list[str] = self.run(
            f"return [...document.querySelectorAll('#wall .card {part}')].map(e => e.textContent)"
        )
        return found

    def await_texts(self, part: str, texts: list[Any]) -> None:
        """Wait until a part of each card says so."""
        cards = f"[...document.querySelectorAll('#wall .card {part}')].map(e => e.textContent).join()"
        self.until(f"{cards} === {','.join(texts)!r}")

    def open_card(self, number: int = 0) -> None:
        """Open an alert by its card, and wait for its neighbours."""
        self.run(f"document.querySelectorAll('#wall .card')[{number}].click()")
        self.until_opened()

    def until_opened(self) -> None:
        """Wait until one alert is open, with its neighbours."""
        self.until("document.querySelector('#detail[open] .near .card') !== null")
