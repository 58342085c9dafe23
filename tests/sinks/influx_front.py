"""Before a real InfluxDB: passes on what comes, and answers in its place where it is told to."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler

from tests.sinks.influx_moody import Moody, Says

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_PASSED_ON = ("Authorization", "Content-Type", "Content-Encoding", "Accept")
_TIMEOUT_S = 30.0
LATE = Says(-1)
"""InfluxDB gets the write, and its answer is lost."""


class Front(Moody):
    """``answers``: one a write, before any is passed on; None is passed on.

    ``pauses``: for each answer with a Retry-After in seconds, how long nothing came after it.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.answers: list[Says | None] = []  # type: ignore[assignment]
        self.pauses: list[tuple[float, float]] = []
        self._to = url
        self._asked: tuple[float, float] | None = None

    def ask(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        self._came()
        self.send(handler, self._passed_on(handler, body))

    def write(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        self._came()
        says = self.answers.pop(0) if self.answers else None
        if says is None or says is LATE:
            answer = self._passed_on(handler, body)
            says = Says(0) if says is LATE else answer
        if "Retry-After" in says.headers:
            self._asked = float(says.headers["Retry-After"]), time.monotonic()
        self.send(handler, says)

    def _came(self) -> None:
        if self._asked is not None:
            asked_s, since_s = self._asked
            self._asked = None
            self.pauses.append((asked_s, time.monotonic() - since_s))

    def _passed_on(self, handler: BaseHTTPRequestHandler, body: bytes) -> Says:
        headers = {name: handler.headers[name] for name in _PASSED_ON if handler.headers[name]}
        request = urllib.request.Request(self._to + handler.path, body, headers, method="POST")
        try:
            with _OPENER.open(request, timeout=_TIMEOUT_S) as answer:
                return Says(answer.status, answer.read(), _kind(answer.headers))
        except urllib.error.HTTPError as error:
            return Says(error.code, error.read(), _kind(error.headers))
        except OSError:
            return Says(0)


def _kind(headers: object) -> dict[str, str]:
    kind = headers.get("Content-Type")  # type: ignore[attr-defined]
    return {"Content-Type": kind} if kind else {}
