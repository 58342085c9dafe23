"""What the store keeps of the rows that come, and what it says when asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from metering.errors import Unavailable, UsageError
from metering.query import Query
from metering.tables import TABLES
from sinks.store_duckdb import DuckStore

Builder = Callable[..., Any]
NOON_MS = 1_767_268_800_000


def amounts(store: DuckStore, **query: Any) -> list[str]:
    return [str(row["amount"]) for row in store.rows(Query("interval", **query))]


def test_an_open_row_is_replaced_without_history(store: DuckStore, interval: Builder, frame: Builder) -> None:
    """A span that is still filling has one row, the newest, and no past."""
    for position, amount in enumerate(("1", "2", "3")):
        store.write([frame("interval", [interval(amount=amount, state="open", position=position)])], position)
    assert amounts(store) == ["3"]
    assert amounts(store, history=True) == []


def test_a_final_row_replaces_the_open_one(store: DuckStore, interval: Builder, frame: Builder) -> None:
    """When the span is final, the open row is gone and the final one is its only report."""
    store.write([frame("interval", [interval(amount="1", state="open", position=1)])], 1)
    store.write([frame("interval", [interval(amount="2", state="final", position=2)])], 2)
    assert amounts(store) == ["2"]
    assert amounts(store, history=True) == ["2"]


def test_a_revised_row_sends_the_final_one_to_the_history(
    store: DuckStore, interval: Builder, frame: Builder
) -> None:
    """What was reported before can still be asked for, in the order of the revisions."""
    store.write([frame("interval", [interval(amount="2", position=1)])], 1)
    store.write([frame("interval", [interval(amount="2.5", state="revised", revision=1, position=2)])], 2)
    assert amounts(store) == ["2.5"]
    assert amounts(store, history=True) == ["2", "2.5"]


def test_a_replayed_older_row_changes_nothing(store: DuckStore, interval: Builder, frame: Builder) -> None:
    """After a crash the processors say old things again; the store has heard them."""
    first = frame("interval", [interval(amount="2", position=1)])
    store.write([first], 1)
    store.write([frame("interval", [interval(amount="3", state="revised", revision=1, position=2)])], 2)
    store.write([first], 3)
    assert amounts(store) == ["3"]
    assert amounts(store, history=True) == ["2", "3"]


def test_an_open_row_that_comes_late_does_not_reopen_a_final_one(
    store: DuckStore, interval: Builder, frame: Builder
) -> None:
    """A zombie that writes an old value last changes nothing."""
    store.write([frame("interval", [interval(amount="2", position=5)])], 1)
    store.write([frame("interval", [interval(amount="1", state="open", position=4)])], 2)
    assert amounts(store) == ["2"]


def test_open_rows_of_one_position_are_ordered_by_revision(
    store: DuckStore, interval: Builder, frame: Builder
) -> None:
    """One log record may open a span, report it and open it again."""
    store.write([frame("interval", [interval(amount="2", state="open", revision=1, position=1)])], 1)
    store.write([frame("interval", [interval(amount="1", state="open", revision=0, position=1)])], 2)
    assert amounts(store) == ["2"]


def test_the_same_row_again_replaces_itself(store: DuckStore, interval: Builder, frame: Builder) -> None:
    """Equal position and revision: the row that came last is the row, and there is one of it."""
    store.write([frame("interval", [interval(amount="2", position=1)])], 1)
    store.write([frame("interval", [interval(amount="7", position=1)])], 2)
    assert amounts(store) == ["7"]
    assert amounts(store, history=True) == ["7"]


def test_a_row_said_again_without_a_difference_is_no_history(
    store: DuckStore, interval: Builder, frame: Builder
) -> None:
    """Only another revision or another figure is worth keeping."""
    store.write([frame("interval", [interval(position=1)])], 1)
    store.write([frame("interval", [interval(position=2, reported=NOON_MS + 9000)])], 2)
    assert amounts(store, history=True) == ["1"]


def test_several_versions_of_a_key_may_come_in_one_write(
    store: DuckStore, interval: Builder, frame: Builder
) -> None:
    """Batches are cut anywhere: open, final and revised at once is the same as one by one."""
    rows = [
        interval(amount="1", state="open", position=1),
        interval(amount="2", position=2),
        interval(amount="3", state="revised", revision=1, position=3),
    ]
    store.write([frame("interval", rows[:1]), frame("interval", rows[1:])], 1)
    assert amounts(store) == ["3"]
    assert amounts(store, history=True) == ["2", "3"]


def test_as_of_gives_what_was_reported_by_then(store: DuckStore, interval: Builder, frame: Builder) -> None:
    """Before the report nothing, then the final row, then the revised one; never an open one."""
    reports = ((1, "1", "open", 0), (2, "2", "final", 0), (3, "3", "revised", 1))
    for position, amount, state, revision in reports:
        told = interval(
            amount=amount,
            state=state,
            revision=revision,
            position=position,
            reported=NOON_MS + position * 1000,
        )
        store.write([frame("interval", [told])], position)
    seen = [amounts(store, as_of_ms=NOON_MS + ms) for ms in (1999, 2000, 2999, 3000)]
    assert seen == [[], ["2"], ["2"], ["3"]]


def test_as_of_finds_the_past_of_a_key_that_is_open_again(
    store: DuckStore, interval: Builder, frame: Builder
) -> None:
    """A final row that an open one has replaced was still reported."""
    store.write([frame("interval", [interval(amount="2", position=1)])], 1)
    store.write([frame("interval", [interval(amount="3", state="open", revision=1, position=2)])], 2)
    assert amounts(store) == ["3"]
    assert amounts(store, as_of_ms=NOON_MS + 5000) == ["2"]


def test_a_verdict_goes_to_the_history_when_its_revision_changes(store: DuckStore, frame: Builder) -> None:
    """Tables without a state keep a superseded row when it was another revision, and only then."""
    verdict = {"plant": "p", "point": "q", "serial": "s", "from": 1, "to": 2, "by": "rule", "reported": 3}
    for position, revision, status in ((1, 0, "held"), (2, 0, "held"), (3, 1, "confirmed")):
        row = verdict | {"status": status, "revision": revision, "position": position}
        store.write([frame("verdict", [row])], position)
    assert [row["status"] for row in store.rows(Query("verdict"))] == ["confirmed"]
    assert [row["status"] for row in store.rows(Query("verdict", history=True))] == ["held", "confirmed"]


def test_books_are_replaced_without_history(store: DuckStore, frame: Builder) -> None:
    """A ledger row is the books as they stand; unknown parts of a key are equal to each other."""
    books = {"plant": "p", "point": "q", "serial": None, "to": None}
    for position in (1, 3, 2):
        store.write([frame("ledger", [books | {"last": position, "position": position}])], position)
    assert [row["last"] for row in store.rows(Query("ledger"))] == [3]
    with pytest.raises(UsageError, match="ledger keeps no history"):
        store.rows(Query("ledger", history=True))


def test_rejected_rows_that_come_again_do_not_double(store: DuckStore, frame: Builder) -> None:
    """The same nonsense twice in one message is two rows; the same message replayed is none more."""
    row = {"received": NOON_MS, "topic": "t", "reason": "no JSON", "payload": "x", "position": 4}
    twice = frame("rejected", [row, row])
    store.write([twice, twice], 1, 5)
    store.write([twice], 2, 5)
    assert len(store.rows(Query("rejected"))) == 2
    store.write([frame("rejected", [row | {"position": 5}])], 3, 6)
    assert len(store.rows(Query("rejected"))) == 3


def test_rows_come_exact_and_plain(store: DuckStore, interval: Builder, frame: Builder) -> None:
    """Times as milliseconds, amounts as decimals without exponent or trailing zeros, unknown as None."""
    row = interval(amount="100.500000000", measured_share=0.1, cause=None)
    store.write([frame("interval", [row, interval("other", None, measured_share=float("nan"))])], 1)
    found, unknown = store.rows(Query("interval"))
    assert list(found) == list(TABLES["interval"].names)
    assert str(found["amount"]) == "100.5"
    assert (found["end"], found["measured_share"], found["cause"]) == (NOON_MS, 0.1, None)
    assert (unknown["amount"], unknown["measured_share"]) == (None, None)


@pytest.mark.parametrize("amount", ["0", "-0.5", "100", "0.000000001", "12345678901234567890.123456789"])
def test_an_amount_comes_back_as_it_went_in(
    store: DuckStore, interval: Builder, frame: Builder, amount: str
) -> None:
    """To the last digit, without an exponent."""
    store.write([frame("interval", [interval(amount=amount)])], 1)
    assert amounts(store) == [str(Decimal(amount))] or amounts(store) == [amount]


def test_a_query_bounds_time_from_exclusive_to_inclusive(
    store: DuckStore, interval: Builder, frame: Builder
) -> None:
    """A span that ends at ``from`` lies before it; one that ends at ``to`` lies within."""
    rows = [interval(str(minute), end=NOON_MS + minute * 60_000) for minute in range(4)]
    store.write([frame("interval", rows)], 1)
    query = Query("interval", from_ms=NOON_MS, to_ms=NOON_MS + 120_000)
    assert [row["point"] for row in store.rows(query)] == ["1", "2"]


def test_rows_come_by_time_then_key_and_the_other_way_round(
    store: DuckStore, interval: Builder, frame: Builder
) -> None:
    """The newest first is the same order reversed, and a limit takes its head."""
    rows = [interval(point, end=NOON_MS + ms) for ms, point in ((60_000, "a"), (0, "b"), (0, "a"))]
    store.write([frame("interval", rows)], 1)

    def order(**query: Any) -> list[tuple[int, str]]:
        return [(row["end"] - NOON_MS, row["point"]) for row in store.rows(Query("interval", **query))]

    assert order() == [(0, "a"), (0, "b"), (60_000, "a")]
    assert order(newest_first=True) == [(60_000, "a"), (0, "b"), (0, "a")]
    assert order(newest_first=True, limit=2) == [(60_000, "a"), (0, "b")]
    assert order(limit=1) == [(0, "a")]


def test_a_limit_reaches_rows_without_a_time(store: DuckStore, frame: Builder) -> None:
    """Books that still run have no end: last in time, first when the newest come first."""
    rows = [{"plant": "p", "point": str(to), "serial": "s", "to": to} for to in (1000, 2000, None)]
    store.write([frame("ledger", rows)], 1)
    for newest_first, wanted in ((False, [1000, 2000]), (True, [None, 2000])):
        query = Query("ledger", newest_first=newest_first, limit=2)
        assert [row["to"] for row in store.rows(query)] == wanted


def test_equal_selects_by_texts_and_the_empty_text_means_unknown(
    store: DuckStore, interval: Builder, frame: Builder
) -> None:
    """Several texts are alternatives, no texts are no rows."""
    store.write(
        [frame("interval", [interval("a"), interval("b", cause=None), interval("c", cause="late")])], 1
    )

    def points(**equal: tuple[str, ...]) -> list[str]:
        return [row["point"] for row in store.rows(Query("interval", equal=equal))]

    assert points(point=("a", "c")) == ["a", "c"]
    assert points(cause=("",)) == ["b"]
    assert points(point=()) == []
    assert points(point=("a' OR 1=1 --",)) == []


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (Query("intervals"), "unknown table"),
        (Query("interval", equal={"color": ("red",)}), "no text column"),
        (Query("interval", equal={'point" OR 1=1 --': ("a",)}), "no text column"),
        (Query("interval", equal={"position": ("1",)}), "no text column"),
    ],
)
def test_a_wrong_query_is_a_usage_error(store: DuckStore, query: Query, says: str) -> None:
    """Names come from the table definitions only; anything else says what there is."""
    with pytest.raises(UsageError, match=says):
        store.rows(query)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_every_table_can_be_exported_when_empty(store: DuckStore, table: str, format: Any) -> None:
    """A table without rows is a file without rows, in every format."""
    assert b"".join(store.export(Query(table), format))


def test_times_of_ever_are_unknown(store: DuckStore, frame: Builder) -> None:
    """An installation from ever has no beginning that a calendar could write."""
    row = {"plant": "p", "point": "q", "serial": "s", "from": -(2**62), "to": 2**62}
    store.write([frame("ledger", [row])], 1)
    (found,) = store.rows(Query("ledger"))
    assert (found["from"], found["to"]) == (None, None)


def test_an_export_is_one_state_while_another_thread_writes(
    store: DuckStore, interval: Builder, frame: Builder
) -> None:
    """Each write gives all rows the same amount, so an export that mixes two states shows it."""
    done = threading.Event()

    def write() -> None:
        for position in range(1, 60):
            rows = [interval(f"{i:04}", str(position), "open", position=position) for i in range(500)]
            store.write([frame("interval", rows)], position)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    mixed, states = [], set()
    while not done.is_set():
        lines = b"".join(store.export(Query("interval"), "csv")).decode().splitlines()[1:]
        seen = {line.split(",")[5] for line in lines}
        states |= seen
        if len(seen) > 1 or len(lines) not in (0, 500):
            mixed.append((len(lines), seen))
    writer.join()
    assert not mixed
    assert len(states) > 1


def test_a_failed_write_leaves_nothing(store: DuckStore, interval: Builder, frame: Builder) -> None:
    """Rows and position are one transaction: the good frame beside a bad one is not stored either."""
    table, rows = frame("rejected", [{"received": 1, "reason": "r"}])
    broken = rows.rename_columns([name.replace("reason", "raisin") for name in rows.column_names])
    with pytest.raises(Exception, match="reason"):
        store.write([frame("interval", [interval()]), (table, broken)], 7)
    assert (store.rows(Query("interval")), store.position()) == ([], 0)


def test_a_closed_store_says_so(store: DuckStore) -> None:
    """Asking after the close is an error of ours, not of DuckDB, and opens nothing again."""
    store.close()
    with pytest.raises(Unavailable):
        store.rows(Query("interval"))
    with pytest.raises(Unavailable):
        store.write([], 1)
    with duckdb.connect(str(store.path)) as other:
        assert other.execute("SELECT count(*) FROM interval").fetchone() == (0,)
