"""Numbers and times from their text, exactly: no float ever touches a value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from ingest.reasons import Reason
from metering.readings import (
    FLAG_ROUNDED,
    FUTURE_MAX_MS,
    MAGNITUDE_MAX_EXPONENT,
    MANTISSA_DIGITS_MAX,
    TIME_FIRST_MS,
)

EXPONENT_MIN = -18
"""Digits finer than 10**-18 of whatever unit are rounded away, and flagged."""
_DECIMAL = re.compile(r"([+-]?)(?:([0-9]+)(?:\.([0-9]*))?|\.([0-9]+))(?:[eE]([+-]?)([0-9]+))?")
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_EXPONENT_DIGITS_MAX = 9
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]((?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2})"
    r"(?:\.([0-9]+))?([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])?"
)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 as the times compared with it
_MS = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a value."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Exact:
    """``mantissa * 10**exponent``; the exponent is from -18 to 0, the mantissa has up to 18 digits."""

    mantissa: int
    exponent: int
    flags: int


def exact(text: str) -> Exact | Fault:
    """The number that a decimal text or JSON number means; ``0.10`` keeps its two decimals.

    More than 18 significant digits, or digits beyond the eighteenth decimal, are rounded half to even.
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        wrong = Reason.VALUE_NOT_FINITE if _NOT_FINITE.fullmatch(text) else Reason.VALUE_NOT_NUMBER
        return Fault(wrong, shown(text))
    sign, whole, decimals, only_decimals, exponent_sign, exponent_text = match.groups("")
    decimals = decimals or only_decimals
    digits = (whole + decimals).lstrip("0")
    if not digits:
        return Exact(0, max(-len(decimals), EXPONENT_MIN), 0)
    power = _power(exponent_sign, exponent_text) - len(decimals)
    if len(digits) + power > MAGNITUDE_MAX_EXPONENT:
        return Fault(Reason.VALUE_OUT_OF_RANGE, shown(text))
    found = _fitted(digits, power)
    if len(str(found.mantissa)) + found.exponent > MAGNITUDE_MAX_EXPONENT:
        return Fault(Reason.VALUE_OUT_OF_RANGE, shown(text))
    return Exact(-found.mantissa, found.exponent, found.flags) if sign == "-" else found


def _power(sign: str, digits: str) -> int:
    """A written exponent; one of absurdly many digits is as good as the largest that is not."""
    digits = digits.lstrip("0")
    power = int(digits or 0) if len(digits) <= _EXPONENT_DIGITS_MAX else 10**_EXPONENT_DIGITS_MAX
    return -power if sign == "-" else power


def _fitted(digits: str, power: int) -> Exact:
    """Digits (no leading zero) times 10**power, within the digits and decimals that are kept."""
    if power > 0:  # below 10**15, or it would have been refused: the zeros can be written out
        return Exact(int(digits + "0" * power), 0, 0)
    surplus = max(len(digits) - MANTISSA_DIGITS_MAX, EXPONENT_MIN - power, 0)
    if not surplus:
        return Exact(int(digits), power, 0)
    mantissa, lost = _rounded(digits, surplus)
    exponent = power + surplus
    if len(str(mantissa)) > MANTISSA_DIGITS_MAX:  # 999...9.5 became a one with zeros
        mantissa, exponent = mantissa // 10, exponent + 1
    return Exact(mantissa, exponent, FLAG_ROUNDED if lost else 0)


def _rounded(digits: str, surplus: int) -> tuple[int, bool]:
    """Drops the last ``surplus`` digits, half to even; and whether anything but zeros was dropped."""
    kept = digits[:-surplus] if surplus < len(digits) else ""
    dropped = digits[-surplus:] if surplus <= len(digits) else "0" + digits
    mantissa = int(kept or 0)
    tail = dropped.rstrip("0")
    if tail > "5" or (tail == "5" and mantissa % 2):
        mantissa += 1
    return mantissa, bool(tail)


def epoch_ms(text: str) -> int | Fault:
    """An RFC 3339 time with zone in milliseconds since 1970; what is finer is cut off."""
    match = _TIME.fullmatch(text)
    if match is None:
        return Fault(Reason.TIME_INVALID, shown(text))
    day, clock, fraction, zone = match.groups()
    if zone is None:
        return Fault(Reason.TIME_WITHOUT_ZONE, shown(text))
    try:
        whole = datetime.fromisoformat(f"{day}T{clock}")
    except ValueError:
        return Fault(Reason.TIME_INVALID, shown(text))
    return (whole - _EPOCH) // _MS + int((fraction or "0")[:3].ljust(3, "0")) - _offset_ms(zone)


def _offset_ms(zone: str) -> int:
    if zone in "Zz":
        return 0
    minutes = int(zone[1:3]) * 60 + int(zone[4:6])
    return minutes * (-60_000 if zone[0] == "-" else 60_000)


def time_fault(time_ms: int, received_ms: int) -> Reason | None:
    """The reason not to take a time; the bounds are those of interface.md."""
    if time_ms < TIME_FIRST_MS:
        return Reason.TIME_BEFORE_2000
    return Reason.TIME_IN_FUTURE if time_ms > received_ms + FUTURE_MAX_MS else None


def shown(value: object, size_max: int = 80) -> str:
    """A wrong value for a ``detail``: short and printable."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "an array"
    whole = str(value)
    cut = whole if len(whole) <= size_max else f"{whole[:size_max]}... ({len(whole)} characters)"
    return cut if cut.isprintable() else cut.encode("unicode_escape").decode()
