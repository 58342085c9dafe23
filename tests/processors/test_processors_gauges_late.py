"""Late readings of gauges: taken together with what comes around them, they say what each alone would say."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.batch import Batch
from processors.passes import Passes, Plan, Seen
from processors.progress import Survey
from tests.processors.histories import History, examples, roster_of
from tests.processors.laws import around, unlike_reports, unlike_the_oracle
from tests.processors.log_driver import MINUTE_MS, Arrival, Reading, differences, run

FIRST_MS = 1_767_225_600_000
SECOND_MS = 1_000
GAUGES = {"g": ("p1", ("20", "40.5", "120")), "pf": ("p1", ("50", "93", "100"))}
"""Of sites/park.yaml: power up to 80 kW with a base of a minute, a power factor with one of five minutes."""


def a_log(chance: Random) -> list[Arrival]:
    """Readings some seconds apart, of which some come later, in records of one to three."""
    every: list[tuple[int, int, Reading]] = []
    for point, (plant, values) in GAUGES.items():
        for at_s in sorted(chance.sample(range(900), 30)):
            one = Reading(plant, point, FIRST_MS + at_s * SECOND_MS, chance.choice(values))
            late_s = chance.choice([0, 0, 0, 20, 60, 300])
            every.append((at_s + late_s, len(every), one))
    readings = [one for _, _, one in sorted(every)]
    log: list[Arrival] = []
    while readings:
        size = chance.randint(1, 3)
        some, readings = readings[:size], readings[size:]
        log.append(Arrival(max(one.time_ms for one in some) + len(log), tuple(some)))
    return log


@examples(0.4)
@given(st.randoms(use_true_random=False))
def test_late_readings_of_gauges_may_be_taken_together(chance: Random) -> None:
    """The same rows and the same reports, record by record and in batches; and those of the oracle."""
    log = a_log(chance)
    history = History("park", tuple(one for arrival in log for one in arrival.readings))
    whole, single = run(history.roster, log), run(history.roster, log, cut=lambda: 1)
    parts = run(history.roster, log, cut=around([chance.randint(1, 9) for _ in range(5)]))
    assert unlike_the_oracle(history, whole) == []
    for other in (single, parts):
        assert differences(whole.tables, other.tables) + unlike_reports(whole, other) == []


def passes_of(log: list[Arrival], monkeypatch: pytest.MonkeyPatch) -> int:
    """In how many passes a log is taken at once."""
    counts: list[int] = []
    plan = Passes.plan

    def counted(self: Passes, batch: Batch, seen: Seen, survey: Survey) -> Plan:
        made = plan(self, batch, seen, survey)
        counts.append(len(made))
        return made

    monkeypatch.setattr(Passes, "plan", counted)
    run(roster_of("park"), log)
    return sum(counts)


@pytest.mark.parametrize(("late_s", "value", "passes"), [(130, "90", 1), (10, "90", 2)])
def test_only_what_was_reported_makes_a_pass_of_a_late_reading(
    late_s: int, value: str, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two readings of a span that is open it does not, before them it does."""
    at_s = [20, 80, 140, 200, 290, late_s]
    readings = [Reading("p1", "pf", FIRST_MS + at * SECOND_MS, value) for at in at_s]
    log = [Arrival(FIRST_MS + 5 * MINUTE_MS + n, (one,)) for n, one in enumerate(readings)]
    assert passes_of(log, monkeypatch) == passes
