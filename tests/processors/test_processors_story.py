"""What tells a result's story: state, revision, cause, reported. All by the log, nothing by a clock."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from metering.site_compile import compile_roster
from metering.site_load import load_site
from tests.processors.histories import roster_of
from tests.processors.laws import said_again, unlike_reports
from tests.processors.log_driver import MINUTE_MS, Arrival, Driver, Reading, as_records, differences, run

SITE = """
meterflow: 1
plants:
  - id: p
    time_zone: UTC
    patience: 10m
    products: [{id: x, unit: t}]
    points:
      - {id: e, measures: electricity, reads: register, unit: kWh, expect_every: 60s}
      - {id: o, measures: output, reads: register, unit: t, expect_every: 60s}
      - {id: b, measures: water, reads: interval, unit: m3}
    intensity: [{id: k, of: electricity, per: x, windows: [15m]}]
"""
START_MS = 1_767_571_200_000  # 2026-01-05T00:00Z


class Plant:
    """A plant that is fed minute by minute; minutes count from START_MS."""

    def __init__(self, folder: Path) -> None:
        (folder / "site.yaml").write_text(SITE)
        self.driver = Driver(compile_roster(load_site(folder / "site.yaml")))
        self._offset = 0

    def read(
        self, point: str, minute: float, value: float, *, stamp: float | None = None, **more: Any
    ) -> None:
        """One reading in a record of its own, received at ``stamp`` (when it was measured, if not said)."""
        reading = Reading("p", point, _ms(minute), str(value), **more)
        self._take(Arrival(_ms(minute if stamp is None else stamp), (reading,)))

    def tick(self, minute: float) -> None:
        self._take(Arrival(_ms(minute)))

    def _take(self, arrival: Arrival) -> None:
        self._offset += 1
        record = as_records([arrival])[0]
        self.driver.feed([type(record)(self._offset, record.stamp_ms, record.readings)])

    def row(self, table: str, end: float, **named: Any) -> dict[str, Any]:
        """The one row of a table that ends then."""
        rows = [r for r in self.driver.tables[table].values() if r["end"] == _ms(end)]
        found = [r for r in rows if all(r[name] == value for name, value in named.items())]
        assert len(found) == 1
        return found[0]

    def interval(self, end: float, point: str = "e") -> dict[str, Any]:
        return self.row("interval", end, point=point)


def _ms(minute: float) -> int:
    return START_MS + round(minute * MINUTE_MS)


def story(row: dict[str, Any]) -> tuple[str, int, str]:
    """State, revision and cause of a row."""
    return row["state"], row["revision"], row["cause"]


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


def test_a_span_is_open_until_its_point_has_reported_past_its_end(plant: Plant) -> None:
    """The reading that lies behind a span makes it final, and says when."""
    plant.read("e", 0, 0)
    plant.read("e", 0.5, 1)
    assert story(plant.interval(1)) == ("open", 0, "")
    plant.read("e", 1, 2, stamp=1.25)
    assert story(plant.interval(1)) == ("final", 0, "")
    assert plant.interval(1)["reported"] == _ms(1.25)


def test_a_span_waits_for_a_silent_point_until_patience_is_up(plant: Plant) -> None:
    """Ten minutes after the end of the span by the log's own time, and not a moment before."""
    plant.read("e", 0, 0)
    plant.read("e", 0.5, 1)
    for minute in (2, 8, 10.5):
        plant.read("o", minute, minute)
        assert plant.interval(1)["state"] == "open"
    plant.read("o", 20, 20)
    assert story(plant.interval(1)) == ("final", 0, "")


def test_a_tick_lets_patience_run_when_all_are_silent(plant: Plant) -> None:
    """A record without readings is time going on."""
    plant.read("e", 0, 0)
    plant.read("e", 0.5, 1)
    plant.tick(10)
    assert plant.interval(1)["state"] == "open"
    plant.tick(11)
    assert story(plant.interval(1)) == ("final", 0, "")
    assert plant.interval(1)["reported"] == _ms(11)


def test_a_stamp_that_goes_back_takes_no_time_back(plant: Plant) -> None:
    """Log time is the highest stamp so far: what is final stays final."""
    plant.read("e", 0, 0)
    plant.read("e", 0.5, 1)
    plant.tick(11)
    plant.read("o", 1, 1, stamp=-60)
    assert plant.interval(1)["state"] == "final"
    assert plant.interval(2, "o")["reported"] == _ms(11)


def test_a_replayed_past_is_not_late(plant: Plant) -> None:
    """Old readings that come all at once, in their order, make final rows and no revision."""
    for minute in range(30):
        plant.read("e", minute, minute, stamp=100_000)
        plant.read("o", minute, minute, stamp=100_000)
    assert {row["revision"] for row in plant.driver.tables["interval"].values()} == {0}
    assert plant.row("intensity", 20)["state"] == "final"


def test_a_late_reading_revises_the_spans_between_its_neighbours(plant: Plant) -> None:
    """Those two are revised with their cause; the others keep what they were."""
    for minute in (0, 1, 2, 4, 5, 6):
        plant.read("e", minute, minute)
    before = {minute: dict(plant.interval(minute)) for minute in (1, 2, 5, 6)}
    plant.read("e", 3, 2.5, stamp=7)
    for minute in (3, 4):
        assert story(plant.interval(minute)) == ("revised", 1, "late")
        assert plant.interval(minute)["reported"] == _ms(7)
    assert before == {minute: plant.interval(minute) for minute in (1, 2, 5, 6)}


def test_a_late_reading_on_the_line_revises_no_amount_but_what_is_measured(plant: Plant) -> None:
    """Where nothing is said that was not said before, nothing is revised."""
    for minute in (0, 1, 2, 4, 5):
        plant.read("e", minute, minute)
    plant.read("e", 3, 3)
    assert story(plant.interval(3)) == ("final", 0, "")


def test_a_correction_revises_with_its_cause(plant: Plant) -> None:
    """A higher revision of a reading restates both its sides."""
    for minute in range(5):
        plant.read("e", minute, minute)
    plant.read("e", 2, 2.5, revision=1)
    assert story(plant.interval(2)) == ("revised", 1, "correction")
    assert story(plant.interval(3)) == ("revised", 1, "correction")
    assert story(plant.interval(4)) == ("final", 0, "")


def test_another_value_for_the_same_instant_revises_as_a_conflict(plant: Plant) -> None:
    """Neither value counts, the line goes on between the neighbours; once resolved it is said again."""
    for minute in range(5):
        plant.read("e", minute, minute * minute)
    plant.read("e", 2, 6)
    assert story(plant.interval(2)) == ("revised", 1, "conflict")
    assert plant.interval(2)["amount"] == 4
    plant.read("e", 2, 6, revision=1)
    assert story(plant.interval(2)) == ("revised", 2, "correction")


def test_a_derived_row_has_the_revisions_of_those_beneath_it(plant: Plant) -> None:
    """A window's and a roll-up's revision is the sum over the spans in it."""
    for minute in range(17):
        plant.read("e", minute, minute)
        plant.read("o", minute, minute)
    plant.read("e", 3, 2.5, revision=1)
    plant.read("o", 3, 2.5, revision=1)
    assert plant.row("rollup", 15, scope="plant:p", measures="electricity", span="15m")["revision"] == 2
    assert plant.row("intensity", 15)["revision"] == 4
    assert plant.row("intensity", 16)["state"] == "revised"
    assert [plant.interval(minute)["revision"] for minute in (3, 4)] == [1, 1]


def test_a_window_without_the_revised_span_keeps_its_revision(plant: Plant) -> None:
    """Restatement reaches exactly the windows that hold what changed."""
    for minute in range(40):
        plant.read("e", minute, minute)
        plant.read("o", minute, minute)
    before = dict(plant.row("intensity", 35))
    plant.read("e", 3, 2.5, revision=1)
    assert before == plant.row("intensity", 35)
    assert plant.row("intensity", 17)["revision"] == 2
    assert plant.row("intensity", 18)["revision"] == 1
    assert plant.row("intensity", 19)["state"] == "final"


def test_a_roll_up_is_final_when_the_last_of_its_points_is(plant: Plant) -> None:
    """One silent point keeps the ratio open; its own roll-up is final already."""
    for minute in range(17):
        plant.read("e", minute, minute)
        if minute < 15:
            plant.read("o", minute, minute)
    assert plant.row("rollup", 15, scope="point:p/e", span="15m")["state"] == "final"
    assert plant.row("rollup", 15, scope="plant:p", measures="output", span="15m")["state"] == "open"
    plant.read("o", 15, 15, stamp=16)
    assert plant.row("intensity", 15)["state"] == "final"


def test_an_interval_read_that_comes_into_its_place_is_final_at_once(plant: Plant) -> None:
    """A read ends where it ends: nothing more is expected of its span."""
    plant.read("b", 15, 3, start_ms=_ms(0))
    assert story(plant.interval(15, "b")) == ("final", 0, "")


def test_an_interval_read_that_is_corrected_is_revised(plant: Plant) -> None:
    """The correction of an amount restates the row and what is above it."""
    plant.read("b", 15, 3, start_ms=_ms(0))
    plant.read("b", 30, 3, start_ms=_ms(15))
    plant.read("b", 15, 4, start_ms=_ms(0), revision=1)
    assert story(plant.interval(15, "b")) == ("revised", 1, "correction")
    assert story(plant.interval(30, "b")) == ("final", 0, "")
    assert plant.row("rollup", 15, scope="plant:p", measures="water", span="15m")["revision"] == 1


def test_a_duplicate_says_nothing_again(plant: Plant) -> None:
    """What was there already changes no row but the count of the hop."""
    for minute in range(3):
        plant.read("e", minute, minute)
    said = len(plant.driver.history)
    plant.read("e", 1, 1)
    assert {table for table, _ in plant.driver.history[said:]} == {"hop"}


def test_what_was_said_last_is_what_stands(plant: Plant) -> None:
    """Every row in the tables is the last that was said of its key."""
    for minute in (0, 1, 2, 5, 3, 4):
        plant.read("e", minute, minute * minute)
    last = {}
    for table, row in plant.driver.history:
        if table == "interval":
            last[row["point"], row["end"]] = row
    assert all(
        last[r["point"], r["end"]]["amount"] == r["amount"] for r in plant.driver.tables["interval"].values()
    )


def test_a_window_that_patience_made_final_is_reported_by_the_reading_that_reaches_it(plant: Plant) -> None:
    """All were silent, patience ran out; the first reading behind it says the windows of that time."""
    for minute in range(17):
        plant.read("e", minute, minute)
    plant.tick(100)
    plant.read("o", 60, 60, stamp=101)
    row = plant.row("intensity", 25)
    assert (*story(row), row["reported"]) == ("final", 0, "", _ms(101))


def test_a_copy_of_a_reading_that_was_corrected_makes_nothing_late(tmp_path: Path) -> None:
    """Of a record that holds such a copy and ends a doubt, the doubt is the cause, however the log is cut."""
    (tmp_path / "site.yaml").write_text(SITE.replace("kWh,", "kWh, limit: 600 kW,"))
    roster = compile_roster(load_site(tmp_path / "site.yaml"))
    first = Reading("p", "o", _ms(1), "1")
    records = [
        (first, Reading("p", "e", _ms(0), "100"), Reading("p", "e", _ms(1), "50")),
        (Reading("p", "o", _ms(1), "2", revision=1), Reading("p", "o", _ms(5), "3")),
        (first, Reading("p", "e", _ms(2), "102")),
    ]
    log = [Arrival(_ms(5 + number), readings) for number, readings in enumerate(records)]
    whole, cut = run(roster, log), run(roster, log, cut=lambda: 1)
    assert differences(whole.tables, cut.tables) == []
    causes = {
        row["cause"] for row in cut.tables["interval"].values() if row["point"] == "e" and row["revision"]
    }
    assert causes == {"verdict"}


def test_a_fall_behind_a_reading_that_is_corrected_later_is_a_verdict_of_its_own_record(
    tmp_path: Path,
) -> None:
    """What a record of the same batch makes of the reading before it is not known yet when it comes."""
    (tmp_path / "site.yaml").write_text(SITE.replace("kWh,", "kWh, limit: 600 kW,"))
    roster = compile_roster(load_site(tmp_path / "site.yaml"))
    rising = [Reading("p", "e", _ms(minute), str(100 + 2 * minute)) for minute in range(4)]
    rising += [Reading("p", "o", _ms(minute), str(minute)) for minute in range(4)]
    last = [
        Reading("p", "o", _ms(4), "5"),
        Reading("p", "e", _ms(4), "105"),
        Reading("p", "e", _ms(3), "104.5", revision=1),
    ]
    log = [Arrival(_ms(9), (reading,)) for reading in (*rising, *last)]
    sizes = iter([len(rising), len(last), 1])
    one, other = (run(roster, log, cut=cut) for cut in (lambda: 1, lambda: next(sizes)))
    assert unlike_reports(one, other) == []
    said = [row for name, row in one.history if name == "interval" and row["point"] == "e"]
    causes = [row["cause"] for row in said if row["end"] == _ms(3) and row["state"] != "open"]
    assert causes == ["", "verdict", "correction"]


def test_a_late_reading_that_changes_nothing_leaves_what_was_reported(tmp_path: Path) -> None:
    """It lies on the line, in a span without a reading: when that was said stays, as there is no revision."""
    plant = Plant(tmp_path)
    for minute in (0, 2, *range(3, 25)):
        plant.read("e", minute, minute)
    before = plant.interval(2)
    assert (before["state"], before["revision"]) == ("final", 0)
    plant.read("e", 1.5, 1.5, stamp=25)
    assert plant.interval(2) == before
    assert not said_again(plant.driver)


def test_a_read_over_what_patience_made_final_revises_that_part_of_it(plant: Plant) -> None:
    """A night shift's read comes when the day before is final already: that is said anew, as a revision."""
    day, hour = 1440, 60
    plant.read("b", 4 * hour, 8.0, start_ms=_ms(0))
    plant.tick(day + 29)
    before = plant.row("rollup", day, scope="plant:p", measures="water", span="day")
    assert (story(before), before["amount"]) == (("final", 0, ""), Decimal(8))
    plant.read("b", day + 20, 4.0, start_ms=_ms(day - 20), stamp=day + 29)
    after = plant.row("rollup", day, scope="plant:p", measures="water", span="day")
    assert (story(after), after["amount"]) == (("revised", 1, "late"), Decimal(10))
    assert not said_again(plant.driver, "rollup")


def test_when_patience_made_something_final_is_saved() -> None:
    """Nothing but that has changed of it since it was saved last; what is said of it later rests on it."""
    first_ms, later_ms, quarter = 1_775_314_860_000, 1_775_401_260_000, 15 * MINUTE_MS

    def read(point: str, end_ms: int, value: str, length_ms: int = quarter, revision: int = 0) -> Reading:
        return Reading("isle", point, end_ms, value, end_ms - length_ms, revision)

    end_ms = first_ms - MINUTE_MS
    again = read("v", end_ms, "2.5")
    log = [
        Arrival(first_ms, (read("v", end_ms + 105 * MINUTE_MS, "0"),)),
        Arrival(first_ms, (again, read("v", end_ms, "2.5", 3 * quarter // 2, revision=1))),
        Arrival(later_ms),
        Arrival(later_ms, (read("back", end_ms + 120 * MINUTE_MS, "1", 2 * quarter), again)),
    ]
    roster = roster_of("reads")
    saved, whole = run(roster, log, cut=lambda: 1, restart=lambda: True), run(roster, log)
    assert unlike_reports(saved, whole) == []
