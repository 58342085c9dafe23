"""Who may read: token, cookie, host check, and the headers that every answer carries."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections import deque
from collections.abc import Iterable, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from metering.errors import UsageError

COOKIE = "meterflow_session"
COOKIE_AGE_S = 90 * 86_400
"""A wall screen stays logged in; the age starts anew each time the page is opened."""
OPEN_PATHS = frozenset({"/livez"})
CONTENT_POLICY = (
    "default-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
HEADERS: Mapping[str, str] = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
FAILURES_MAX = 10
FAILURES_WINDOW_S = 60.0


def with_headers(headers: MutableHeaders) -> None:
    """Adds what is missing; an answer may state a stricter or its own value."""
    for name, value in HEADERS.items():
        headers.setdefault(name, value)


class SecurityHeaders:
    """Adds the headers to every answer of the app beneath it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                with_headers(MutableHeaders(scope=message))
            await send(message)

        await self.app(scope, receive, send_secured if scope["type"] == "http" else send)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_name(header: str) -> str:
    """A Host header without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()


class HostCheck:
    """Without a token only this machine's own names are answered.

    A page of another site may have its name resolve to 127.0.0.1 (DNS rebinding) and would then
    read everything; its name in the Host header gives it away.
    """

    def __init__(self, app: ASGIApp, *, allowed: Iterable[str] | None) -> None:
        self.app = app
        self.allowed = None if allowed is None else {name.lower() for name in allowed}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or self._knows(Headers(scope=scope)):
            await self.app(scope, receive, send)
            return
        error = {
            "error": "this service does not answer to that host name",
            "hint": "use http://127.0.0.1 or localhost",
        }
        await JSONResponse(error, 421)(scope, receive, send)

    def _knows(self, headers: Headers) -> bool:
        if self.allowed is None:
            return True
        name = host_name(headers.get("host", ""))
        return name in self.allowed or is_loopback(name)


class Guard:
    """Compares tokens in constant time and slows down guessing."""

    def __init__(self, token: str | None) -> None:
        if token is not None and not token.strip():
            raise UsageError("the page's token is empty", hint="give a long random token, or none at all")
        self.token = token
        self._failures: dict[str, deque[float]] = {}

    @property
    def required(self) -> bool:
        return self.token is not None

    def accepts(self, token: str) -> bool:
        return self.token is not None and hmac.compare_digest(_digest(token), _digest(self.token))

    def cookie(self) -> str:
        """What the browser keeps: derived from the token, so a new token ends every session."""
        return hmac.new(_digest(self.token or ""), b"meterflow page session 1", hashlib.sha256).hexdigest()

    def admits(self, connection: HTTPConnection) -> bool:
        if not self.required:
            return True
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.accepts(token.strip()):
            return True
        kept = connection.cookies.get(COOKIE, "").encode(errors="replace")
        return hmac.compare_digest(kept, self.cookie().encode())

    def blocked(self, address: str) -> bool:
        """Whether an address has failed too often within the last minute."""
        recent = self._failures.get(address)
        if recent is None:
            return False
        while recent and recent[0] < time.monotonic() - FAILURES_WINDOW_S:
            recent.popleft()
        if not recent:
            del self._failures[address]
        return len(recent) >= FAILURES_MAX

    def failed(self, address: str) -> None:
        if len(self._failures) > 10_000:
            self._failures.clear()
        self._failures.setdefault(address, deque(maxlen=FAILURES_MAX)).append(time.monotonic())


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()
