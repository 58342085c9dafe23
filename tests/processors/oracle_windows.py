"""The oracle's ratios and alerts, and all tables together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

from metering.measures import ENERGIES
from metering.policy import Factor
from metering.roster import FROM_EVER_MS, INTERVAL, AlertRule, Intensity, Roster
from metering.units import MICRO, UNITS
from tests.processors.oracle import books_of
from tests.processors.oracle_books import Books, Flow
from tests.processors.oracle_spans import (
    QUARTER_MS,
    Account,
    Sum,
    accounts_of,
    covers,
    interval_rows,
    rollup_rows,
    sums_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.processors.log_driver import Item, Key, Row, Store

ROLLING_MS = {"15m": 900_000, "1h": 3_600_000, "8h": 28_800_000, "24h": 86_400_000}
LONGEST_READ_MS = 25 * 3_600_000
"""Longer interval reads say nothing of a rolling window."""


def tables_of(roster: Roster, readings: Iterable[Item]) -> Store:
    """The columns of all tables that are functions of the set of readings and decisions."""
    books = books_of(roster, readings)
    intensity = intensity_rows(books)
    return {
        "interval": interval_rows(books),
        "rollup": rollup_rows(books),
        "intensity": intensity,
        "ledger": books.ledger,
        "verdict": books.verdict,
        "alert": alert_rows(roster, intensity),
    }


# -- ratios ---------------------------------------------------------------------------------------


@dataclass
class Term:
    """An account of the numerator with its dated coefficients, None when it needs none."""

    account: Account
    factors: tuple[Factor, ...] | None


@dataclass
class Ratio:
    """An intensity with the accounts of both sides."""

    spec: Intensity
    terms: list[Term]
    denominator: Account

    @property
    def members(self) -> set[int]:
        return set(self.denominator.members).union(*(term.account.members for term in self.terms))


def ratio_of(roster: Roster, spec: Intensity) -> Ratio | None:
    """The ratio, or None when there is nothing to divide or to divide by."""
    accounts = accounts_of(roster)
    below = accounts.get((spec.scope, "value_added" if spec.per == "value_added" else "output", spec.product))
    wanted = ENERGIES if spec.of == "energy" else (spec.of,)
    above = [a for a in accounts.values() if a.scope == spec.scope and a.measures in wanted]
    terms = [Term(account, _factors(roster, spec.unit, account)) for account in above]
    return Ratio(spec, terms, below) if below and terms else None


def _factors(roster: Roster, unit: str, account: Account) -> tuple[Factor, ...] | None:
    if unit == "kgce":
        return roster.policy.kgce.get(account.measures, ())
    if unit == "kgCO2e":
        of_grid = roster.policy.kgco2e.get((account.measures, account.grid))
        return of_grid or roster.policy.kgco2e.get((account.measures, ""), ())
    return None


def intensity_rows(books: Books) -> dict[Key, Row]:
    """The table ``intensity``."""
    out: dict[Key, Row] = {}
    for spec in books.roster.intensities:
        ratio = ratio_of(books.roster, spec)
        for window in spec.windows if ratio else ():
            assert ratio is not None
            spans = (
                _rolling(books, ratio, window) if window in ROLLING_MS else _calendar(books, ratio, window)
            )
            for start, end in spans:
                row = _row(books, ratio, window, start, end)
                if row is not None:
                    out[spec.scope, spec.id, spec.product, window, end] = row
    return out


def grid_ms(roster: Roster, scope: str) -> int:
    """The step at which a plant's windows roll: its longest base, a minute at least."""
    plant = next(plant for plant in roster.plants if f"plant:{plant.id}" == scope)
    points = [roster.points[index] for index in plant.points]
    bases = [point.base_ms for point in points if point.sign and point.base_ms]
    longest = max([60_000, *bases]) if bases else QUARTER_MS
    return longest if all(longest % base == 0 for base in bases) else QUARTER_MS


def _rolling(books: Books, ratio: Ratio, window: str) -> list[tuple[int, int]]:
    """Windows that end no later than the newest reading and touch something known."""
    grid, length = grid_ms(books.roster, ratio.spec.scope), ROLLING_MS[window]
    newest = max((books.seen[p] for p in ratio.members if p in books.seen), default=0)
    ends: set[int] = set()
    for flow in books.flows:
        if flow.point in ratio.members and not flow.held:
            ends.update(range(flow.start // grid * grid + grid, min(flow.end + length, newest + 1), grid))
    return [(end - length, end) for end in sorted(ends)]


def _calendar(books: Books, ratio: Ratio, window: str) -> list[tuple[int, int]]:
    accounts = [ratio.denominator, *(term.account for term in ratio.terms)]
    return sorted(
        {(s.start, s.end) for account in accounts for s in sums_of(books, account, window) if s.known_ms}
    )


@dataclass
class Side:
    """One side of a ratio over one window."""

    amount: int
    known_ms: int
    measured_ms: int
    members: int
    factor_known: bool = True


def _row(books: Books, ratio: Ratio, window: str, start: int, end: int) -> Row | None:
    upper = _sum([_side(books, term, window, start, end) for term in ratio.terms])
    lower = _side(books, Term(ratio.denominator, None), window, start, end)
    if upper.known_ms == 0 and lower.known_ms == 0:
        return None
    spec, length_ms = ratio.spec, end - start
    coarse = any(_coarser(flow, start, end) for flow in _reads(books, ratio.denominator))
    reason = _reason(upper, lower, length_ms, coarse=coarse)
    per = int(spec.per_amount * UNITS[spec.per_unit].factor * MICRO)
    value = None if reason else upper.amount * per / (lower.amount * MICRO)
    return {
        "scope": spec.scope, "id": spec.id, "product": spec.product, "window": window,
        "start": start, "end": end,
        "numerator": Fraction(upper.amount, MICRO) if upper.known_ms and upper.factor_known else None,
        "denominator": Fraction(lower.amount, MICRO) if lower.known_ms and not coarse else None,
        "value": value, "reason": reason, "covers": _covers(ratio), "policy": _policy(books.roster, ratio),
        "measured_share": min(s.measured_ms / (length_ms * s.members) for s in (upper, lower)),
    }  # fmt: skip


def _covers(ratio: Ratio) -> str:
    energies = [t.account.measures for t in ratio.terms if t.account.measures in ENERGIES]
    declared = ratio.terms[0].account.energies if ratio.spec.unit in ("kgce", "kgCO2e") else ()
    return covers(declared, energies)


def _policy(roster: Roster, ratio: Ratio) -> str:
    converted = any(term.factors is not None for term in ratio.terms)
    return roster.policy.id if converted else ""


def _reason(upper: Side, lower: Side, length_ms: int, *, coarse: bool) -> str:
    if upper.known_ms < length_ms * upper.members:
        return "numerator_incomplete"
    if not upper.factor_known:
        return "factor_unknown"
    if coarse:
        return "denominator_coarser"
    if lower.known_ms < length_ms * lower.members:
        return "denominator_incomplete"
    return "" if lower.amount > 0 else "denominator_zero"


def _reads(books: Books, account: Account) -> list[Flow]:
    points = books.roster.points
    return [f for f in books.flows if f.point in account.members and points[f.point].reads == INTERVAL]


def _coarser(flow: Flow, start: int, end: int) -> bool:
    """A read of a longer time than the window, in it: nobody knows how much of it fell into the window."""
    counts = not (flow.disputed or flow.written_off)
    return counts and flow.end - flow.start > end - start and flow.shared_ms(start, end) > 0


def _side(books: Books, term: Term, window: str, start: int, end: int) -> Side:
    if window in ROLLING_MS:
        total = Sum(start, end)
        flows = [(f, term.account.members[f.point]) for f in _rolling_flows(books, term.account)]
        for flow, sign in flows:
            total.add(flow, sign, whole_only=books.roster.points[flow.point].reads == INTERVAL)
        amount, known = _converted(flows, term, total)
    else:
        found = [s for s in sums_of(books, term.account, window) if s.start == start]
        total = found[0] if found else Sum(start, end)
        amount, known = _at_start(term, total)
    return Side(amount, total.known_ms, total.measured_ms, len(term.account.members), known)


def _rolling_flows(books: Books, account: Account) -> list[Flow]:
    """The account's flows, less interval reads too long to say anything of a rolling window."""
    points = books.roster.points
    return [
        flow
        for flow in books.flows
        if flow.point in account.members
        and not (points[flow.point].reads == INTERVAL and flow.end - flow.start > LONGEST_READ_MS)
    ]


def _converted(flows: Sequence[tuple[Flow, int]], term: Term, total: Sum) -> tuple[int, bool]:
    """The amount by its coefficients, rounded once for each period of validity; and whether all are known."""
    if term.factors is None:
        return total.amount, True
    amount, covered_ms = 0, 0
    for factor in term.factors:
        low, high = max(total.start, factor.from_ms), min(total.end, factor.to_ms)
        if low < high:
            part = sum(sign * flow.between(low, high) for flow, sign in flows)
            amount, covered_ms = amount + round(part * factor.value), covered_ms + high - low
    return amount, covered_ms == total.end - total.start


def _at_start(term: Term, total: Sum) -> tuple[int, bool]:
    """Calendar windows: the coefficient in force at their start."""
    if term.factors is None:
        return total.amount, True
    for factor in term.factors:
        if factor.from_ms <= total.start < factor.to_ms:
            return round(total.amount * factor.value), True
    return 0, False


def _sum(sides: Sequence[Side]) -> Side:
    return Side(
        sum(s.amount for s in sides), sum(s.known_ms for s in sides), sum(s.measured_ms for s in sides),
        sum(s.members for s in sides), all(s.factor_known for s in sides),
    )  # fmt: skip


# -- alerts ---------------------------------------------------------------------------------------


def alert_rows(roster: Roster, intensity: dict[Key, Row]) -> dict[Key, Row]:
    """The table ``alert``: the changes of each alert, its windows taken in the order of their ends."""
    out: dict[Key, Row] = {}
    for rule in roster.alerts:
        if rule.window in ROLLING_MS:
            mine = (rule.scope, rule.when, rule.window)
            rows = [r for r in intensity.values() if (r["scope"], r["id"], r["window"]) == mine]
            values = {row["end"]: row["value"] for row in rows if row["value"] is not None}
            for at, to in _changes(rule, values, grid_ms(roster, rule.scope)):
                out[rule.id, rule.scope, at] = {
                    "id": rule.id, "scope": rule.scope, "at": at, "to": to, "value": values[at],
                    "threshold": rule.threshold, "window_end": at,
                }  # fmt: skip
    return out


def _changes(rule: AlertRule, values: dict[int, float], grid: int) -> list[tuple[int, str]]:
    """It fires when every window for so long was beyond the threshold, and clears beyond ``clear``."""
    sign = 1 if rule.above else -1
    firing, since = False, None
    out: list[tuple[int, str]] = []
    for before, at in pairwise([FROM_EVER_MS, *sorted(values)]):
        beyond = sign * values[at] > sign * rule.threshold
        unbroken = since is not None and at - before == grid
        since = (since if unbroken else at) if beyond else None
        if not firing and since is not None and at - since >= rule.for_ms:
            firing = True
            out.append((at, "firing"))
        elif firing and sign * values[at] < sign * rule.clear:
            firing = False
            out.append((at, "ok"))
    return out
