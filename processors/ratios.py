"""What is divided by what: the intensities of a roster with their accounts and coefficients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metering.measures import ENERGIES
from metering.policy import Factor
from metering.roster import Intensity, Roster
from metering.units import MICRO, UNITS
from processors.accounts import Account, Accounts, Kind
from processors.scaling import scale

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Term:
    """An account of the numerator, and the dated coefficients it is multiplied by (None: 1)."""

    account: Account
    factors: tuple[Factor, ...] | None


@dataclass(frozen=True, slots=True)
class Ratio:
    """An intensity with its accounts. ``covers``: the energies in a converted figure.

    ``policy``: the pack of its coefficients, empty where it has none. Without the edition: a new one would
    restate every figure, not those that it changes.
    """

    index: int
    spec: Intensity
    terms: tuple[Term, ...]
    denominator: Account
    per_micro: int
    covers: str
    policy: str
    target: float | None


def ratios(roster: Roster, accounts: Accounts) -> list[Ratio]:
    """The intensities that have something to divide; a site file is checked to have only such."""
    out: list[Ratio] = []
    targets = {(t.scope, t.metric): t.value for t in roster.targets}
    for spec in roster.intensities:
        denominator = accounts.find(
            spec.scope, "value_added" if spec.per == "value_added" else "output", spec.product
        )
        terms = _terms(spec, roster, accounts)
        if denominator is not None and terms:
            per_micro = int(spec.per_amount * UNITS[spec.per_unit].factor * MICRO)
            target = targets.get((spec.scope, spec.id))
            energies = _covers(spec, terms)
            policy = roster.policy.id if any(term.factors is not None for term in terms) else ""
            out.append(Ratio(len(out), spec, terms, denominator, per_micro, energies, policy, target))
    return out


def _terms(spec: Intensity, roster: Roster, accounts: Accounts) -> tuple[Term, ...]:
    every = accounts.of_scope(spec.scope)
    measured = [a for a in every if not a.kind.product or a.kind.measures != "output"]
    wanted = ENERGIES if spec.of == "energy" else (spec.of,)
    terms = []
    for account in (a for a in measured if a.kind.measures in wanted):
        if spec.unit == "kgce":
            terms.append(Term(account, roster.policy.kgce.get(account.kind.measures, ())))
        elif spec.unit == "kgCO2e":
            terms.append(Term(account, emission_factors(roster, account.kind)))
        else:
            terms.append(Term(account, None))
    return tuple(terms)


def covers(energies: tuple[str, ...], measures: tuple[str, ...]) -> str:
    """The energies in a figure; called comprehensive only when all that the plant declares are in it."""
    text = "+".join(sorted(measures))
    return f"comprehensive: {text}" if energies and set(energies) <= set(measures) else text


def _covers(spec: Intensity, terms: tuple[Term, ...]) -> str:
    kinds = [term.account.kind for term in terms]
    measures = tuple(kind.measures for kind in kinds if kind.measures in ENERGIES)
    return covers(kinds[0].energies, measures) if spec.unit in ("kgce", "kgCO2e") else "+".join(measures)


def emission_factors(roster: Roster, kind: Kind) -> tuple[Factor, ...]:
    """kgCO2e coefficients of accounts: their grid region's, or those of a measure without region."""
    factors = roster.policy.kgco2e
    return factors.get((kind.measures, kind.grid)) or factors.get((kind.measures, ""), ())


def divide(upper: Ints, lower: Ints, per_micro: int) -> NDArray[np.float64]:
    """The nearest double of each ratio: (upper / MICRO) / (lower / per_micro)."""
    factor = per_micro / MICRO
    if (
        factor == int(factor)
        and int(np.abs(upper).max(initial=0)) * int(factor) < 2**53
        and int(lower.max(initial=0)) < 2**53
    ):
        return (upper * int(factor)) / lower
    return np.array(
        [u * per_micro / (d * MICRO) for u, d in zip(upper.tolist(), lower.tolist(), strict=True)], np.float64
    )


def summed(
    amount: Ints, times: Ints, factors: tuple[Factor, ...] | None, total: Callable[[Ints], Ints]
) -> tuple[Ints, NDArray[Any] | None]:
    """Window sums of amounts times their dated coefficient, rounded once for each period of validity."""
    if factors is None:
        return total(amount), None
    out, covered = None, np.zeros(len(times), bool)
    for factor in factors:
        inside = (times >= factor.from_ms) & (times < factor.to_ms)
        if inside.any():
            inner = total(np.where(inside, amount, 0))
            part, _, _ = scale(inner, factor.numerator, factor.denominator, 2**62)
            out = part if out is None else out + part
            covered |= inside
    missing = total((~covered).astype(np.int64)) > 0
    return (np.zeros(len(missing), np.int64) if out is None else out), missing
