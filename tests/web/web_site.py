"""A small site, result rows, a real store, and the app really served in an event loop of its own."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import httpx

from bus.frames import decode_table, encode_rows
from metering.policy import Policy
from metering.roster import AlertRule, Group, Intensity, Plant, Point, Roster, Target
from metering.units import UNITS
from sinks.store_duckdb import DuckStore
from web.app import NOBODY, Deciding, LiveFeed, Server, create_app, serve
from web.live import changed
from web.status import Hop, Status

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
NOON_MS = 1_795_320_000_000
"""2026-11-22T04:00:00Z, noon in Shanghai."""
ROLLING_MS = {"15m": 15 * MINUTE_MS, "1h": HOUR_MS, "8h": 8 * HOUR_MS, "24h": 24 * HOUR_MS}
WINDOWS = tuple(ROLLING_MS)
POINTS = (("main", "electricity", "kWh"), ("intake", "water", "m3"), ("count", "output", "t"))


def site(*plants: tuple[str, str, str], targets: bool = True) -> Roster:
    """A roster of plants given as (id, name, product), all in one park."""
    points = [
        _point(3 * i + j, i, name, measures, unit, plant[2] if measures == "output" else "")
        for i, plant in enumerate(plants)
        for j, (name, measures, unit) in enumerate(POINTS)
    ]
    scopes = [(f"plant:{plant}", product) for plant, _, product in plants]
    return Roster(
        version="5eed" * 16,
        policy=Policy("cn-2025", "2025.1", "0" * 64, {}, {}, {}),
        plants=tuple(
            Plant(
                i, *plant[:2], "Asia/Shanghai", "", ("electricity",), (3 * i, 3 * i + 1, 3 * i + 2), ("park",)
            )
            for i, plant in enumerate(plants)
        ),
        groups=(Group("park", "Changsha park", "park", "Asia/Shanghai", tuple(range(len(plants)))),),
        points=tuple(points),
        intensities=tuple(i for scope, product in scopes for i in _intensities(scope, product)),
        targets=tuple(Target(s, "kwh-per-t", 600.0, 2026, "600 by 2026") for s, _ in scopes if targets),
        alerts=tuple(
            AlertRule("hot", s, "kwh-per-t", "1h", True, 620.0, 600.0, 10 * MINUTE_MS, "warning")
            for s, _ in scopes
        ),
        names={plant[0]: {p[0]: 3 * i + j for j, p in enumerate(POINTS)} for i, plant in enumerate(plants)},
    )


def _point(index: int, plant: int, name: str, measures: str, unit: str, product: str) -> Point:
    return Point(
        index,
        plant,
        name,
        measures,
        "register",
        UNITS[unit],
        product,
        line="",
        role="supply",
        sign=1,
        expect_ms=MINUTE_MS,
        base_ms=MINUTE_MS,
        patience_ms=10 * MINUTE_MS,
        limit_per_hour=None,
        installations=(),
    )


def _intensities(scope: str, product: str) -> Iterator[Intensity]:
    yield Intensity("kwh-per-t", scope, "electricity", "kWh", product, product, "t", 1, (*WINDOWS, "month"))
    yield Intensity("m3-per-t", scope, "water", "m3", product, product, "t", 1, WINDOWS)


def figure(end_ms: int, value: float | None, **other: Any) -> dict[str, Any]:
    """A row of ``intensity``: a complete 1 h window of kWh/t of steel-1 unless told otherwise."""
    window = other.get("window", "1h")
    row = {
        "scope": "plant:steel-1",
        "id": "kwh-per-t",
        "product": "billet",
        "window": window,
        "start": end_ms - ROLLING_MS.get(window, HOUR_MS),
        "end": end_ms,
        "numerator": None if value is None else Decimal(str(round(value * 10, 3))),
        "denominator": Decimal(10),
        "value": value,
        "unit": "kWh/t",
        "target": 600.0,
        "covers": "electricity",
        "reason": "numerator_incomplete" if value is None else "",
        "measured_share": 0.5 if value is None else 1.0,
        "uncertainty": None,
        "policy": "cn-2025 2025.1",
        "state": "final",
        "revision": 0,
        "cause": "",
        "reported": end_ms + 1_000,
    }
    return row | other


def history(
    end_ms: int, minutes: int, value: Callable[[int], float | None], **other: Any
) -> list[dict[str, Any]]:
    """A minute's grid of figures up to ``end_ms``; ``value`` takes how many minutes back it is."""
    return [figure(end_ms - back * MINUTE_MS, value(back), **other) for back in range(minutes, -1, -1)]


def wave(back: int) -> float:
    return 600 + 40 * math.sin(back / 37)


@dataclass
class Site:
    """A store and what else the page reads; ``put`` stores rows and tells the open pages."""

    roster: Roster
    store: DuckStore
    live: LiveFeed = field(default_factory=LiveFeed)
    state: Status = field(default_factory=lambda: Status(version="0.1.0", hops={"ingest": Hop(5, 3, 1, 1)}))
    loop: asyncio.AbstractEventLoop | None = None
    position: int = 0

    def put(self, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        self.position += 1
        frames = [decode_table(encode_rows(name, rows, self.position)) for name, rows in tables.items()]
        self.store.write(frames, self.position)
        if self.loop is not None:
            self.loop.call_soon_threadsafe(self.live.publish, "stored", changed(tables, self.position))

    def status(self, **values: Any) -> None:
        self.state = replace(self.state, **values)


class Served:
    """The app behind a real port, on an event loop in a thread of its own."""

    def __init__(self, site: Site, token: str | None = None, deciding: Deciding = NOBODY) -> None:
        self.site = site
        self._token, self._deciding = token, deciding
        self.start()
        self.address = self.server.address.rstrip("/")
        self.client = httpx.Client(base_url=self.address, timeout=10)

    def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._started: Future[Server] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(host, port)), daemon=True)
        self._thread.start()
        self.server = self._started.result(10)

    async def _serve(self, host: str, port: int) -> None:
        self._stop = asyncio.Event()
        self.loop = self.site.loop = asyncio.get_running_loop()
        site = self.site
        app = create_app(
            site.store,
            site.roster,
            status=lambda: site.state,
            token=self._token,
            live=site.live,
            deciding=self._deciding,
        )
        try:
            server = await serve(app, host, port)
        except BaseException as error:
            self._started.set_exception(error)
            raise
        self._started.set_result(server)
        await self._stop.wait()
        await server.stop()

    def stop(self) -> None:
        if not self._thread.is_alive():
            return
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the server did not stop"


def wait_until(true: Callable[[], bool], seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


STEEL = ("steel-1", "Steel works 1", "billet")
DYE = ("dye-1", "Dye works 1", "cloth")
