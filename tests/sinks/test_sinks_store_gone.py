"""Rows that are no more: a negative position, -p - 1, says that since p a key has no row."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from metering.query import Query
from metering.tables import POSITION
from sinks.store_duckdb import DuckStore
from tests.sinks.conftest import NOON_MS

Row = dict[str, Any]


def _amounts(store: DuckStore, **query: Any) -> list[Decimal]:
    return [row["amount"] for row in store.rows(Query("interval", **query))]


def test_a_row_that_is_no_more_is_not_shown(
    store: DuckStore, interval: Callable[..., Row], frame: Any
) -> None:
    """Neither in the newest rows nor in an export; what was said before stays in the history."""
    store.write([frame("interval", [interval(**{POSITION: 3})])], 1)
    gone = interval(amount=None, state="revised", revision=1, reported=NOON_MS + 9000, **{POSITION: -8})
    store.write([frame("interval", [gone])], 2)
    assert _amounts(store) == []
    assert _amounts(store, history=True) == [Decimal(1)]
    assert _amounts(store, as_of_ms=NOON_MS + 5000) == [Decimal(1)]
    assert _amounts(store, as_of_ms=NOON_MS + 9000) == []
    assert b"steel-1" not in b"".join(store.export(Query("interval"), "csv"))


def test_an_older_row_that_comes_again_stays_away(
    store: DuckStore, interval: Callable[..., Row], frame: Any
) -> None:
    """A replay from before brings the old row; the key has had no row since."""
    store.write([frame("interval", [interval(**{POSITION: -8})])], 1)
    store.write([frame("interval", [interval(**{POSITION: 3})])], 2)
    assert _amounts(store) == []
    store.write([frame("interval", [interval(amount="2", **{POSITION: 9})])], 3)
    assert _amounts(store) == [Decimal(2)]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_order_of_coming_does_not_matter(
    store: DuckStore, interval: Callable[..., Row], frame: Any, order: tuple[int, ...]
) -> None:
    """Said, gone, said again: the last word counts, however the frames come."""
    words = [
        interval(amount="1", state="open", **{POSITION: 1}),
        interval(amount=None, state="final", **{POSITION: -3}),
        interval(amount="5", state="open", **{POSITION: 4}),
    ]
    for number, which in enumerate(order):
        store.write([frame("interval", [words[which]])], number)
    assert _amounts(store) == [Decimal(5)]


def test_a_book_that_is_no_more_is_not_shown(store: DuckStore, frame: Any) -> None:
    """Tables without a story do the same."""
    row = {"plant": "p", "point": "main", "serial": "", "to": NOON_MS}
    store.write([frame("ledger", [row | {POSITION: 1}])], 1)
    store.write([frame("ledger", [row | {POSITION: -3}])], 2)
    assert store.rows(Query("ledger")) == []
