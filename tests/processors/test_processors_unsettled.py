"""Which readings begin a pass because of what a register did: with and without the compiled loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors import unsettled
from processors.batch import build
from processors.engine import Engine
from processors.kernels import library
from processors.kernels.chain import breaks_twin
from processors.passes import sorted_by_key
from processors.settling import Doubts
from processors.unsettled import Found
from tests.processors.histories import HOUR_MS, doubted, examples, histories, logs, roster_of
from tests.processors.log_driver import Arrival, Reading, as_records, differences, run

START_MS = 1_767_205_800_000


def found(engine: Engine, log: list[Arrival]) -> Found:
    """What is found of a log, as one batch."""
    batch, seen = sorted_by_key(
        build(as_records(log), engine.index),
        engine._newest,
        engine.progress.seen,
        engine.index,
    )
    late = np.flatnonzero((batch.time <= seen.of_series) & ~engine.index.interval[batch.point])
    return unsettled.Unsettled(engine.index, engine.books).find(batch, seen.of_series, late)


@pytest.mark.skipif(not library.COMPILED, reason="the loops are not built: make setup")
@given(st.data())
@examples()
def test_the_loop_leaves_out_only_what_counts_on(data: st.DataObject) -> None:
    """What is found is the same when every row is looked at."""
    history = data.draw(histories() | doubted())
    log = data.draw(logs(history.readings))
    half = len(log) // 2
    engine = run(history.roster, log[:half]).engine
    one = found(engine, log[half:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unsettled, "breaks", breaks_twin)
        other = found(engine, log[half:])
    assert (one.rows.tolist(), one.series.tolist()) == (other.rows.tolist(), other.series.tolist())


def test_what_the_next_reading_settles_begins_a_pass() -> None:
    """161, 80, 162 an hour apart: the fall is held and said, the third reading says it anew."""
    roster = roster_of("park")
    hours = range(START_MS, START_MS + 5 * HOUR_MS, HOUR_MS)
    values = ["160", "161", "80", "162", "163"]
    rows = zip(hours, values, strict=True)
    log = [Arrival(time, (Reading("p1", "e1", time, value),)) for time, value in rows]
    one, other = run(roster, log, cut=lambda: 1), run(roster, log)
    verdicts = list(one.tables["verdict"].values())
    assert [(row["verdict"], row["status"]) for row in verdicts] == [("glitch", "decided")]
    assert differences(one.tables, other.tables) == []
    assert "verdict" in {row["cause"] for row in one.tables["interval"].values()}


def test_a_register_that_turns_often_is_taken_in_one_pass() -> None:
    """With all of its rows of verdicts: nothing that was said changes by them."""
    roster = roster_of("park")
    values = [f"{step * 7 % 40}" for step in range(200)]
    times = [START_MS + minute * 60_000 for minute in range(200)]
    log = [Arrival(t, (Reading("p1", "few", t, v),)) for t, v in zip(times, values, strict=True)]
    one, other = run(roster, log, cut=lambda: 1), run(roster, log)
    assert len(found(Engine(roster), log).rows) == 0
    assert len(one.tables["verdict"]) == 199 * 7 // 40
    assert differences(one.tables, other.tables) == []


def test_a_register_that_turns_beside_a_doubt_begins_passes() -> None:
    """At a spike, and where it turns within a day of it: what is said of both may come and go."""
    roster = roster_of("park")
    values = ["31", "38", "5", "39.5", "12", "19", "26", "33", "0", "7"]
    times = [START_MS + minute * 60_000 for minute in range(len(values))]
    log = [Arrival(t, (Reading("p1", "few", t, v),)) for t, v in zip(times, values, strict=True)]
    assert {2, 8} <= set(found(Engine(roster), log).rows.tolist())
    one, other = run(roster, log, cut=lambda: 1), run(roster, log)
    assert differences(one.tables, other.tables) == []


def endings() -> list[list[str]]:
    """A register that falls to, or leaps to, what it then shows again and again; and how it goes on."""
    begin = ["160", "160.1", "160.2"]
    shown = {"0": ["160.9", "0.3", "0", "80"], "99.5": ["160.9", "99.6", "3"], "250": ["161", "250.1", "170"]}
    caught_up = [*5 * ["160"], *8 * ["168"], "168.5", "169"]
    return [caught_up] + [
        [*begin, *8 * [still], then, then] for still, ends in shown.items() for then in ends
    ]


@pytest.mark.parametrize("values", endings(), ids=lambda values: f"{values[3]}_then_{values[-1]}")
@pytest.mark.parametrize("late", [None, 5, 9])
def test_what_is_shown_again_and_again_settles_nothing(
    values: list[str], late: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is taken with what counts on, and all that was ever said is as if each had been judged."""
    roster = roster_of("park")
    times = [START_MS + minute * 60_000 for minute in range(len(values))]
    log = [Arrival(t, (Reading("p1", "e1", t, v),)) for t, v in zip(times, values, strict=True)]
    if late is not None:
        log.append(log.pop(late))
    one, whole = run(roster, log, cut=lambda: 1), run(roster, log)
    monkeypatch.setattr(Doubts, "repeating", lambda _, key, value: np.zeros(len(key + value), bool))
    other = run(roster, log, cut=lambda: 1)
    assert one.history == other.history
    assert differences(one.tables, other.tables) == []
    assert differences(one.tables, whole.tables) == []


def test_a_conflict_begins_passes_only_beside_it() -> None:
    """The second value of an instant, and the next reading: its segment begins before what does not count."""
    roster = roster_of("park")
    times = range(START_MS, START_MS + 300 * HOUR_MS, HOUR_MS)
    log = [Arrival(time, (Reading("p1", "e1", time, str(100 + n)),)) for n, time in enumerate(times)]
    log.insert(21, Arrival(times[20] + 1, (Reading("p1", "e1", times[20], "500"),)))
    engine = Engine(roster)
    assert len(list(engine.step(as_records(log)))) <= 6
    one, other = run(roster, log, cut=lambda: 1), run(roster, log)
    assert not differences(one.tables, other.tables)
