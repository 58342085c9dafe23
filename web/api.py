"""The endpoints under ``/api`` and the event stream, beside liveness, readiness and metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from metering.query import Format, Query, Results
from metering.roster import Roster
from web import params
from web.answers import encoded, failure, packed, readable
from web.health_routes import Health
from web.live import LiveFeed
from web.metrics import Metrics
from web.overview import Overview
from web.site import SERIES_ROWS_MAX, plant_detail, series, site
from web.status import Status

T = TypeVar("T")
THREADS = 4
"""Calls into the store at once: more would only wait for each other and starve the service."""
STREAMS_MAX = 200
OVERVIEW_FRESH_S = 5.0
OVERVIEW_EVERY_S = 1.0
MEDIA_TYPES: dict[Format, str] = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
}


@dataclass
class Pictures:
    """The overview, made at most once a second, once for all who ask at the same time."""

    overview: Overview
    results: Results
    status: Callable[[], Status]
    live: LiveFeed
    threads: anyio.CapacityLimiter
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _made_s: float = float("-inf")
    _published: int = -1
    _picture: dict[str, Any] = field(default_factory=dict)

    async def newest(self) -> dict[str, Any]:
        """The picture as the store stands and since the last event; nothing younger is held back."""
        async with self._lock:
            position = await anyio.to_thread.run_sync(self.results.position, limiter=self.threads)
            same = self._picture.get("position") == position
            age_s = time.monotonic() - self._made_s
            if same and self._published == self.live.published and age_s < OVERVIEW_FRESH_S:
                return self._picture
            await asyncio.sleep(max(0.0, OVERVIEW_EVERY_S - age_s))
            self._published = self.live.published
            make = partial(self.overview.picture, self.status(), int(time.time() * 1000))
            self._picture = await anyio.to_thread.run_sync(make, limiter=self.threads)
            self._made_s = time.monotonic()
            return self._picture


class Api(Health):
    """The endpoints' shared parts. Store calls run in threads, status calls on the event loop."""

    def __init__(
        self, results: Results, roster: Roster, status: Callable[[], Status], live: LiveFeed, metrics: Metrics
    ) -> None:
        super().__init__(status, metrics)
        self._results, self._roster, self._live = results, roster, live
        self._threads = anyio.CapacityLimiter(THREADS)
        self._pictures = Pictures(Overview(results, roster), results, status, live, self._threads)

    def routes(self) -> list[Route]:
        return [
            Route("/api/site", self.site),
            Route("/api/overview", self.overview),
            Route("/api/series", self.series),
            Route("/api/plant/{plant}", self.plant),
            Route("/api/rows/{table}", self.rows),
            Route("/api/export/{table}", self.export),
            Route("/events", self.events),
            *super().routes(),
        ]

    async def _answer(self, request: Request, make: Callable[[], object]) -> Response:
        """Makes, encodes and compresses an answer off the event loop."""
        call = partial(_made, request, make)
        return await anyio.to_thread.run_sync(call, limiter=self._threads)

    async def site(self, request: Request) -> Response:
        return await self._answer(request, partial(site, self._roster, self._status().version))

    async def overview(self, request: Request) -> Response:
        picture = await self._pictures.newest()
        return await self._answer(request, lambda: picture)

    async def rows(self, request: Request) -> Response:
        query = params.rows_query(request.path_params["table"], request.query_params)
        return await self._answer(request, partial(self._rows, query))

    def _rows(self, query: Query) -> dict[str, Any]:
        assert query.limit is not None
        rows = self._results.rows(replace(query, limit=query.limit + 1))
        kept = readable(query.table, rows[: query.limit])
        return {"table": query.table, "rows": kept, "more": len(rows) > query.limit}

    async def series(self, request: Request) -> Response:
        given = request.query_params
        for name in ("scope", "id", "window"):
            if name not in given:
                raise params.BadParameter(f"{name} is missing", "give scope, id and window")
        asked = params.rows_query("intensity", given)
        query = replace(asked, newest_first=True, limit=SERIES_ROWS_MAX)
        return await self._answer(request, partial(series, self._results, query))

    async def plant(self, request: Request) -> Response:
        as_of_ms = params.as_of_ms(request.query_params)
        of = (self._roster, request.path_params["plant"], self._status(), as_of_ms)
        make = partial(plant_detail, self._results, *of)
        return await self._answer(request, make)

    async def export(self, request: Request) -> Response:
        """The first chunk is fetched before the answer starts, so that errors still have a status."""
        query, form = params.export_query(request.path_params["table"], request.query_params)
        headers = {"content-disposition": f'attachment; filename="{query.table}.{form}"'}
        if request.method == "HEAD":
            return Response(headers=headers, media_type=MEDIA_TYPES[form])
        chunks = await self._in_thread(lambda: self._results.export(query, form))
        first = await self._in_thread(lambda: next(chunks, b""))
        return StreamingResponse(self._stream(first, chunks), headers=headers, media_type=MEDIA_TYPES[form])

    async def _stream(self, first: bytes, chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
        """Chunks fetched in threads; the store's cursor is let go of when the client has gone."""
        try:
            yield first
            while (chunk := await self._in_thread(lambda: next(chunks, None))) is not None:
                yield chunk
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                with anyio.CancelScope(shield=True):
                    await self._in_thread(close)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(call, limiter=self._threads)

    async def events(self, request: Request) -> Response:
        headers = {"x-accel-buffering": "no"}
        if request.method == "HEAD":
            return Response(headers=headers, media_type="text/event-stream")
        if self._live.clients >= STREAMS_MAX:
            return failure("too many open pages", "close some, or try again later", 503)
        return StreamingResponse(
            self._live.stream(self._pictures.newest), headers=headers, media_type="text/event-stream"
        )


def _made(request: Request, make: Callable[[], object]) -> Response:
    return packed(request, encoded(make()))
