"""Server-sent events: what a page hears, and what a slow one costs."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import httpx
import pytest

from metering.errors import Unavailable
from tests.web.web_site import NOON_MS, Served, figure, wait_until
from web.live import LiveFeed, changed

Serving = Callable[..., Served]
Event = dict[str, str]


def events(lines: Iterator[str]) -> Iterator[Event]:
    """Events of a stream as the standard cuts them: at empty lines; comments have the field ``""``."""
    event: Event = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            event[name] = value.removeprefix(" ")
        elif event:
            yield event
            event = {}


@contextmanager
def listening(one: Served) -> Iterator[Iterator[Event]]:
    with httpx.stream("GET", f"{one.address}/events", timeout=10) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield events(answer.iter_lines())


def test_a_connection_begins_with_the_whole_picture(served: Serving) -> None:
    """Also after a break: what was missed is in it. The browser is told when to come again."""
    one = served()
    for value in (600.0, 610.0):
        one.site.put({"intensity": [figure(NOON_MS, value, revision=int(value))]})
        with listening(one) as stream:
            hint, first = next(stream), next(stream)
        assert hint == {"retry": "2000"}
        assert (first["event"], "id" in first) == ("overview", True)
        windows = json.loads(first["data"])["scopes"][0]["figures"][0]["windows"]
        assert windows["1h"]["complete"][0]["value"] == value


def test_what_is_stored_is_told_at_once(served: Serving) -> None:
    """Tables, scopes and span of what changed, with a growing id."""
    one = served()
    with listening(one) as stream:
        _, first = next(stream), next(stream)
        one.site.put({"intensity": [figure(NOON_MS, 600.0)]})
        stored = next(stream)
    assert stored["event"] == "stored"
    assert int(stored["id"]) > int(first["id"])
    assert json.loads(stored["data"])["tables"]["intensity"]["scopes"] == ["plant:steel-1"]


def test_a_closed_page_is_forgotten(served: Serving) -> None:
    """Nothing is kept for who has gone."""
    one = served()
    with listening(one) as stream:
        next(stream), next(stream)
        assert one.site.live.clients == 1
    wait_until(lambda: one.site.live.clients == 0)


def test_the_server_stops_although_pages_are_open(served: Serving) -> None:
    """Streams end by themselves; the stop takes less than the five seconds a service has."""
    one = served()
    with listening(one) as stream:
        next(stream), next(stream)
        began = time.monotonic()
        stop = asyncio.run_coroutine_threadsafe(one.server.stop(), one.loop)
        assert list(stream) == []
        stop.result(5)
    assert time.monotonic() - began < 3


def test_changes_name_tables_scopes_and_times() -> None:
    """Rows with a plant but no scope count for their plant; tables without rows are left out."""
    interval = {"plant": "dye-1", "end": 5, "amount": Decimal(1)}
    tables = {"intensity": [figure(20, 1.0), figure(10, 2.0)], "interval": [interval], "alert": []}
    assert changed(tables, 7) == {
        "position": 7,
        "tables": {
            "intensity": {"rows": 2, "scopes": ["plant:steel-1"], "from": 10, "to": 20},
            "interval": {"rows": 1, "scopes": ["plant:dye-1"], "from": 5, "to": 5},
        },
    }


async def picture() -> dict[str, Any]:
    return {"name": "line\nbreak"}


def run(feed: LiveFeed, act: Callable[[], None], reads: int) -> list[Event]:
    """The events of ``reads`` reads from a stream after ``act``."""

    async def read() -> list[Event]:
        stream = feed.stream(picture)
        start = await anext(stream) + await anext(stream)
        act()
        rest = b"".join([await anext(stream) for _ in range(reads)])
        await stream.aclose()  # type: ignore[attr-defined]
        return list(events(iter((start + rest).decode().splitlines())))

    return asyncio.run(read())


def test_a_slow_page_gets_one_refresh_instead_of_a_growing_queue() -> None:
    """A thousand events for a page that does not read become at most the bound, and a refresh."""
    feed = LiveFeed(pending_max=8)

    def flood() -> None:
        for number in range(1_000):
            feed.publish("stored", {"position": number})

    found = run(feed, flood, 1)[2:]
    assert found[0]["event"] == "refresh"
    assert len(found) <= 8
    assert found[-1]["data"] == '{"position":999}'


def test_a_page_that_keeps_up_gets_every_event() -> None:
    """Below the bound nothing is dropped or reordered."""
    feed = LiveFeed(pending_max=8)

    def fill() -> None:
        for number in range(8):
            feed.publish("stored", {"position": number})

    found = run(feed, fill, 1)
    assert [json.loads(e["data"])["position"] for e in found[2:]] == list(range(8))


def test_silence_is_broken_by_comments() -> None:
    """Proxies and half-open connections are kept honest."""
    found = run(LiveFeed(heartbeat_s=0.01), lambda: None, 2)
    assert found[2:] == [{"": "still here"}, {"": "still here"}]


def test_line_breaks_in_data_cannot_make_events() -> None:
    """A name with a line break in it stays inside its event."""
    found = run(LiveFeed(heartbeat_s=0.01), lambda: None, 0)
    assert json.loads(found[1]["data"]) == {"name": "line\nbreak"}


def test_nothing_published_while_the_picture_is_made_is_missed() -> None:
    """The page is subscribed first, and hears it after the picture."""
    feed = LiveFeed(heartbeat_s=0.01)

    async def slow() -> dict[str, Any]:
        feed.publish("stored", {"position": 1})
        return {}

    async def read() -> list[bytes]:
        stream = feed.stream(slow)
        return [await anext(stream) for _ in range(3)]

    assert b"event: stored" in asyncio.run(read())[2]


def test_a_store_that_does_not_answer_is_said_and_the_stream_ends() -> None:
    """The browser tries again by itself."""

    async def broken() -> dict[str, Any]:
        raise Unavailable("the store is locked", hint="wait")

    async def read() -> list[bytes]:
        return [chunk async for chunk in LiveFeed().stream(broken)]

    assert (
        b'event: unavailable\ndata: {"error":"the store is locked","hint":"wait"}' in asyncio.run(read())[1]
    )


@pytest.mark.parametrize("clients", [0, 3])
def test_publishing_never_waits(clients: int) -> None:
    """The service's loop is not held up by pages, however many."""
    feed = LiveFeed()

    async def publish() -> float:
        streams = [feed.stream(picture) for _ in range(clients)]
        for stream in streams:
            await anext(stream)
        began = time.perf_counter()
        for number in range(1_000):
            feed.publish("stored", {"position": number})
        return time.perf_counter() - began

    assert asyncio.run(publish()) < 0.5
