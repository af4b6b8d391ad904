"""Chromium without a window, driven over W3C WebDriver: JSON over HTTP, which needs no library."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

KEYS = {
    "Escape": "\ue00c", "Enter": "\ue007", "Tab": "\ue004", "Left": "\ue012", "Up": "\ue013", "Right": "\ue014",
    "Down": "\ue015", "End": "\ue010", "Home": "\ue011",
}  # fmt: skip
DEADLINE_S = 30.0


def missing() -> str:
    """Say what is not installed; empty: nothing."""
    return ", ".join(name for name in ("chromium", "chromedriver") if shutil.which(name) is None)


class Browser:
    """One browser, from ``with`` to the end of the block."""

    def __enter__(self) -> Self:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        quiet = subprocess.DEVNULL
        self._driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=quiet, stderr=quiet)
        self._root = f"http://127.0.0.1:{port}"
        self._session = ""
        self._await(lambda: self._call("GET", "/status")["ready"])
        arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"]
        wanted = {
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
            "unhandledPromptBehavior": "ignore",
        }
        made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{made['sessionId']}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._call("DELETE", self._session)
        finally:
            self._driver.terminate()
            self._driver.wait(30)

    def open(self, address: str) -> None:
        """Go there, as if for the first time."""
        self._call("POST", f"{self._session}/url", {"url": address})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page; ``arguments`` are its ``arguments``, and what it returns comes back."""
        return self._call(
            "POST", f"{self._session}/execute/sync", {"script": script, "args": list(arguments)}
        )

    def until(self, expression: str) -> None:
        """Wait for an expression to become true in the page."""
        self._await(lambda: self.run(f"return {expression}"), expression)

    def press(self, *keys: str) -> None:
        """Press keys by name, one after the other; what is no name is typed letter by letter."""
        strokes = [stroke for key in keys for stroke in ([KEYS[key]] if key in KEYS else key)]
        actions = [{"type": kind, "value": stroke} for stroke in strokes for kind in ("keyDown", "keyUp")]
        self._act({"type": "key", "id": "keys", "actions": actions})

    def drag(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        """Drag the mouse, in pixels of the window."""
        moves = [{"type": "pointerMove", "x": x, "y": y, "duration": 50} for x, y in (start, end)]
        actions = [
            moves[0],
            {"type": "pointerDown", "button": 0},
            moves[1],
            {"type": "pointerUp", "button": 0},
        ]
        self._act({"type": "pointer", "id": "mouse", "actions": actions})

    def screen(self, width: int, height: int, *, scale: float = 1, mobile: bool = False) -> None:
        """Be a screen of this many CSS pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile}
        self._devtools("Emulation.setDeviceMetricsOverride", metrics)

    def scheme(self, name: str) -> None:
        """Prefer ``light`` or ``dark``, as the system would."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self._devtools("Emulation.setEmulatedMedia", {"features": features})

    def picture(self, path: Path) -> None:
        """Save what is seen as PNG."""
        path.write_bytes(base64.b64decode(self._call("GET", f"{self._session}/screenshot")))

    def complaints(self) -> list[str]:
        """What the console has said since the last time: errors, and what the policy has blocked."""
        return [
            line["message"] for line in self._call("POST", f"{self._session}/se/log", {"type": "browser"})
        ]

    def _act(self, source: dict[str, Any]) -> None:
        self._call("POST", f"{self._session}/actions", {"actions": [source]})

    def _devtools(self, command: str, parameters: dict[str, Any]) -> None:
        self._call("POST", f"{self._session}/goog/cdp/execute", {"cmd": command, "params": parameters})

    def _await(self, true: Any, what: str = "chromedriver") -> None:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                if true():
                    return
            except OSError:
                pass
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {DEADLINE_S:g} s: {what}")
            time.sleep(0.05)

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        sent = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._root + path, sent, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise RuntimeError(f"{path}: {json.load(error)['value']['message'][:500]}") from None
