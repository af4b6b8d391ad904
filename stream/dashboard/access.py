"""Who may see the page, and what a browser may do with it.

On this machine's own addresses anyone may, but only under a name of this machine: a page from elsewhere that
points its own name at 127.0.0.1 (DNS rebinding) is turned away. On any other address a token is asked for, in
``Authorization: Bearer TOKEN`` or once as ``?token=TOKEN``, which becomes a cookie and leaves the address bar.
The cookie does not hold the token but what a key derived from it signs, and every comparison takes the same time
whatever is offered.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import Final

from space2vec.schemas.errors import ConfigError
from space2vec.schemas.settings import DashboardSettings

SHORTEST_TOKEN: Final = 16
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Sent with every answer."""
_BEARER: Final = "Bearer "
_COOKIE: Final = "space2vec"


class Access:
    """Decides on requests.

    Parameters
    ----------
    settings : DashboardSettings
        Address and token.

    Raises
    ------
    ConfigError
        If the address is open to others and there is no token, or the token is short.
    """

    def __init__(self, settings: DashboardSettings) -> None:
        self._token = settings.token.get_secret_value().encode() if settings.token is not None else b""
        self._names = {"localhost", settings.host.lower()}
        if not self._token and not _is_local(settings.host):
            raise ConfigError(
                f"dashboard.host {settings.host}: others can reach it, so it needs a token: "
                "SPACE2VEC_DASHBOARD__TOKEN_FILE names a file that holds one"
            )
        if self._token and len(self._token) < SHORTEST_TOKEN:
            raise ConfigError(f"dashboard.token: at least {SHORTEST_TOKEN} characters")
        key = hashlib.sha256(b"space2vec dashboard\0" + self._token).digest()
        self._pass = hmac.new(key, b"cookie", "sha256").hexdigest()

    def refuses(self, host: str) -> bool:
        """Whether a request under this ``Host`` is to be turned away: no name of ours, and no token asked for."""
        if self._token:
            return False
        name = host.lower()
        if not name.endswith("]"):
            name = name.rpartition(":")[0] or name
        name = name.strip("[]")
        return name not in self._names and not _is_local(name)

    def admits(self, authorization: str, cookie: str) -> bool:
        """Whether a request with these headers may see anything."""
        if not self._token:
            return True
        if authorization.startswith(_BEARER):
            return self.knows(authorization.removeprefix(_BEARER).strip())
        try:
            held = SimpleCookie(cookie).get(_COOKIE)
        except CookieError:
            return False
        return held is not None and hmac.compare_digest(held.value.encode(), self._pass.encode())

    def knows(self, token: str) -> bool:
        """Whether this is the token."""
        return bool(self._token) and hmac.compare_digest(token.encode(), self._token)

    def cookie(self) -> str:
        """The cookie for a browser that has shown the token: for this server alone, out of scripts' reach."""
        return f"{_COOKIE}={self._pass}; Path=/; HttpOnly; SameSite=Lax"


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
