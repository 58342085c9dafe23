"""A way to InfluxDB that stops in the midst of a large request until it is opened."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit


class Gate:
    """Passes everything on, but of the first request of more than ``bytes_max`` only so much.

    ``held``: it has come so far. ``open``: its rest goes on; ``answered``: InfluxDB has answered it, which
    whoever sent it is not told.
    """

    def __init__(self, url: str, bytes_max: int) -> None:
        to = urlsplit(url)
        self._to = (to.hostname or "", to.port or 0)
        self._bytes_max = bytes_max
        self.held, self._opened, self.answered = threading.Event(), threading.Event(), threading.Event()
        self._server = socket.socket()
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)  # the rest stays with the sender
        self._server.bind(("127.0.0.1", 0))
        self._server.listen()
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def open(self) -> None:
        self._opened.set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.set()
        self._server.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._server.accept()
                there = socket.create_connection(self._to)
                asked = [0]
                threading.Thread(target=self._up, args=(here, there, asked), daemon=True).start()
                threading.Thread(target=self._down, args=(there, here, asked), daemon=True).start()

    def _up(self, here: socket.socket, there: socket.socket, asked: list[int]) -> None:
        with suppress(OSError):
            while data := here.recv(8192):
                there.sendall(data)
                asked[0] += len(data)
                if asked[0] > self._bytes_max and not self.held.is_set():
                    self.held.set()
                    self._opened.wait()

    def _down(self, there: socket.socket, here: socket.socket, asked: list[int]) -> None:
        with suppress(OSError):
            while data := there.recv(65536):
                if asked[0] > self._bytes_max:
                    self.answered.set()
                else:
                    here.sendall(data)
                    asked[0] = 0
