"""Register events as people decide them: their ids, what can be said of them, and what that would do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metering.doubts import decision_topic, doubt, limits_too_small


def row(verdict: str = "reset", status: str = "held", **other: Any) -> dict[str, Any]:
    """A row of ``verdict``; a fall from 5 to 0 kWh unless told otherwise."""
    seen = {"from_value": "5 kWh", "to_value": "0 kWh", "unit": "kWh"} | other.pop("seen", {})
    made = {"plant": "steel", "point": "main", "serial": "", "from": 1_000, "to": 61_000}
    return made | {
        "verdict": verdict, "status": status, "by": "rule", "evidence": json.dumps(seen), "revision": 0
    } | other  # fmt: skip


TURNS = {"from_value": "100 Wh", "to_value": "300 Wh", "most_turns": 2, "rolls_at": "65536 Wh"}
"""A rise that may hide up to two turns."""
FALL = TURNS | {"to_value": "40 Wh", "fewest_turns": 1}


def test_a_step_into_another_unit_says_what_becomes_of_what_follows() -> None:
    """The factor is named, and that any word lets what follows count."""
    one = doubt(
        row("decrease", seen={"from_value": "12345678 kWh", "to_value": "12345.7 kWh", "factor": "0.001"})
    )
    assert one.seen.endswith("in another unit from here on, by a factor of 0.001")
    assert all(choice.effect.endswith("; what follows counts as it is shown") for choice in one.choices)


def rises(count: int, needed: str = "490 kW", begin: int = 0, **other: Any) -> list[dict[str, Any]]:
    """Rows of a register that rose minute by minute as its limit does not allow."""
    seen = {"from_value": "1 kWh", "to_value": "9 kWh", "possible": "2.2 kWh", "limit_needed": needed}
    times: list[dict[str, Any]] = [
        {"from": (begin + k) * 60_000, "to": (begin + k + 1) * 60_000} for k in range(count)
    ]
    return [row("spike", seen=seen, **at, **other) for at in times]


def advice(*rows: dict[str, Any]) -> list[tuple[str, int, str]]:
    """Point, how many, and the limit that is told, of rows as they come: newest first."""
    found = limits_too_small([doubt(one) for one in reversed(rows)])
    return [(one.point, one.count, one.needed) for one in found]


def test_a_rise_beyond_the_limit_says_what_it_would_need() -> None:
    """So that a person sees whether that can be."""
    assert doubt(*rises(1)).seen.endswith("the limit allows at most 2.2 kWh, it would need one of 490 kW")


def test_many_rises_in_a_row_say_that_a_limit_may_be_too_small() -> None:
    """With the limit that would allow all of them; fewer may be wrong readings."""
    assert advice(*rises(5), *rises(1, "510 kW", 5), *rises(2, begin=6)) == [("main", 8, "510 kW")]
    assert advice(*rises(4)) == []
    (one,) = limits_too_small([doubt(one) for one in rises(5)])
    assert "5 rises in a row" in one.words
    assert "490 kW would allow all of them" in one.words


def test_rises_that_are_not_in_a_row_say_nothing_of_a_limit() -> None:
    """With something that counts between them, of several points, decided, or unlike each other."""
    assert advice(*rises(3), *rises(3, begin=4)) == []
    assert advice(*rises(3), *rises(3, begin=3, point="other")) == []
    assert advice(*rises(3), *rises(3, begin=3, status="refused")) == []
    assert advice(*rises(3), *rises(3, "49000 kW", begin=3)) == []


def test_rises_in_another_unit_say_nothing_of_a_limit() -> None:
    """Their rows do not say what they would need: each would be a thousand times too much."""
    seen = {"from_value": "1000 kWh", "to_value": "9000 kWh"}
    step = row("spike", seen=seen | {"factor": "1000"}) | {"from": 300_000, "to": 360_000}
    behind = [one | {"evidence": json.dumps(seen)} for one in rises(9, begin=6)]
    assert advice(step, *behind) == []
    assert advice(*rises(5), step, *behind, *rises(4, begin=15)) == [("main", 5, "490 kW")]


def words(**given: Any) -> list[str]:
    """What can be said."""
    return [choice.verdict for choice in doubt(row(**given)).choices]


def test_an_id_is_of_the_key_alone() -> None:
    """Whatever the row says; and another event has another one."""
    one = doubt(row())
    assert doubt(row("spike", "confirmed", by="li", seen={"from_value": "9 kWh"})).id == one.id
    others = [doubt(row() | {name: 7}).id for name in ("plant", "point", "serial", "from", "to")]
    assert len({one.id, *others}) == 6
    assert len(one.id) == 8


@pytest.mark.parametrize(
    ("given", "wanted", "own"),
    [
        ({}, ["reset", "decrease", "rollover"], "reset"),
        ({"verdict": "decrease"}, ["decrease", "reset", "rollover"], "decrease"),
        ({"verdict": "spike", "seen": {"to_value": "9 kWh"}}, ["spike", "reset", "plain"], "spike"),
        ({"verdict": "gap", "seen": {"to_value": "9 kWh"}}, ["spike", "reset"], ""),
        ({"verdict": "gap"}, ["reset", "decrease", "rollover"], ""),
        (
            {"verdict": "glitch", "seen": {"left_out": 2}},
            ["glitch", "spike", "stuck", "clock_jump", "plain"],
            "glitch",
        ),
        ({"verdict": "conflict", "to": 1_000}, ["conflict"], "conflict"),
        ({"verdict": "plain", "seen": TURNS}, ["plain", "rollover", "spike", "reset"], "plain"),
        ({"verdict": "rollover", "seen": FALL}, ["rollover", "reset", "decrease"], "rollover"),
        ({"verdict": "replacement"}, [], ""),
        ({"verdict": "spike", "seen": {"value": "7 kWh"}}, ["spike", "plain"], "spike"),
        ({"verdict": "overlap", "seen": {"value": "7 kWh"}}, ["overlap", "plain", "spike"], "overlap"),
        ({"verdict": "plain", "seen": {"value": "7 kWh"}}, ["plain", "spike", "overlap"], "plain"),
    ],
)
def test_what_can_be_said_fits_the_event(given: dict[str, Any], wanted: list[str], own: str) -> None:
    """Its own word first; a fall can be no plain rise."""
    assert words(**given) == wanted
    assert doubt(row(**given)).own == own


def test_what_a_person_said_can_be_taken_back_in_any_words() -> None:
    """The row of a decided event no longer tells what lies between."""
    assert {"plain", "glitch", "reset"} <= set(words(verdict="plain", status="refused"))


@pytest.mark.parametrize(
    ("given", "word", "effect"),
    [
        ({}, "reset", "writes −5 kWh off; what was used between stays unknown"),
        ({"seen": {"to_value": "9.50 kWh"}, "verdict": "spike"}, "plain", "books 4.5 kWh, estimated"),
        (
            {"seen": {"to_value": "6 kWh", "left_out": 1}, "verdict": "glitch"},
            "glitch",
            "leaves 1 reading out and books 1 kWh, estimated",
        ),
        (
            {"seen": {"left_out": 3}, "verdict": "glitch"},
            "plain",
            "keeps the 3 readings left out; what then is doubtful is listed",
        ),
        (
            {"verdict": "plain", "seen": TURNS},
            "plain",
            "books 200 Wh, estimated: the register did not pass its end",
        ),
        (
            {"verdict": "plain", "seen": TURNS},
            "rollover",
            "books 65736 Wh, estimated: the register passed its end once",
        ),
        (
            {"verdict": "rollover", "seen": FALL},
            "rollover",
            "books 65476 Wh, estimated: the register passed its end once",
        ),
        (
            {"verdict": "glitch", "status": "confirmed", "seen": FALL | {"left_out": 1}},
            "glitch",
            "leaves 1 reading out and books 65476 Wh, estimated",
        ),
        (
            {"seen": {"value": "7 kWh"}, "verdict": "overlap"},
            "plain",
            "books 7 kWh as it was read; reads that share time with it are written off",
        ),
        (
            {"seen": {"value": "7 kWh"}, "verdict": "spike"},
            "spike",
            "writes 7 kWh off; what was used is what other reads say, else unknown",
        ),
        (
            {"seen": {"value": "7 kW"}, "verdict": "spike", "to": 1_000},
            "plain",
            "counts 7 kW as it was read, until the next reading",
        ),
        (
            {"seen": {"value": "7 kW"}, "verdict": "spike", "to": 1_000},
            "spike",
            "writes 7 kW off; what was until the next reading stays unknown",
        ),
        ({"evidence": "no JSON"}, "plain", "books what lies between, estimated"),
    ],
)
def test_each_word_says_what_it_would_do(given: dict[str, Any], word: str, effect: str) -> None:
    """To the amount, as the register shows it."""
    assert doubt(row(**given)).effect(word) == effect


def test_a_decision_counts_more_than_the_one_before_it() -> None:
    """So that a person can change his mind."""
    first, later = doubt(row(serial="A-17")), doubt(row(seen={"decision": 4}))
    assert first.message("reset", "li") == {
        "from": 1_000, "to": 61_000, "verdict": "reset", "by": "li", "revision": 0, "serial": "A-17"
    }  # fmt: skip
    assert later.message("conflict", "li", "7")["revision"] == 5
    assert later.message("conflict", "li", "7")["value"] == "7"
    assert decision_topic("steel", "main") == "meterflow/v1/steel/main/decision"


def test_turns_that_nobody_saw_are_told_in_words() -> None:
    """How many there may have been, and where the register ends."""
    one = doubt(row("plain", seen=TURNS | {"fewest_turns": 0}))
    assert one.seen == "from 100 Wh, to 300 Wh, may have passed its end at 65536 Wh 0 to 2 times"


def test_what_may_hide_turns_is_confirmed_as_plain_and_not_refused() -> None:
    """To refuse it would not say what happened; any other event is refused by 'plain'."""
    assert doubt(row("plain", seen=TURNS)).refusal == ""
    assert doubt(row("plain", "refused", seen={"to_value": "9 kWh"})).refusal == "plain"
    assert doubt(row("rollover", seen=FALL)).refusal == "plain"


def test_reads_that_begin_apart_are_told_by_their_starts() -> None:
    """A decision on them may name the one that counts: it is of its start, else of the instant alone."""
    starts = ["2026-01-05T00:15:00Z", "2026-01-05T00:30:00Z"]
    one = doubt(row("conflict", seen={"values": ["6 kWh", "6 kWh"], "starts": starts}))
    assert f"values 6 kWh from {starts[0]} or 6 kWh from {starts[1]}" in one.seen
    assert one.message("conflict", "li", "6", 5_000)["from"] == 5_000
    assert one.message("conflict", "li", "6")["from"] == one.to_ms
