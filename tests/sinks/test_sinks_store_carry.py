"""A new site file's store goes on with the story of the one before: one history, nothing told twice.

Each site file has a story of its own for each key, as processors would tell it of the same log. A file is in
force from a position on; its story of before was told to nobody.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metering.query import Query
from metering.tables import POSITION
from sinks.store_carry import Stopped, carry, compare
from sinks.store_duckdb import DuckStore, open_store
from sinks.store_layout import layout, listed
from sinks.store_lift import carried
from tests.sinks.conftest import NOON_MS, frame_of, interval_row
from tests.sinks.test_sinks_store_laws import versions_of_a_key

Row = dict[str, Any]
Story = list[Row]
EXAMPLES = 1000 if os.environ.get("METERFLOW_LONG") else 8
KEYS = 5
HOUR_MS = 3_600_000
STOP = threading.Event()
STOP.set()


def at_ms(position: int) -> int:
    """When a record of the log was received."""
    return NOON_MS + position * 1000


@st.composite
def stories(draw: st.DrawFn) -> list[Story]:
    """Of each key: its rows by the log, some of a key that is no more; a report said again is as it was."""
    found: list[Story] = []
    for number in range(KEYS):
        story: Story = []
        reported: dict[int, int] = {}
        for position, revision, state, amount in draw(versions_of_a_key()):
            gone = state != "open" and amount % 4 == 3
            when = position if state == "open" else reported.setdefault(revision, position)
            story.append(
                interval_row(
                    f"p{number}",
                    str(amount),
                    state,
                    end=NOON_MS + number * HOUR_MS,
                    revision=revision,
                    reported=at_ms(when),
                    cause="late" if revision else "",
                    **{POSITION: -position - 1 if gone else position},
                )
            )
        found.append(story)
    return found


def of(story: Sequence[Story], first: int, until: int) -> Story:
    """The rows of these positions, in the log's order."""
    rows = [row for its in story for row in its if first <= max(row[POSITION], -row[POSITION] - 1) < until]
    return sorted(rows, key=lambda row: max(row[POSITION], -row[POSITION] - 1))


def write(store: DuckStore, rows: Story) -> None:
    store.write([frame_of("interval", [row]) for row in rows], 7)


def opened(folder: Path, number: int) -> DuckStore:
    path = folder / f"store-{number}.duckdb"
    path.unlink(missing_ok=True)
    return open_store(path)[0]


def shown(store: DuckStore, **query: Any) -> dict[str, Row]:
    return {row["point"]: row for row in store.rows(Query("interval", **query))}


def reported(rows: dict[str, Row]) -> dict[str, Row]:
    return {point: row for point, row in rows.items() if row["state"] != "open"}


def reach(store: DuckStore, story: list[Story], position: int) -> None:
    """A next store has worked out what there is before a position; some of it comes again."""
    some = of(story, max(store.position() - 2, 0), position)
    store.write([frame_of("interval", [row]) for row in some], position)


def compared(new: DuckStore, store: DuckStore, story: list[Story], position: int) -> DuckStore:
    """The next store is compared with the one that is in force, and the service stops and starts again."""
    reach(new, story, position)
    with suppress(Stopped):  # or there was nothing to do
        compare(new, store, STOP)
    compare(new, store, threading.Event())
    assert not new.carried
    new.close()
    return open_store(new.path)[0]


def switched(store: DuckStore, new: DuckStore, folder: Path, story: list[Story], position: int) -> DuckStore:
    """The next store, behind this one from a position on, opened again."""
    reach(new, story, position)
    before, history = shown(store), store.rows(Query("interval", history=True))
    carry(new, store, at_ms(position) - 400, 7)
    carry(new, store, at_ms(position) - 1, 9)
    assert new.position() == 7, "a second time changes nothing"
    check_change(before, history, new, at_ms(position) - 400)
    at_once = opened(folder, 99)
    reach(at_once, story, position)
    carry(at_once, store, at_ms(position) - 400, 7)
    assert held(at_once) == held(new), "what was compared before changes nothing"
    at_once.close()
    store.close()
    new.close()
    return open_store(new.path)[0]


def held(store: DuckStore) -> list[list[str]]:
    """Everything of the table that is stored, and what later rows are lifted by."""
    with store.reading() as cursor:
        its = layout("interval")
        shown = f"{listed(its.table.names)}, {POSITION} < 0"
        return [
            sorted(map(repr, cursor.execute(f"SELECT {shown} FROM {table}").fetchall()))
            for table in its.stored_tables
        ] + [sorted(map(repr, cursor.execute(f"SELECT * FROM {carried(its)} WHERE lift <> 0").fetchall()))]


def check_change(before: dict[str, Row], history: Story, new: DuckStore, now_ms: int) -> None:
    """Same figures, same story; other figures, one revision more by the site file."""
    kept = new.rows(Query("interval", history=True))
    for row in history:
        assert row in kept
    after = reported(shown(new))
    for point, row in after.items():
        was = reported(before).get(point)
        if was is not None and was["amount"] == row["amount"]:
            assert row == was
        elif row not in history:
            assert (row["cause"], row["reported"]) == ("site", now_ms)
            assert row["revision"] == 0 or row["state"] == "revised"
            if was is not None:
                assert row["revision"] == was["revision"] + 1


PARTS = st.tuples(stories(), st.integers(1, 6), st.sets(st.integers(0, 6), max_size=3))
"""What a file says, how many records it is in force, after which of them the next one's store is compared."""


@given(st.lists(PARTS, min_size=2, max_size=3))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_is_changed_every_instant_stays_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[list[Story], int, set[int]]]
) -> None:
    """Any stories, any positions: newest figures are the last file's, revisions rise, as-of is what was said;
    rows that come again change nothing.
    """
    folder = tmp_path_factory.mktemp("carry")
    store, position, said = opened(folder, 0), 0, list[tuple[int, dict[str, Row]]]()
    new = store
    for number, (story, more, looks) in enumerate(files):
        if number:
            store = switched(store, new, folder, story, position)
        new = opened(folder, number + 1)
        until = position + more if number + 1 < len(files) else 1000
        for now in range(position, min(until, position + 12)):
            if rows := of(story, now, now + 1):
                said.append((at_ms(now) - 300, shown(store, as_of_ms=at_ms(now) - 300)))
                write(store, rows)
            if now - position in looks and number + 1 < len(files):
                new = compared(new, store, files[number + 1][0], now + 1)
        write(store, of(story, position, until))
        history = store.rows(Query("interval", history=True))
        write(store, of(story, position, until))
        assert store.rows(Query("interval", history=True)) == history
        position = until
    try:
        check_history(store)
        for instant, then in said:
            assert shown(store, as_of_ms=instant) == then
        last = {its[-1]["point"]: its[-1] for its in files[-1][0]}
        figures = {point: row["amount"] for point, row in shown(store).items()}
        assert figures == {point: row["amount"] for point, row in last.items() if row[POSITION] >= 0}
    finally:
        store.close()
        new.close()


def check_history(store: DuckStore) -> None:
    """Of a key no revision is there twice, and a higher one was said later."""
    chains: dict[str, Story] = {}
    for row in store.rows(Query("interval", history=True)):
        chains.setdefault(row["point"], []).append(row)
    for chain in chains.values():
        for one, other in pairwise(sorted(chain, key=lambda row: int(row["revision"]))):
            assert one["revision"] < other["revision"], chain
            assert one["reported"] <= other["reported"], chain


def test_who_stops_comparing_finds_the_store_as_it_was(tmp_path: Path) -> None:
    """Rows and position are as before; the next time compares, and nothing has been put in force."""
    old, new = opened(tmp_path, 0), opened(tmp_path, 1)
    with closing(old), closing(new):
        for store, amount in ((old, "1"), (new, "2")):
            store.write([frame_of("interval", [interval_row("p0", amount, "final", position=1)])], 2)
        with pytest.raises(Stopped):
            compare(new, old, STOP)
        assert new.compared is None
        assert shown(new)["p0"]["revision"] == 0
        compare(new, old, threading.Event())
        assert [new.compared, new.position()] == [2, 2]
        assert not new.carried
