"""Numbers and times from their text, exactly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.numbers import Exact, Fault, epoch_ms, exact
from ingest.reasons import Reason
from metering.readings import FLAG_ROUNDED

DECIMALS = st.from_regex(
    r"[+-]?([0-9]{1,25}(\.[0-9]{0,25})?|\.[0-9]{1,25})([eE][+-]?[0-9]{1,3})?", fullmatch=True
)


def rounded(value: Fraction, exponent: int) -> int:
    """Half to even, by the oracle's own rule."""
    return round(value / Fraction(10) ** exponent)


@settings(deadline=None)
@given(DECIMALS)
def test_a_decimal_is_taken_exactly_or_rounded_half_to_even_and_flagged(text: str) -> None:
    """Against exact fractions."""
    mantissa, _, power = text.lower().partition("e")
    value = Fraction(mantissa if mantissa[-1] != "." else mantissa + "0") * Fraction(10) ** int(power or 0)
    found = exact(text)
    if isinstance(found, Fault):
        assert found.reason == Reason.VALUE_OUT_OF_RANGE
        assert abs(value) > Fraction(10) ** 15 - Fraction(1, 100)
        return
    assert abs(value) < 10**15
    assert found.mantissa == rounded(value, found.exponent)
    assert (found.flags == FLAG_ROUNDED) == (found.mantissa * Fraction(10) ** found.exponent != value)
    assert -18 <= found.exponent <= 0
    assert abs(found.mantissa) < 10**18


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0.10", Exact(10, -2, 0)),
        ("-0", Exact(0, 0, 0)),
        ("0.000", Exact(0, -3, 0)),
        ("0e999999999999", Exact(0, 0, 0)),
        ("1e14", Exact(10**14, 0, 0)),
        ("007.5", Exact(75, -1, 0)),
        ("1e-400", Exact(0, -18, FLAG_ROUNDED)),
        ("1." + "0" * 5_000, Exact(10**17, -17, 0)),
        ("0.1234567890123456785", Exact(123456789012345678, -18, FLAG_ROUNDED)),
        ("0.1234567890123456775", Exact(123456789012345678, -18, FLAG_ROUNDED)),
        ("9.999999999999999995", Exact(10**17, -16, FLAG_ROUNDED)),
    ],
)
def test_edges_of_the_range_are_what_they_say(text: str, wanted: Exact) -> None:
    """Zeros, trailing zeros, halves, and a carry through all digits."""
    assert exact(text) == wanted


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1e15", Reason.VALUE_OUT_OF_RANGE),
        ("1e400", Reason.VALUE_OUT_OF_RANGE),
        ("1e" + "9" * 10_000, Reason.VALUE_OUT_OF_RANGE),
        ("9" * 5_000, Reason.VALUE_OUT_OF_RANGE),
        ("999999999999999.9999999", Reason.VALUE_OUT_OF_RANGE),
        ("NaN", Reason.VALUE_NOT_FINITE),
        ("-Infinity", Reason.VALUE_NOT_FINITE),
        ("", Reason.VALUE_NOT_NUMBER),
        (".", Reason.VALUE_NOT_NUMBER),
        ("1,5", Reason.VALUE_NOT_NUMBER),
        (" 1", Reason.VALUE_NOT_NUMBER),
        ("1_000", Reason.VALUE_NOT_NUMBER),
        ("١", Reason.VALUE_NOT_NUMBER),
        ("0x10", Reason.VALUE_NOT_NUMBER),
    ],
)
def test_what_is_no_number_in_range_says_why(text: str, reason: Reason) -> None:
    """Each with its own reason."""
    found = exact(text)
    assert isinstance(found, Fault)
    assert found.reason == reason
    assert len(found.detail) < 120


def test_hostile_texts_take_no_time() -> None:
    """No pattern backtracks over a million characters."""
    for text in ("1e" + "0" * 1_000_000 + "x", "9" * 1_000_000 + "x", "." * 1_000_000, "0" * 1_000_000):
        exact(text)
        epoch_ms(text)


@settings(deadline=None)
@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001 zones are put on below
    st.integers(-1439, 1439),
)
def test_rfc_3339_is_read_to_the_millisecond(moment: datetime, offset_minutes: int) -> None:
    """Against the standard library, microseconds cut off."""
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=offset_minutes)))
    wanted = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert epoch_ms(aware.isoformat()) == wanted


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2026-11-22T08:00:00", Reason.TIME_WITHOUT_ZONE),
        ("2026-11-22T08:00:00.123", Reason.TIME_WITHOUT_ZONE),
        ("1795334400000", Reason.TIME_INVALID),
        ("2026-11-22", Reason.TIME_INVALID),
        ("2026-02-30T08:00:00Z", Reason.TIME_INVALID),
        ("2026-11-22T24:00:00Z", Reason.TIME_INVALID),
        ("2026-11-22T08:00:00+24:00", Reason.TIME_INVALID),
        ("0000-01-01T00:00:00Z", Reason.TIME_INVALID),
        ("20261122T080000Z", Reason.TIME_INVALID),
        ("yesterday", Reason.TIME_INVALID),
        ("", Reason.TIME_INVALID),
    ],
)
def test_what_is_no_time_says_why(text: str, reason: Reason) -> None:
    """A time without zone is told from one that is none."""
    found = epoch_ms(text)
    assert isinstance(found, Fault)
    assert found.reason == reason
