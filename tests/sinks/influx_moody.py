"""A small HTTP server that stores lines as InfluxDB does, and answers as it is told to."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass
class Says:
    """One answer. ``status`` 0: the connection is reset; ``hang_s``: so long before anything."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    hang_s: float = 0.0


def refusal(status: int, code: str, message: str) -> Says:
    """As InfluxDB says it."""
    body = json.dumps({"code": code, "message": message}).encode()
    return Says(status, body, {"Content-Type": "application/json; charset=utf-8"})


class Moody:
    """``answers`` are given first, one a write; then ``judge`` says of the lines what to answer, None: 204.

    ``stored``: every row of a write that was answered 204; ``asked_s``: when writes came (monotonic).
    """

    def __init__(self, *answers: Says, judge: Callable[[list[bytes]], Says | None] | None = None) -> None:
        self.answers = list(answers)
        self.judge = judge or (lambda _: None)
        self.stored: list[bytes] = []
        self.asked_s: list[float] = []
        self.tokens: set[str] = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.tokens.add(self.headers["Authorization"])
                if not self.path.startswith("/api/v2/write"):
                    outer.ask(self, body)
                    return
                outer.write(self, body)

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def ask(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        """Anything but a write: an empty bucket's answer."""
        del body
        self.send(handler, Says(200, b"", {"Content-Type": "text/csv"}))

    def write(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        """One write."""
        self.asked_s.append(time.monotonic())
        lines = body.splitlines(keepends=True)
        says = self.answers.pop(0) if self.answers else self.judge(lines)
        if says is None:
            self.stored += [line for line in lines if not line.startswith(b"meterflow_results")]
            says = Says(204)
        time.sleep(says.hang_s)
        self.send(handler, says)

    def send(self, handler: BaseHTTPRequestHandler, says: Says) -> None:
        """An answer, or a reset."""
        if says.status == 0:
            linger = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.close_connection = True
            handler.connection.close()
            return
        handler.send_response_only(says.status)  # without a Date of its own
        for name, value in says.headers.items():
            handler.send_header(name, value)
        if says.status != 204:
            handler.send_header("Content-Length", str(len(says.body)))
        handler.end_headers()
        handler.wfile.write(says.body)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
