"""Restatement as data: tests/cases/<what it shows>/1, 2, … each with what came, and what is said then.

After each stage its rows are there; `restated` names exactly the rows of before that are said anew, with
revision and cause; and when all stages are over, what was reported at the end of each can be asked for again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from metering.tables import TABLES
from tests.meterflow.stages import (
    CASES,
    REPORTED,
    Row,
    Rows,
    Stage,
    Staged,
    check_expected,
    check_restated,
    stages_of,
)
from tests.processors.cases import named_by
from tests.processors.log_driver import Store, differences, of_the_set, one_record_per_plant, run

of_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a stage: all rows at its end, what was reported until then, and what is said of that in the end."""

    stage: Stage
    rows: Rows
    reported: Rows
    asked_again: Rows


@cache
def outcomes(case: Path) -> tuple[list[Outcome], Store]:
    """All stages of a case, and what everything at once gives."""
    with TemporaryDirectory() as folder:
        staged, told = Staged(Path(folder)), []
        for stage in stages_of(case):
            staged.take(stage)
            told.append((stage, staged.rows(), staged.rows(stage.at_ms)))
        found = [Outcome(*one, staged.rows(one[0].at_ms)) for one in told]
        staged.close()
    newest_ms = found[-1].stage.at_ms
    whole = run(staged.roster, one_record_per_plant(staged.readings, newest_ms))
    return found, of_the_set(whole.tables, REPORTED)


@of_case
def test_a_stage_comes_out_as_expected(case: Path) -> None:
    """Every expected row is there once with the columns that are given, and sums come out."""
    for outcome in outcomes(case)[0]:
        check_expected(outcome.rows, outcome.stage)


@of_case
def test_exactly_what_is_affected_is_restated(case: Path) -> None:
    """Each row of before that is not as it was is named by one line, with its revision and cause."""
    for before, after in pairwise(outcomes(case)[0]):
        check_restated(before.rows, after.rows, after.stage)


@of_case
def test_what_was_reported_at_a_stage_can_be_asked_for_ever(case: Path) -> None:
    """As-of answers in the end what it answered then: what had been said and was not open."""
    for outcome in outcomes(case)[0]:
        assert outcome.asked_again == outcome.reported, outcome.stage.name
        for name in ("interval", "rollup", "intensity"):
            there = [row for row in outcome.rows[name] if row["state"] != "open"]
            assert outcome.reported[name] == there, (outcome.stage.name, name)


@of_case
def test_the_newest_rows_are_those_of_everything_at_once(case: Path) -> None:
    """However it came, in the end it is what the whole set says, by the newest site file."""
    found, whole = outcomes(case)
    keyed: dict[str, dict[tuple[Any, ...], Row]] = {
        name: {tuple(row[column] for column in named_by(name)): row for row in found[-1].rows[name]}
        for name in REPORTED
        if TABLES[name].key
    }
    names = list(keyed)
    assert differences(of_the_set(keyed, names), {name: whole.get(name, {}) for name in names}) == []


@of_case
def test_a_case_is_the_same_over_restarts(case: Path, tmp_path: Path) -> None:
    """Dumped and loaded between all batches: rows, revisions and causes are as they were."""
    staged = Staged(tmp_path, again=True)
    for outcome in outcomes(case)[0]:
        staged.take(outcome.stage)
        rows = staged.rows()
        assert {name: rows[name] for name in REPORTED} == {name: outcome.rows[name] for name in REPORTED}
    staged.close()
