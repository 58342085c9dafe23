"""The laws, each as a function of a history and of what engines said of its log: words for what is broken.

``Example`` is one history with a log of it and another log of the same; ``broken`` tries every law on it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from metering.roster import FROM_EVER_MS, GAUGE, REGISTER, Roster
from metering.tables import TABLES
from metering.units import MICRO, UNITS
from tests.processors.histories import LARGE, SMALL, History, doubtful, log_of, mixed, replaced
from tests.processors.histories_ruled import ruled
from tests.processors.histories_sparse import sparsely
from tests.processors.log_driver import Driver, Store, differences, of_the_set, run
from tests.processors.oracle_books import multiplier_at
from tests.processors.oracle_windows import tables_of

if TYPE_CHECKING:
    from random import Random

    from tests.processors.log_driver import Arrival, Key, Row

OF_THE_SET = ("interval", "rollup", "intensity", "ledger", "verdict", "alert")
REPORTED = ("interval", "rollup", "intensity", "verdict", "alert")


@dataclass(frozen=True)
class Example:
    """``log``: of the history; it is cut into batches of ``sizes`` records, one after the other and again
    from the first, with a dump and a load behind those that ``starts`` says. ``other``: another log of the
    same readings, some of them twice, in another order.
    """

    history: History
    log: tuple[Arrival, ...]
    other: tuple[Arrival, ...]
    sizes: tuple[int, ...]
    starts: tuple[bool, ...]


def example(chance: Random) -> Example:
    """Mostly small histories; one in fifty is a large one."""
    size = LARGE if chance.random() < 0.02 else SMALL
    makers = [mixed, doubtful, replaced, ruled]
    return example_of(chance, chance.choice([*3 * makers, sparsely])(chance, size))


def example_of(chance: Random, history: History) -> Example:
    """A history with a log of it and another one."""
    readings = list(history.readings)
    twice = readings + [chance.choice(readings) for _ in range(chance.randint(0, 8))]
    return Example(
        history,
        tuple(log_of(chance, readings)),
        tuple(log_of(chance, chance.sample(twice, len(twice)))),
        tuple(chance.choice([1, 1, 2, 3, 10]) for _ in range(chance.randint(1, 8))),
        tuple(chance.random() < 0.5 for _ in range(chance.randint(1, 8))),
    )


def broken(one: Example, *, other: bool = True) -> list[str]:
    """What an example shows to be broken, law by law; nothing where all of them hold.

    Not ``other``: without the log in another order, which the comparison with the oracle mostly makes good.
    """
    roster = one.history.roster
    whole = run(roster, one.log)
    cut = run(roster, one.log, cut=around(one.sizes), restart=around(one.starts))
    found = {
        "oracle": unlike_the_oracle(one.history, whole),
        "story": differences(whole.tables, cut.tables) + unlike_reports(whole, cut),
        "conservation": out_of_balance(one.history, whole),
        "intervals": not_adding_up(roster, whole),
        "unknown": false_figures(whole),
        "gap": gaps_passed_over(roster, whole),
    }
    if other:
        again = run(roster, one.other, cut=lambda: 1)
        found["set"] = differences(of_the_set(whole.tables, OF_THE_SET), of_the_set(again.tables, OF_THE_SET))
    return [f"{law}: {words}" for law, every in found.items() for words in every]


def around(choices: Sequence[Any]) -> Callable[[], Any]:
    """The choices one after the other, again and again."""
    turn = iter(range(1 << 30))
    return lambda: choices[next(turn) % len(choices)]


# -- set: what is said is what the oracle says --------------------------------------------------------


def said(driver: Driver, wanted: Store) -> Store:
    """The tables that an engine said, with the columns that the oracle has an answer for."""
    columns = {name: set[str]().union(*map(set, rows.values())) for name, rows in wanted.items()}
    tables = of_the_set(driver.tables, OF_THE_SET)
    return {
        name: {
            key: {c: v for c, v in row.items() if c in columns[name] or not columns[name]}
            for key, row in rows.items()
        }
        for name, rows in tables.items()
    }


def unlike_the_oracle(history: History, driver: Driver) -> list[str]:
    """Amounts, ratios, quality, verdicts and ledger are what exact fractions give, for any readings."""
    wanted = tables_of(history.roster, history.readings)
    return differences(said(driver, wanted), wanted)


# -- story: what was reported ------------------------------------------------------------------------


def reported(driver: Driver) -> dict[tuple[str, Key], list[Row]]:
    """By key, every row that was reported, each once, in the order they were said."""
    out: dict[tuple[str, Key], list[Row]] = {}
    for name, row in driver.history:
        if name in REPORTED:
            versions = out.setdefault((name, tuple(row[column] for column in TABLES[name].key)), [])
            shown = {"gone": True} if row["gone"] else row
            said_before = versions and versions[-1] != shown
            if row.get("state") != "open" and (said_before or not versions) and (versions or not row["gone"]):
                versions.append(shown)
    return {key: versions for key, versions in out.items() if versions}


def unlike_reports(one: Driver, other: Driver) -> list[str]:
    """What two engines reported differently, of the same log."""
    mine, yours = reported(one), reported(other)
    differing = [key for key in mine.keys() | yours.keys() if mine.get(key) != yours.get(key)]
    return [f"{key}: {mine.get(key)} against {yours.get(key)}" for key in differing[:2]]


# -- conservation -------------------------------------------------------------------------------------


def _values(driver: Driver, table: str) -> list[Any]:
    return list(driver.tables.get(table, {}).values())


def out_of_balance(history: History, driver: Driver) -> list[str]:
    """Rows of the ledger and of the hop that do not add up."""
    received: dict[str, int] = defaultdict(int)
    for reading in history.readings:
        received[reading.plant] += 1
    ledger = [
        row
        for row in _values(driver, "ledger")
        if row["balance"] or row["booked"] + row["held"] + row["written_off"] != row["last"] - row["first"]
    ]
    hop = [
        row
        for row in _values(driver, "hop")
        if row["received"] != received[row["plant"]]
        or row["received"] != row["accepted"] + row["duplicate"] + row["rejected"]
    ]
    return [str(row) for row in (*ledger, *hop)]


def not_adding_up(roster: Roster, driver: Driver) -> list[str]:
    """Points whose intervals are not together their booked steps times the multiplier, to the last digit."""
    out = []
    for plant, point in _with_whole_multipliers(roster):
        rows = [r for r in _values(driver, "interval") if (r["plant"], r["point"]) == (plant, point)]
        known = [Fraction(r["amount"]) * UNITS[r["unit"]].factor for r in rows if r["amount"] is not None]
        total, booked = sum(known, Fraction(0)), _booked(roster, driver, plant, point)
        if total != booked:
            out.append(f"{plant}/{point}: {total} in intervals, {booked} booked")
    return out


def _with_whole_multipliers(roster: Roster) -> list[tuple[str, str]]:
    """Points without rounding behind the register: one whole multiplier each, unit a power of ten."""
    plain = [
        point
        for point in roster.points
        if point.unit.decimal_exponent is not None
        and point.reads != GAUGE
        and all(len(i.multipliers) == 1 and i.multipliers[0].denominator == 1 for i in point.installations)
    ]
    return [(roster.plants[point.plant].id, point.id) for point in plain]


def _booked(roster: Roster, driver: Driver, plant: str, point_id: str) -> Fraction:
    point, out = roster.find(plant, point_id), Fraction(0)
    assert point is not None
    for installation in point.installations:
        since = None if installation.from_ms == FROM_EVER_MS else installation.from_ms
        row = driver.tables.get("ledger", {}).get((plant, point_id, installation.serial, since))
        if row is not None:
            out += row["booked"] * installation.step * multiplier_at(installation, 0)
    return out / MICRO


# -- no false figure ----------------------------------------------------------------------------------


def false_figures(driver: Driver) -> list[str]:
    """Rows that say zero, or measured, or a value, where it is not known."""
    return [*_false_amounts(driver), *_false_ratios(driver)]


def _false_amounts(driver: Driver) -> Iterator[str]:
    for row in (*_values(driver, "interval"), *_values(driver, "rollup")):
        missing = row["amount"] is None
        wrong = missing != (row["quality"] == "missing") or (missing and row["measured_share"] != 0)
        if wrong or (row["quality"] == "valid" and row["measured_share"] != 1):
            yield str(row)


def _false_ratios(driver: Driver) -> Iterator[str]:
    for row in _values(driver, "intensity"):
        known = row["value"] is not None
        divided = None not in (row["numerator"], row["denominator"]) and row["denominator"] > Decimal(0)
        if known == (row["reason"] != "") or (known and not divided):
            yield str(row)


def gaps_passed_over(roster: Roster, driver: Driver) -> list[str]:
    """Plants' ratios with a value though a register of either side is not known all the time."""
    unknown = [
        (row["plant"], row["measures"], row["start"], row["end"])
        for row in _values(driver, "interval")
        if row["quality"] in ("missing", "partial") and _counts(roster, row)
    ]
    of = {(one.scope, one.id): one.of for one in roster.intensities}
    return [
        str(row)
        for row in _values(driver, "intensity")
        for plant, measures, start, end in unknown
        if row["value"] is not None
        and row["scope"] == f"plant:{plant}"
        and measures in (of[row["scope"], row["id"]], "output")
        and start >= row["start"]
        and end <= row["end"]
    ]


def _counts(roster: Roster, row: dict[str, Any]) -> bool:
    point = roster.find(row["plant"], row["point"])
    assert point is not None
    return point.reads == REGISTER and point.sign != 0


def said_again(driver: Driver, table: str = "interval") -> list[str]:
    """Rows of a table that were reported twice with one revision, the second time otherwise."""
    found = []
    for key, versions in reported(driver).items():
        there = [row for row in versions if key[0] == table and "revision" in row]
        found += [
            f"{key}: {old}, then {new}" for old, new in pairwise(there) if old["revision"] == new["revision"]
        ]
    return found
