"""A TCP proxy before a broker that swallows answers: what a client sees of a network that fails late."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from typing import Self

PRODUCE, END_TXN = 0, 26
_SIZE = struct.Struct(">i")
_HEAD = struct.Struct(">hhi")


class Proxy:
    """``swallow``: of requests with these keys, how many answers are still to be kept back."""

    def __init__(self, port: int, broker_port: int) -> None:
        self.swallow: dict[int, int] = {}
        self.swallowed = 0
        self._port, self._broker_port = port, broker_port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._broker_port)
        except OSError:
            writer.close()
            return
        keys: deque[int] = deque()
        for work in (self._requests(reader, to_writer, keys), self._answers(to_reader, writer, keys)):
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, keys: deque[int]
    ) -> None:
        try:
            while True:
                size = await reader.readexactly(4)
                body = await reader.readexactly(_SIZE.unpack(size)[0])
                keys.append(_HEAD.unpack_from(body)[0])
                writer.write(size + body)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, keys: deque[int]
    ) -> None:
        try:
            while True:
                size = await reader.readexactly(4)
                body = await reader.readexactly(_SIZE.unpack(size)[0])
                key = keys.popleft()
                if self.swallow.get(key, 0) > 0:
                    self.swallow[key] -= 1
                    self.swallowed += 1
                    await asyncio.sleep(60)  # nothing more comes on this connection, and nobody says so
                writer.write(size + body)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
