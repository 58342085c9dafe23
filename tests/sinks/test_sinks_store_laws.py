"""Any order, cut and repetition of the same row versions gives the same newest rows and history."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metering.query import Query
from metering.tables import TABLES
from sinks.store_duckdb import DuckStore, open_store

Row = dict[str, Any]
Builder = Callable[..., Any]
NOON_MS = 1_767_268_800_000
EXAMPLES = 1500 if os.environ.get("METERFLOW_LONG") else 100
_numbers = itertools.count()


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckStore]:
    """One store for all examples, each with a plant of its own."""
    folder: Path = tmp_path_factory.mktemp("laws")
    opened, _ = open_store(folder / "results.duckdb")
    yield opened
    opened.close()


@st.composite
def versions_of_a_key(draw: st.DrawFn) -> list[tuple[int, int, str, int]]:
    """(position, revision, state, amount) as processors say them: open, final, then revised ones.

    A report may be repeated at a later position, an open row may follow a reported one, and several
    may come of one position.
    """
    said: list[tuple[int, int, str, int]] = []
    position, revision, amount, told = 0, 0, 0, (-1, 0)
    for step in draw(st.lists(st.sampled_from(["fill", "report", "repeat"]), min_size=1, max_size=7)):
        same_version = step == "repeat" or (bool(said) and said[-1][2] == "open" and step == "fill")
        position += draw(st.integers(0, 2)) + same_version
        if step == "repeat" and told[0] >= 0:
            revision, amount = told
        else:
            revision += revision == told[0] and (step == "report" or draw(st.booleans()))
            amount += draw(st.integers(0, 2))
        reported = step == "report" or (step == "repeat" and told[0] >= 0)
        position += bool(said) and (position, revision, reported) <= version_of(said[-1])
        told = (revision, amount) if reported else told
        said.append(
            (position, revision, ("revised" if revision else "final") if reported else "open", amount)
        )
    return said


def version_of(said: tuple[int, int, str, int]) -> tuple[int, int, bool]:
    return said[0], said[1], said[2] != "open"


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[list[Row]], list[Row]]:
    """Batches of rows in any order, some more than once; and every row once."""
    rows = [
        {"point": point, "position": position, "revision": revision, "state": state, "amount": str(amount)}
        for point in ("a", "b")
        for position, revision, state, amount in draw(versions_of_a_key())
    ]
    again = draw(st.lists(st.sampled_from(rows), max_size=4))
    order = draw(st.permutations(rows + again))
    cuts = sorted(draw(st.sets(st.integers(0, len(order)), max_size=4)))
    bounds = itertools.pairwise([0, *cuts, len(order)])
    return [order[first:last] for first, last in bounds if first < last], rows


def version(row: Row) -> tuple[int, int, bool]:
    return row["position"], row["revision"], row["state"] != "open"


def model(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """Newest rows and every report kept, told from the whole set by going through it one by one."""
    newest, reports = [], []
    for _, group in itertools.groupby(
        sorted(rows, key=lambda row: row["point"]), key=lambda row: row["point"]
    ):
        chain = sorted(group, key=version)
        newest.append(chain[-1])
        said = [row for row in chain if row["state"] != "open"]
        figures = [(row["revision"], row["amount"]) for row in said]
        reports += [row for i, row in enumerate(said) if i + 1 == len(said) or figures[i] != figures[i + 1]]
    return newest, reports


def shown(rows: list[Row]) -> list[tuple[Any, ...]]:
    return [
        (row["point"], row["revision"], row["state"], str(row["amount"]), row["reported"]) for row in rows
    ]


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(delivery=deliveries())
def test_newest_rows_and_history_do_not_depend_on_the_delivery(
    lasting: DuckStore, interval: Builder, frame: Builder, delivery: tuple[list[list[Row]], list[Row]]
) -> None:
    """The store against a model that has the whole set before it."""
    plant = f"plant-{next(_numbers)}"
    batches, rows = delivery

    def full(row: Row) -> Row:
        told: Row = interval(**row, plant=plant, reported=NOON_MS + row["position"] * 1000)
        return told

    for batch in batches:
        cut = len(batch) // 2
        halves = [frame("interval", [full(row) for row in half]) for half in (batch[:cut], batch[cut:])]
        lasting.write(halves, 1)
    newest, reports = model([full(row) for row in rows])
    mine = {"plant": (plant,)}
    assert shown(lasting.rows(Query("interval", equal=mine))) == shown(newest)
    assert shown(lasting.rows(Query("interval", equal=mine, history=True))) == shown(reports)
    for position in range(0, 16, 3):
        told = lasting.rows(Query("interval", equal=mine, as_of_ms=NOON_MS + position * 1000))
        by_then = [row for row in reports if row["position"] <= position]
        last = {row["point"]: row for row in by_then}
        assert shown(told) == shown(list(last.values()))


def test_the_key_of_every_restated_table_is_one_of_its_columns() -> None:
    """The store joins on keys and prunes by time: both must be there."""
    for table in TABLES.values():
        assert set(table.key) <= set(table.names)
        assert table.time in table.names
