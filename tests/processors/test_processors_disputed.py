"""Instants that were said twice, in any order: what is said beside them does not hang on batches."""

from __future__ import annotations

import os
import random

import pytest

from tests.processors.histories import roster_of
from tests.processors.log_driver import Arrival, Reading, differences, run

START_MS = 1_767_205_800_000
SEEDS = 1_000 if os.environ.get("METERFLOW_LONG") else 40


def disputed(chance: random.Random) -> list[Arrival]:
    """One or two registers; in five readings one has another value soon after, in ten one is said late."""
    step_ms = chance.choice([20_000, 60_000, 600_000, 3_600_000])
    registers = [point.id for point in roster_of("park").points if point.reads == "register"]
    value = dict.fromkeys(chance.sample(registers, chance.choice([1, 1, 2])), 100)
    log, time_ms = list[Arrival](), START_MS
    for _ in range(chance.randint(6, 40)):
        time_ms += step_ms * chance.choice([1, 1, 1, 3]) + chance.choice([0, 0, 7_000])
        for point in value:
            value[point] += chance.randint(0, 3)
            log.append(said(time_ms, point, time_ms, value[point]))
            if chance.random() < 0.2:
                other = value[point] + chance.choice([-50, 1, 2, 400])
                log.append(said(time_ms + chance.choice([0, 1, 1000]), point, time_ms, other))
            if chance.random() < 0.1:
                old = chance.choice(log[-6:]).readings[0]
                late = value[point] - chance.randint(0, 4)
                log.append(said(time_ms + chance.choice([1, 2000]), old.point, old.time_ms, late))
    return sorted(log, key=lambda arrival: arrival.stamp_ms)


def said(stamp_ms: int, point: str, time_ms: int, value: int) -> Arrival:
    """A record of one reading."""
    return Arrival(stamp_ms, (Reading("p1", point, time_ms, str(value)),))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_however_the_log_is_cut_the_same_is_said(seed: int) -> None:
    """Record by record, at once, and in pieces."""
    chance, roster = random.Random(seed), roster_of("park")
    log = disputed(chance)
    one = run(roster, log, cut=lambda: 1).tables
    assert differences(one, run(roster, log).tables) == []
    assert differences(one, run(roster, log, cut=lambda: chance.randint(1, 9)).tables) == []
