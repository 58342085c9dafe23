"""Payloads into readings, and every bad one into its own reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingest.decode import Decoded, Decoder, Delivery
from ingest.decode_exact import ELEMENTS_MAX
from metering.readings import NO_TIME
from tests.ingest.ingest_builders import NOW, NOW_MS, TOPIC, decode, reading, reasons, roster, rows

PLANT = "meterflow/v1/steel"
BOOKS = "meterflow/v1/steel/books"
GOOD = '{"time": "2026-11-22T08:00:00Z", "value": 7}'


def one(decoded: Decoded) -> dict[str, Any]:
    """The only reading, of a message without fault."""
    assert decoded.rejected == []
    (row,) = rows(decoded)
    return row


def test_a_reading_is_taken_with_all_its_fields() -> None:
    """Value, time, unit, serial, seq, revision, product and quality."""
    more = {
        "unit": "MWh",
        "serial": "A-17",
        "seq": 9,
        "revision": 2,
        "product": "billet",
        "quality": "estimated",
    }
    found = one(decode(TOPIC, reading("0.10", "2026-11-22T16:00:00.1239+08:00", **more)))
    assert found == {
        "plant": "steel", "point": "main", "time": NOW_MS + 123, "start": NO_TIME, "value": (10, -2),
        "unit": "MWh", "serial": "A-17", "product": "billet", "revision": 2, "seq": 9, "quality": 3,
        "flags": 0, "received": NOW_MS,
    }  # fmt: skip


def test_optional_fields_may_be_null_or_empty() -> None:
    """What serialisers send for nothing is nothing."""
    nothing = {"unit": None, "serial": "", "seq": None, "revision": None, "product": None, "quality": None}
    assert one(decode(TOPIC, reading(1, **nothing, start=None))) == one(decode(TOPIC, reading(1)))


def test_fields_nobody_knows_are_passed_over() -> None:
    """Devices send more than is asked."""
    assert one(decode(TOPIC, reading(1, rssi=-70, nested={"a": [1, {"b": "c"}]})))["value"] == (1, 0)


def test_an_array_and_a_plants_array_and_a_gateways_object_say_the_same() -> None:
    """Four ways of sending the same readings."""
    times = [NOW_MS - 60_000, NOW_MS]
    on_point = [json.loads(reading(i, t)) for i, t in enumerate(times)]
    on_plant = [{"point": "main", **element} for element in on_point]
    single = rows(
        Decoder(roster()).decode([Delivery([TOPIC] * 2, [json.dumps(e).encode() for e in on_point], NOW_MS)])
    )
    gateway = [rows(decode(PLANT, {"time": t, "values": {"main": i}})) for i, t in enumerate(times)]
    assert rows(decode(TOPIC, on_point)) == single
    assert rows(decode(PLANT, on_plant)) == single
    assert [*gateway[0], *gateway[1]] == single


def test_a_gateways_start_is_for_its_interval_points_only() -> None:
    """Registers in the same object ignore it; ``seq`` is carried to each reading."""
    message = {"time": NOW_MS, "start": NOW_MS - 60_000, "gateway": "g", "sent": NOW, "seq": 4}
    found = rows(decode(PLANT, {**message, "values": {"main": "1.50", "books": 3}}))
    assert [(row["point"], row["start"], row["seq"]) for row in found] == [
        ("main", NO_TIME, 4),
        ("books", NOW_MS - 60_000, 4),
    ]


def test_more_than_eighteen_digits_are_rounded_and_flagged() -> None:
    """Through the batch as alone."""
    found = one(decode(TOPIC, f'{{"time":{NOW_MS},"value":1.0000000000000000005}}'))
    assert (found["value"], found["flags"]) == ((100000000000000000, -17), 1)


def test_the_readings_of_a_batch_are_cut_by_plant_in_order_of_receipt() -> None:
    """One ``Readings`` for each plant, whichever way each message was decoded."""
    topics = [TOPIC, "meterflow/v1/paper/main", PLANT, TOPIC, "meterflow/v1/paper"]
    payloads = [
        reading(1), reading(2, x=1),
        b'[{"point":"intake","time":1,"value":0},' + reading(3, point="intake") + b"]",
        reading(4), b'{"time":%d,"values":{"rolls":5,"main":6}}' % NOW_MS,
    ]  # fmt: skip
    decoded = Decoder(roster()).decode([Delivery(topics, payloads, NOW_MS)])
    found = [(r.plant, [row["value"][0] for row in rows(Decoded([r], [], 0))]) for r in decoded.readings]
    assert found == [("steel", [1, 3, 4]), ("paper", [2, 5, 6])]
    assert (decoded.received, reasons(decoded)) == (7, ["time_before_2000"])


@pytest.mark.parametrize("stamp", ["1795334400", "1795334400000000"])
def test_seconds_and_microseconds_are_asked_after(stamp: str) -> None:
    """Who sends them reads in the refusal what was wrong."""
    (rejected,) = decode(TOPIC, f'{{"time": {stamp}, "value": 1}}').rejected
    assert rejected.row["detail"] == f"{stamp}: are these milliseconds?"


def value(text: str) -> str:
    """A reading with this text for its value."""
    return f'{{"time": "{NOW}", "value": {text}}}'


def time(text: str) -> str:
    """A reading with this text for its time."""
    return f'{{"time": {text}, "value": 1}}'


BAD_ELEMENTS = [
    ("[]", "wrong_shape"),
    ("1", "wrong_shape"),
    ("null", "wrong_shape"),
    ("{}", "time_missing"),
    ('{"value": 1}', "time_missing"),
    ('{"time": null, "value": 1}', "time_missing"),
    (f'{{"time": "{NOW}"}}', "value_missing"),
    (value("NaN"), "value_not_finite"),
    (value("Infinity"), "value_not_finite"),
    (value("-Infinity"), "value_not_finite"),
    (value('"NaN"'), "value_not_finite"),
    (value("1e400"), "value_out_of_range"),
    (value("1e15"), "value_out_of_range"),
    (value("-1000000000000000"), "value_out_of_range"),
    (value("9" * 5_000), "value_out_of_range"),
    (value("true"), "value_not_number"),
    (value("null"), "value_not_number"),
    (value('"12,5"'), "value_not_number"),
    (value("[1]"), "value_not_number"),
    (value("[" * 100_000 + "]" * 100_000), "too_deep"),
    (value('{"a":' * 100_000 + "1" + "}" * 100_000), "too_deep"),
    (f'{{"time": "{NOW}", "value": 1, "value": 2}}', "duplicate_key"),
    (f'{{"time": "{NOW}", "value": 1, "time": "{NOW}"}}', "duplicate_key"),
    (f'{{"time": "{NOW}", "value": 1, "x": 1, "x": 1}}', "duplicate_key"),
    (time("0"), "time_before_2000"),
    (time('"1970-01-01T00:00:00Z"'), "time_before_2000"),
    (time("946684799999"), "time_before_2000"),
    (time('"2099-01-01T00:00:00Z"'), "time_in_future"),
    (time(str(NOW_MS + 600_001)), "time_in_future"),
    (time(str(NOW_MS * 1_000_000)), "time_in_future"),
    (time("9" * 5_000), "time_in_future"),
    (time("-" + "9" * 5_000), "time_before_2000"),
    (time('"2026-11-22T08:00:00"'), "time_without_zone"),
    (time(f'"{NOW_MS}"'), "time_invalid"),
    (time(f"{NOW_MS}.0"), "time_invalid"),
    (time("1.7e12"), "time_invalid"),
    (time("NaN"), "time_invalid"),
    (time("true"), "time_invalid"),
    (time('"soon"'), "time_invalid"),
    (time('"\\ud800"'), "time_invalid"),
    (value('1, "start": 1'), "wrong_shape"),
    (value('1, "unit": "parsec"'), "unit_unknown"),
    (value('1, "unit": "m3"'), "unit_not_convertible"),
    (value('1, "unit": 1'), "wrong_shape"),
    (value('1, "revision": -1'), "revision_invalid"),
    (value('1, "revision": 2147483648'), "revision_invalid"),
    (value('1, "revision": "1"'), "revision_invalid"),
    (value('1, "revision": 1.5'), "revision_invalid"),
    (value('1, "seq": -1'), "wrong_shape"),
    (value('1, "seq": 9223372036854775808'), "wrong_shape"),
    (value('1, "serial": 17'), "wrong_shape"),
    (value('1, "serial": "\\u0000"'), "wrong_shape"),
    (value('1, "serial": "\\ud800"'), "wrong_shape"),
    (value(f'1, "serial": "{"A" * 201}"'), "wrong_shape"),
    (value('1, "quality": "fine"'), "wrong_shape"),
    (value('1, "point": "intake"'), "wrong_shape"),
    (value('1, "point": 7'), "wrong_shape"),
]


@pytest.mark.parametrize(("text", "reason"), BAD_ELEMENTS, ids=lambda text: text[:30])
def test_a_bad_element_has_its_own_reason_and_the_others_are_taken(text: str, reason: str) -> None:
    """Alone, between good ones in an array, and in a batch with good messages."""
    if text != "[]":
        assert reasons(decode(TOPIC, text)) == [reason]
    decoded = decode(TOPIC, f"[{GOOD}, {text} ,{GOOD}]")
    assert (reasons(decoded), len(rows(decoded)), decoded.received) == ([reason], 2, 3)
    (rejected,) = decoded.rejected
    assert rejected.row["payload"] == text
    assert rejected.plant == "steel"
    delivery = Delivery([TOPIC] * 3, [GOOD.encode(), text.encode(), GOOD.encode()], NOW_MS)
    assert len(rows(Decoder(roster()).decode([delivery]))) == 2


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"[]", "empty"),
        (b"hello", "not_json"),
        (b"\xef\xbb\xbf" + GOOD.encode(), "not_json"),
        (GOOD.encode() + b"}", "not_json"),
        (b"[" + GOOD.encode(), "not_json"),
        (b"[" + GOOD.encode() + b",]", "not_json"),
        (b"[" + GOOD.encode() + b"] x", "not_json"),
        (GOOD.encode().replace(b"7", b"07"), "not_json"),
        (b"\xff", "not_utf8"),
        (b'{"time": 1, "value": 1, "x": "\xff"}', "not_utf8"),
        (b"[" * 100_000, "too_deep"),
        (b'"12.5"', "wrong_shape"),
        (b"12.5", "wrong_shape"),
        (b"[" + b",".join([b"1"] * (ELEMENTS_MAX + 1)) + b"]", "too_large"),
    ],
)
def test_a_message_that_is_no_json_is_refused_whole(payload: bytes, reason: str) -> None:
    """It counts one, and its row has the payload as it came."""
    decoded = decode(TOPIC, payload)
    assert (reasons(decoded), decoded.received, rows(decoded)) == ([reason], 1, [])
    stored = str(decoded.rejected[0].row["payload"])
    assert reason == "not_utf8" or stored.encode() == payload


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("meterflow/v1/nowhere/main", "unknown_plant"),
        ("meterflow/v1/nowhere", "unknown_plant"),
        ("meterflow/v1/steel/nothing", "unknown_point"),
        ("meterflow/v1/steel/rolls", "point_of_other_plant"),
        ("meterflow/v1/steel/main/decided", "topic_unknown"),
        ("meterflow/v1/steel/nothing/decision", "unknown_point"),
        ("meterflow/v1/steel/main/other", "topic_unknown"),
        ("meterflow/v1/steel//decision", "topic_unknown"),
        ("meterflow/v1/", "topic_unknown"),
        ("meterflow/v2/steel/main", "topic_unknown"),
        ("$SYS/broker/version", "topic_unknown"),
        ("/", "topic_unknown"),
    ],
)
def test_a_topic_that_leads_nowhere_says_why(topic: str, reason: str) -> None:
    """The row has topic and payload."""
    decoded = decode(topic, GOOD)
    assert (reasons(decoded), decoded.received) == ([reason], 1)
    assert decoded.rejected[0].row["topic"] == topic
    assert decoded.rejected[0].row["payload"] == GOOD


def test_what_a_user_may_not_publish_for_is_refused_before_anything_is_told() -> None:
    """Another plant, known or not; also through the plant's topic."""
    mine = frozenset({"steel"})
    assert rows(decode(TOPIC, GOOD, mine))
    for topic in ("meterflow/v1/paper/main", "meterflow/v1/paper", "meterflow/v1/nowhere/main"):
        assert reasons(decode(topic, GOOD, mine)) == ["not_permitted"]


def test_elements_of_a_plants_array_name_their_point() -> None:
    """One that names none, an unknown one, another plant's; the rest is taken."""
    names: list[dict[str, object]] = [
        {},
        {"point": "nothing"},
        {"point": "rolls"},
        {"point": 5},
        {"point": "main"},
    ]
    decoded = decode(PLANT, [json.loads(GOOD) | name for name in names])
    assert reasons(decoded) == ["wrong_shape", "unknown_point", "point_of_other_plant", "wrong_shape"]
    assert len(rows(decoded)) == 1
    assert [r.row["point"] for r in decoded.rejected] == [None, "nothing", "rolls", None]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({}, "start_missing"),
        ({"start": NOW_MS}, "start_not_before_time"),
        ({"start": 1}, "time_before_2000"),
        ({"start": "2026-11-22T07:00:00"}, "time_without_zone"),
    ],
)
def test_an_interval_needs_a_start_before_its_end(more: dict[str, object], reason: str) -> None:
    """For points that read intervals, in all three forms."""
    assert reasons(decode(BOOKS, reading(1, **more))) == [reason]
    assert reasons(decode(PLANT, {"time": NOW, **more, "values": {"books": 1, "main": 1}})) == [reason]
    good = rows(decode(BOOKS, reading(1, start=NOW_MS - 1)))
    assert [row["start"] for row in good] == [NOW_MS - 1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"time": TIME, "values": {}}', "empty"),
        ('{"time": TIME, "values": [1]}', "wrong_shape"),
        ('{"time": TIME}', "wrong_shape"),
        ('{"time": TIME, "values": {"main": 1, "main": 2}}', "duplicate_key"),
        ('{"time": TIME, "time": TIME, "values": {"main": 1}}', "duplicate_key"),
        ('{"values": {"main": 1}}', "time_missing"),
        ('{"time": TIME, "values": {"main": null, "intake": 1}}', "value_not_number"),
        ('{"time": TIME, "values": {"main": NaN, "intake": 1}}', "value_not_finite"),
        ('{"time": TIME, "values": {"nothing": 1, "intake": 1}}', "unknown_point"),
        ('{"time": TIME, "values": {"rolls": 1, "intake": 1}}', "point_of_other_plant"),
    ],
)
def test_a_gateways_message_is_judged_value_by_value(text: str, reason: str) -> None:
    """A fault of the whole message refuses it, a fault of a value only that value."""
    decoded = decode(PLANT, text.replace("TIME", f'"{NOW}"'))
    assert reasons(decoded) == [reason]
    assert len(rows(decoded)) == ('"intake"' in text)


def test_a_refused_elements_payload_can_be_sent_again_on_the_same_topic() -> None:
    """When what was wrong is put right, it is taken as it stands."""
    message = {"time": NOW, "start": NOW_MS - 5, "values": {"furnace": "1.50", "books": 7}}
    array = [
        {"point": "furnace", "time": NOW, "value": 2, "seq": 1},
        {"point": "main", "time": NOW, "value": 2},
    ]
    later = roster({"steel": {"furnace": ("register", "kWh")}})
    sent: object
    for sent in (message, array):
        (rejected,) = decode(PLANT, sent).rejected
        again = str(rejected.row["payload"]).encode()
        (row,) = rows(Decoder(later).decode([Delivery([PLANT], [again], NOW_MS)]))
        assert row["point"] == "furnace"


def test_a_payload_that_is_no_text_is_stored_in_base64() -> None:
    """Also text with NUL, which not every store takes."""
    assert decode(TOPIC, b"\xff\x00").rejected[0].row["payload"] == "base64:/wA="
    assert decode(TOPIC, b"a\0").rejected[0].row["payload"] == "base64:YQA="


def test_a_new_roster_is_seen_by_the_next_batch() -> None:
    """A point recorded late finds its readings from then on."""
    decoder = Decoder(roster({"steel": {"other": ("register", "kWh")}}))
    delivery = Delivery([TOPIC], [GOOD.encode()], NOW_MS)
    assert reasons(decoder.decode([delivery])) == ["unknown_point"]
    decoder.roster = roster()
    assert len(rows(decoder.decode([delivery]))) == 1
