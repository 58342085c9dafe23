"""Lines of several tables in as few requests as hold them: one is under way while the next is made.

What a request costs InfluxDB beside its lines (a write-ahead log made durable for each shard it touches)
is paid once for all tables of a batch. The order of requests is the order of lines.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace

from sinks.influx_lines import Lines
from sinks.influx_writer import InfluxWriter, Refused

PENDING_MAX = 2
"""Requests that wait for their turn, with their lines."""

Told = Callable[[Sequence[Refused]], None]
"""Is told which lines of a piece were refused, by their index in it; not called when none was."""
_Piece = tuple[Lines, Told]


class Outbox:
    """Used by one thread, in which ``told`` is called, too. ``close`` it at the end."""

    def __init__(self, writer: InfluxWriter, lines_max: int) -> None:
        self._writer, self._lines_max = writer, lines_max
        self._pieces: list[_Piece] = []
        self._lines = 0
        self._pool = ThreadPoolExecutor(1, "influxdb")
        self._pending: deque[tuple[list[_Piece], Future[list[Refused]]]] = deque()

    def put(self, lines: Lines, told: Told) -> None:
        """Takes a piece into the next request, which goes when it is full."""
        if self._lines + len(lines) > self._lines_max:
            self.cut()
        if len(lines):
            self._pieces.append((lines, told))
            self._lines += len(lines)
        if self._lines >= self._lines_max:
            self.cut()

    def cut(self) -> None:
        """What comes behind this is in a later request than what came before."""
        if self._pieces:
            pieces, self._pieces, self._lines = self._pieces, [], 0
            body = Lines.together([lines for lines, _ in pieces])
            self._pending.append((pieces, self._pool.submit(self._writer.write, body)))
            if len(self._pending) > PENDING_MAX:
                self._finish()

    def drain(self) -> None:
        """Returns when everything is stored or refused. Raises what ended the writer."""
        self.cut()
        while self._pending:
            self._finish()

    def forget(self) -> None:
        """Waits for what is under way and lets go of the rest."""
        wait([request for _, request in self._pending])
        self._pending.clear()
        self._pieces, self._lines = [], 0

    def close(self) -> None:
        """Ends its thread."""
        self._pool.shutdown()

    def _finish(self) -> None:
        pieces, request = self._pending.popleft()
        _tell(pieces, request.result())


def _tell(pieces: Sequence[_Piece], refused: Sequence[Refused]) -> None:
    first = 0
    for lines, told in pieces if refused else ():
        mine = [
            replace(one, index=one.index - first) for one in refused if 0 <= one.index - first < len(lines)
        ]
        if mine:
            told(mine)
        first += len(lines)
