"""A store that is filled holds what the merge makes of the same rows, and is there whole or not at all."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metering.errors import UsageError
from metering.query import Query
from metering.tables import POSITION, TABLES
from sinks import store_filling
from sinks.store_duckdb import open_existing, open_store
from sinks.store_filling import Filling, filling
from sinks.store_layout import layout
from tests.sinks.conftest import NOON_MS, frame_of, interval_row
from tests.sinks.test_sinks_store_laws import versions_of_a_key

Row = dict[str, Any]
Builder = Callable[..., Any]
MINUTE_MS = 60_000
EVER_MS = -(1 << 62)
POINTS, SPANS = "abc", 5
EXAMPLES = 300 if os.environ.get("METERFLOW_LONG") else 15


@st.composite
def rows_of_a_calculation(draw: st.DrawFn) -> list[list[Row]]:
    """Frames as processors say them: spans of points in order, some said again later, some no more."""
    said: list[tuple[int, int, int, Row]] = []
    for number, point in enumerate(POINTS):
        for span in range(draw(st.integers(0, SPANS))):
            start = span + draw(st.sampled_from([0, 0, 0, -1]))
            for position, revision, state, amount in draw(versions_of_a_key()):
                gone = state != "open" and draw(st.integers(0, 9)) == 0
                row = {"point": point, "revision": revision, "state": state, "amount": str(amount)}
                times = {"end": NOON_MS + span * MINUTE_MS, "start": NOON_MS + start * MINUTE_MS}
                later = position + draw(st.sampled_from([span, span, span + 2]))
                where = {POSITION: -later - 1 if gone else later, "reported": NOON_MS + later}
                said.append((later, number, span, row | times | where))
    said.sort(key=lambda each: each[:3])
    rows = [row for *_, row in said]
    if draw(st.booleans()) and rows:
        rows.insert(draw(st.integers(0, len(rows))), rows[0] | {"end": EVER_MS})
    cuts = sorted(draw(st.sets(st.integers(0, len(rows)), max_size=6)))
    bounds = itertools.pairwise([0, *cuts, len(rows)])
    return [rows[first:last] for first, last in bounds if first < last]


def everything(path: Path, *tables: str) -> dict[str, list[Row]]:
    """Newest rows and history of these tables, or of all."""
    store = open_existing(path)
    try:
        newest = {name: store.rows(Query(name)) for name in tables or TABLES}
        with_history = [name for name in newest if layout(name).has_settled]
        return newest | {f"{name} history": store.rows(Query(name, history=True)) for name in with_history}
    finally:
        store.close()


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=rows_of_a_calculation(), write=st.sampled_from([3, 1000]), merge=st.sampled_from([1, 5, 1000]))
def test_it_holds_what_the_merge_makes(
    tmp_path_factory: pytest.TempPathFactory, frames: list[list[Row]], write: int, merge: int
) -> None:
    """Whatever is stored at once, and however long rows wait for the merge."""
    folder = tmp_path_factory.mktemp("filling")
    every = [frame_of("interval", [interval_row(**row) for row in rows]) for rows in frames]
    merged, _ = open_store(folder / "merged.duckdb")
    merged.write(every, 1)
    merged.close()
    with pytest.MonkeyPatch.context() as patch, filling(folder / "filled.duckdb") as filled:
        patch.setattr(store_filling, "WRITE_ROWS", write)
        patch.setattr(store_filling, "MERGE_ROWS", merge)
        for frame in every:
            filled.add(*frame)
    found = [everything(folder / f"{name}.duckdb", "interval") for name in ("filled", "merged")]
    assert found[0] == found[1]


def test_tables_of_any_kind_are_filled(tmp_path: Path, frame: Builder, interval: Builder) -> None:
    """With states and without, with times in their key and without, and those that only grow."""
    book = {"plant": "p", "point": "main", "serial": "", "to": NOON_MS}
    event = {"plant": "p", "point": "main", "serial": "", "from": NOON_MS, "verdict": "reset", "revision": 0}
    refused = {"received": NOON_MS, "topic": "t", "reason": "no number"}
    frames = [
        frame("interval", [interval(), interval(state="open", end=NOON_MS + MINUTE_MS)]),
        frame("ledger", [book | {POSITION: 1}]),
        frame("ledger", [book | {POSITION: 2, "booked": 3}]),
        frame("verdict", [event | {"to": NOON_MS + later, POSITION: 1} for later in (1, 2)]),
        frame("verdict", [event | {"to": NOON_MS + 1, POSITION: 2, "revision": 1}]),
        frame("rejected", [refused, refused]),
    ]
    merged, _ = open_store(tmp_path / "merged.duckdb")
    merged.write(frames, 1)
    merged.close()
    with filling(tmp_path / "filled.duckdb") as filled:
        for one in frames:
            filled.add(*one)
    found = everything(tmp_path / "filled.duckdb")
    assert found == everything(tmp_path / "merged.duckdb")
    assert [len(found[name]) for name in ("interval", "ledger", "verdict", "rejected")] == [2, 1, 2, 2]
    assert len(found["verdict history"]) == 3


def test_a_kill_leaves_no_results_and_is_begun_anew(tmp_path: Path) -> None:
    """Whatever was stored until then."""
    path = tmp_path / "results.duckdb"
    killed = """
        import os, sys
        from pathlib import Path
        from sinks import store_filling
        from tests.sinks.conftest import frame_of, interval_row
        store_filling.WRITE_ROWS = 1
        filled = store_filling.Filling(Path(sys.argv[1]))
        for minute in range(20):
            filled.add(*frame_of("interval", [interval_row(end=minute * 60_000)]))
        os.kill(os.getpid(), 9)
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(killed), str(path)], check=False)
    assert ended.returncode == -9
    assert not path.exists()
    assert list(tmp_path.iterdir())
    with filling(path) as filled:
        filled.add(*frame_of("interval", [interval_row(point="other")]))
    assert [row["point"] for row in everything(path)["interval"]] == ["other"]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    """An error of whoever fills it, and one of the store itself."""
    path = tmp_path / "results.duckdb"
    with pytest.raises(ZeroDivisionError), filling(path) as filled:
        filled.add(*frame_of("interval", [interval_row(end=NOON_MS // len(list(tmp_path.glob("none"))))]))
    with pytest.raises(ValueError, match="field names"), filling(path) as filled:
        filled.add("interval", frame_of("ledger", [{"plant": "p"}])[1])
    assert not list(tmp_path.iterdir())


def test_one_process_fills_a_path(tmp_path: Path) -> None:
    """Another is refused as long as it does, and when there are results."""
    path = tmp_path / "results.duckdb"
    one = Filling(path)
    with pytest.raises(UsageError, match="another process"):
        Filling(path)
    one.finish()
    with pytest.raises(UsageError, match="already"):
        Filling(path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
