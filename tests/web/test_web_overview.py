"""What the overview asks of a long table: few rows near its end, and not all of its past."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bus.frames import decode_table, encode_rows
from metering.query import Query
from sinks.store_duckdb import DuckStore, open_store
from tests.web.web_site import DYE, HOUR_MS, NOON_MS, STEEL, figure, history, site
from web.overview import OPEN, OPEN_BACK_MS, Overview
from web.status import Status

DAY_MS = 24 * HOUR_MS


class Listening:
    """A store; ``asked`` are the queries that came."""

    def __init__(self, store: DuckStore) -> None:
        self._store = store
        self.asked: list[Query] = []
        self.position, self.export = store.position, store.export

    def rows(self, query: Query) -> list[dict[str, Any]]:
        self.asked.append(query)
        return self._store.rows(query)

    def put(self, rows: list[dict[str, Any]]) -> None:
        self._store.write([decode_table(encode_rows("intensity", rows, 1))], 1)


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Listening]:
    with closing(open_store(tmp_path / "results.duckdb")[0]) as store:
        yield Listening(store)


def open_windows(results: Listening) -> dict[str, list[str]]:
    """The ends of the open windows of one hour, by scope."""
    picture = Overview(results, site(STEEL, DYE)).picture(Status(), NOON_MS)
    return {
        scope["scope"]: [row["end"] for row in scope["figures"][0]["windows"]["1h"]["open"]]
        for scope in picture["scopes"]
    }


def test_open_windows_are_looked_for_behind_the_newest_complete_one(results: Listening) -> None:
    """In a table without any, a store would look through the whole past for them."""
    results.put(history(NOON_MS, 90, float))
    assert open_windows(results)["plant:steel-1"] == []
    (asked,) = [
        query
        for query in results.asked
        if query.equal.get("state") == OPEN and "1h" in query.equal["window"] and "scope" not in query.equal
    ]
    assert asked.from_ms == NOON_MS - OPEN_BACK_MS


def test_an_open_window_of_a_plant_far_behind_is_found(results: Listening) -> None:
    """One whose readings wait since days: behind its own newest complete window."""
    then = NOON_MS - 5 * DAY_MS
    waits = {"scope": "plant:dye-1", "product": "cloth"}
    results.put([*history(NOON_MS, 90, float), figure(then, 1.0, **waits)])
    results.put([figure(then + 60_000, None, state="open", **waits)])
    assert open_windows(results)["plant:dye-1"] == ["2026-11-17T04:01:00Z"]


def test_open_windows_of_a_plant_that_has_no_complete_one_are_found(results: Listening) -> None:
    """However far back they are."""
    waits = {"scope": "plant:dye-1", "product": "cloth", "state": "open"}
    results.put([*history(NOON_MS, 90, float), figure(NOON_MS - 9 * DAY_MS, None, **waits)])
    assert open_windows(results)["plant:dye-1"] == ["2026-11-13T04:00:00Z"]
