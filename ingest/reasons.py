"""Why a message or a reading is not taken: column ``reason`` of the table ``rejected``."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Reason(StrEnum):
    """Stable names; ``meaning`` says in a line what each stands for."""

    meaning: str

    def __new__(cls, name: str, meaning: str) -> Self:
        reason = str.__new__(cls, name)
        reason._value_ = name
        reason.meaning = meaning
        return reason

    EMPTY = "empty", "the payload has no bytes, or holds no reading"
    NOT_UTF8 = "not_utf8", "the payload is not UTF-8 text"
    NOT_JSON = "not_json", "the payload is not JSON"
    TOO_LARGE = "too_large", "the packet is larger than the endpoint takes, or has too many readings"
    TOO_DEEP = "too_deep", "the JSON is nested too deeply"
    WRONG_SHAPE = "wrong_shape", "the JSON is no reading: another type, a field of another type"
    DUPLICATE_KEY = "duplicate_key", "an object has the same key twice"
    VALUE_MISSING = "value_missing", "the reading has no value"
    VALUE_NOT_NUMBER = "value_not_number", "the value is neither a number nor a decimal string"
    VALUE_NOT_FINITE = "value_not_finite", "the value is NaN or infinite"
    VALUE_OUT_OF_RANGE = "value_out_of_range", "the value's magnitude is 10**15 or more"
    TIME_MISSING = "time_missing", "the reading has no time"
    TIME_INVALID = "time_invalid", "the time is neither RFC 3339 nor whole epoch milliseconds"
    TIME_WITHOUT_ZONE = "time_without_zone", "the time does not say its zone"
    TIME_BEFORE_2000 = "time_before_2000", "the time lies before 2000-01-01T00:00:00Z"
    TIME_IN_FUTURE = "time_in_future", "the time lies more than ten minutes after the message came"
    START_MISSING = "start_missing", "the point reads intervals, and the reading has no start"
    START_NOT_BEFORE_TIME = "start_not_before_time", "the interval ends where it starts, or before"
    UNKNOWN_PLANT = "unknown_plant", "the site file has no such plant"
    UNKNOWN_POINT = "unknown_point", "the site file has no such point"
    POINT_OF_OTHER_PLANT = "point_of_other_plant", "the point belongs to another plant"
    UNIT_UNKNOWN = "unit_unknown", "the unit is not one that meterflow knows"
    UNIT_NOT_CONVERTIBLE = "unit_not_convertible", "the unit measures something else than the point does"
    REVISION_INVALID = "revision_invalid", "the revision is no whole number from 0 to 2147483647"
    DECISION_INVALID = "decision_invalid", "the decision's words, span, name or value do not fit together"
    TOPIC_UNKNOWN = "topic_unknown", "the topic is none that readings come on"
    TOPIC_INVALID = "topic_invalid", "no message may have this topic: empty, wildcards, NUL, not UTF-8"
    NOT_PERMITTED = "not_permitted", "the user may not publish for this plant, or the sender may not decide"
    NOT_DECODED = "not_decoded", "the decoder failed on the message; its log line says how"
