"""Civil time against the slow, obviously right way: one instant at a time through zoneinfo."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.civil import DAY_MS, FIRST_MS, HOUR_MS, LAST_MS, SPANS, Span, zone
from metering.errors import UsageError

ZONES = (
    "Asia/Shanghai",
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
    "America/Sao_Paulo",
    "Asia/Beirut",
    "Africa/Casablanca",
    "America/Caracas",
    "Asia/Pyongyang",
    "Pacific/Apia",
)
SHOWN_TWICE = "America/St_Johns"
"""Went back from 00:01 to 23:01 of the day before, until 2011."""

instants = st.integers(FIRST_MS + 400 * DAY_MS, LAST_MS - 400 * DAY_MS)
zones = st.sampled_from(ZONES)
spans = st.sampled_from(SPANS)


def _local(name: str, utc_ms: int) -> datetime:
    return datetime.fromtimestamp(utc_ms // 1000, UTC).astimezone(ZoneInfo(name))


def _changes(name: str) -> list[int]:
    return [int(ms) for ms in zone(name)._changes]


def _near_change(name: str) -> st.SearchStrategy[int]:
    """Instants within two days of a transition between 2000 and 2026, where mistakes live."""
    near = [ms for ms in _changes(name) if FIRST_MS + 400 * DAY_MS < ms < 1_767_225_600_000]
    if not near:
        return instants
    return st.builds(lambda at, off: at + off, st.sampled_from(near), st.integers(-2 * DAY_MS, 2 * DAY_MS))


def _one(values: np.ndarray) -> int:
    return int(values.reshape(-1)[0])


@settings(max_examples=400, deadline=None)
@given(st.data(), zones)
def test_the_day_the_month_and_the_year_are_those_of_the_local_date(data: st.DataObject, name: str) -> None:
    """Dates agree with zoneinfo, far from and close to changes of the clocks."""
    utc_ms = data.draw(st.one_of(instants, _near_change(name)))
    local, at = _local(name, utc_ms), np.array([utc_ms], np.int64)
    assert _one(zone(name).day_index(at)) == (local.date() - date(1970, 1, 1)).days
    assert _one(zone(name).month_index(at)) == (local.year - 1970) * 12 + local.month - 1
    assert _one(zone(name).year_index(at)) == local.year - 1970


@settings(max_examples=400, deadline=None)
@given(st.data(), st.sampled_from((*ZONES, SHOWN_TWICE)), spans)
def test_an_instant_lies_in_its_own_span(data: st.DataObject, name: str, span: Span) -> None:
    """start <= instant < end, for every span and zone."""
    utc_ms = data.draw(st.one_of(instants, _near_change(name)))
    index = zone(name).index_of(span, np.array([utc_ms], np.int64))
    assert _one(zone(name).start_of(span, index)) <= utc_ms < _one(zone(name).end_of(span, index))


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from((*ZONES, SHOWN_TWICE)), spans)
def test_the_edges_of_a_span_are_exact_to_the_millisecond(data: st.DataObject, name: str, span: Span) -> None:
    """The start belongs to the span, the millisecond before it to an earlier one."""
    utc_ms = data.draw(st.one_of(instants, _near_change(name)))
    index = zone(name).index_of(span, np.array([utc_ms], np.int64))
    start = _one(zone(name).start_of(span, index))
    around = np.array([start - 1, start], np.int64)
    before, inside = zone(name).index_of(span, around)
    assert before < inside == _one(index)


@settings(max_examples=200, deadline=None)
@given(st.data(), zones)
def test_a_local_clock_time_is_what_zoneinfo_shows(data: st.DataObject, name: str) -> None:
    """``local`` is the wall clock."""
    utc_ms = data.draw(st.one_of(instants, _near_change(name))) // 1000 * 1000
    shown = _local(name, utc_ms).replace(tzinfo=UTC)
    assert _one(zone(name).local(np.array([utc_ms], np.int64))) == int(shown.timestamp()) * 1000


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from(("Asia/Kolkata", "Asia/Kathmandu", "Pacific/Chatham", "Europe/Berlin")))
def test_hours_begin_when_the_local_clock_shows_a_full_hour(data: st.DataObject, name: str) -> None:
    """Also in zones that are off the hour."""
    utc_ms = data.draw(st.one_of(instants, _near_change(name)))
    index = zone(name).hour_index(np.array([utc_ms], np.int64))
    start = _one(zone(name).start_of("hour", index))
    assert _local(name, start).minute == 0
    assert utc_ms - start < HOUR_MS


@pytest.mark.parametrize("name", [*ZONES, SHOWN_TWICE])
@pytest.mark.parametrize("span", SPANS)
def test_indexes_never_go_back(name: str, span: Span) -> None:
    """Every second around every change of 26 years, in order."""
    for change in _changes(name)[:60]:
        around = np.arange(change - 2 * HOUR_MS, change + 2 * HOUR_MS, 1000, dtype=np.int64)
        around = around[around >= FIRST_MS]
        assert (np.diff(zone(name).index_of(span, around)) >= 0).all()


def _length_h(name: str, day: date) -> float:
    index = (day - date(1970, 1, 1)).days
    return (_one(zone(name).end_of("day", index)) - _one(zone(name).start_of("day", index))) / HOUR_MS


@pytest.mark.parametrize(
    ("name", "day", "hours"),
    [
        ("Asia/Shanghai", date(2024, 3, 31), 24),
        ("Europe/Berlin", date(2024, 3, 31), 23),
        ("Europe/Berlin", date(2024, 10, 27), 25),
        ("Europe/Berlin", date(2099, 10, 25), 25),
        ("Australia/Lord_Howe", date(2024, 4, 7), 24.5),
        ("Australia/Lord_Howe", date(2024, 10, 6), 23.5),
        ("America/Sao_Paulo", date(2018, 11, 4), 23),
        ("America/Sao_Paulo", date(2018, 2, 17), 25),
        ("Asia/Beirut", date(2024, 3, 31), 23),
        ("Pacific/Apia", date(2011, 12, 30), 0),
    ],
)
def test_days_are_as_long_as_the_clocks_made_them(name: str, day: date, hours: float) -> None:
    """Short, long, half-hour, missing days."""
    assert _length_h(name, day) == hours


def test_the_hour_shown_twice_belongs_to_the_new_day_in_newfoundland() -> None:
    """The day that begins a minute before the clocks go back has 25 hours, and is one interval."""
    assert _length_h("America/St_Johns", date(2010, 11, 7)) == 25


def test_a_day_without_midnight_begins_at_one() -> None:
    """Sao Paulo, 2018-11-04."""
    index = (date(2018, 11, 4) - date(1970, 1, 1)).days
    start = _one(zone("America/Sao_Paulo").start_of("day", index))
    assert _local("America/Sao_Paulo", start).isoformat() == "2018-11-04T01:00:00-02:00"


def test_the_repeated_hour_of_autumn_has_an_index_of_its_own() -> None:
    """02:30 summer time and 02:30 winter time are two hours."""
    first = int(datetime(2024, 10, 27, 0, 30, tzinfo=UTC).timestamp()) * 1000
    pair = zone("Europe/Berlin").hour_index(np.array([first, first + HOUR_MS], np.int64))
    assert pair[1] - pair[0] == 1


def test_a_year_of_days_fills_the_year() -> None:
    """Ends are the next starts, and months and years are made of days."""
    berlin = zone("Europe/Berlin")
    first, last = (date(y, 1, 1) - date(1970, 1, 1) for y in (2024, 2025))
    days = np.arange(first.days, last.days, dtype=np.int64)
    assert (berlin.end_of("day", days)[:-1] == berlin.start_of("day", days)[1:]).all()
    assert _one(berlin.start_of("year", 54)) == berlin.start_of("day", days)[0]
    assert _one(berlin.end_of("year", 54)) == berlin.end_of("month", 54 * 12 + 11)


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "Asia"])
def test_an_unknown_zone_is_a_users_mistake(name: str) -> None:
    """No traceback, a proposal."""
    with pytest.raises(UsageError, match="no time zone"):
        zone(name)


def test_an_instant_far_off_is_a_mistake_of_the_caller() -> None:
    """Sentinels must not silently get a date."""
    with pytest.raises(AssertionError):
        zone("UTC").day_index(np.array([-(2**62)], np.int64))


def test_changes_are_found_to_the_second() -> None:
    """Berlin's two of 2024."""
    expected = [datetime(2024, 3, 31, 1, tzinfo=UTC), datetime(2024, 10, 27, 1, tzinfo=UTC)]
    year = [ms for ms in _changes("Europe/Berlin") if 1_704_067_200_000 <= ms < 1_735_689_600_000]
    assert [datetime.fromtimestamp(ms / 1000, UTC) for ms in year] == expected
    assert timedelta(milliseconds=year[1] - year[0]).days == 210
