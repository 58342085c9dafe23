"""Table rows of groups: roll-ups and calendar windows, from sums over all partitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from metering.measures import ENERGIES
from metering.roster import Roster
from metering.roster_share import GROUP
from metering.tables import INTENSITY, ROLLUP
from processors.accounts import Accounts
from processors.columns import QUALITIES, Columns, amounts, numbers, per, quality, story, table, times, words
from processors.ratios import Ratio, coefficients, covers, divide, emission_factors, ratios, summed
from processors.spans import CLASSES, NAMES, Spans
from processors.windows import (
    CALENDAR,
    DENOMINATOR_COARSER,
    DENOMINATOR_INCOMPLETE,
    DENOMINATOR_ZERO,
    FACTOR_UNKNOWN,
    KNOWN,
    NUMERATOR_INCOMPLETE,
    REASONS,
)

Ints = NDArray[np.int64]
Touched = tuple[Ints, Ints, Ints]
"""Account, class and span of cells."""


@dataclass
class Sums:
    """What cells hold, all partitions together."""

    amount: Ints
    known: Ints
    measured: Ints
    held: Ints
    suspect: Ints
    revision: Ints
    cause: Ints
    reported: Ints


@dataclass
class Window:
    """Calendar windows of one ratio to be said anew; ``accounts``: its terms', then its denominator."""

    ratio: Ratio
    name: str
    accounts: list[int]
    span: Ints
    start: Ints
    end: Ints

    @property
    def cls(self) -> int:
        return CALENDAR[self.name]

    @property
    def denominator(self) -> int:
        return self.accounts[-1]


class GroupRows:
    """What is said of a roster's group accounts. ``known``: the spans of accounts with anything in them."""

    def __init__(
        self, roster: Roster, accounts: Accounts, spans: Spans, known: Callable[[Ints, int], Ints]
    ) -> None:
        self._roster, self._accounts, self._spans, self._known = roster, accounts, spans, known
        every, policy = accounts.all, roster.policy
        self._ratios = [ratio for ratio in ratios(roster, accounts) if ratio.spec.scope.startswith(GROUP)]
        self._covers = [covers(a.energies, (a.measures,)) if a.measures in ENERGIES else "" for a in every]
        energy = [a.measures in ENERGIES for a in every]
        self._factors = {
            "kgce": coefficients(
                [policy.kgce.get(a.measures, ()) if e else () for a, e in zip(every, energy, strict=True)]
            ),
            "kgco2e": coefficients(
                [emission_factors(roster, a) if e else () for a, e in zip(every, energy, strict=True)]
            ),
        }

    def rollup(
        self, account: Ints, cls: Ints, span: Ints, sums: Sums, frontier: Ints, position: int
    ) -> pa.Table:
        """Rows of ``rollup``; ``frontier``: up to where each account is final."""
        every = self._accounts.all
        start, end = self._spans.edges(account * CLASSES + cls, span)
        expected = self._accounts.expected_ms(account, start, end)
        unknown = sums.known == 0
        share = np.divide(sums.measured, expected, out=np.zeros(len(span)), where=expected > 0)
        columns: Columns = {
            "scope": words([a.scope for a in every], account),
            "measures": words([a.measures for a in every], account),
            "product": words([a.product for a in every], account),
            "span": words(NAMES, cls),
            "start": times(start),
            "end": times(end),
            "amount": amounts(sums.amount, unknown),
            "unit": words([a.unit for a in every], account),
            "covers": words(self._covers, account),
            "quality": words(QUALITIES, quality(sums.known, sums.measured, expected, sums.suspect)),
            "measured_share": numbers(share),
        }
        for name, factors in self._factors.items():
            values, missing = factors.convert(account, start, sums.amount)
            columns[name] = amounts(values, missing | unknown)
        gone = unknown & (sums.held == 0)
        columns |= story(gone | (end <= frontier[account]), sums.revision, sums.cause, sums.reported)
        return table(ROLLUP, columns, position, gone)

    # -- windows ----------------------------------------------------------------------------------

    def windows(
        self, touched: Touched, stretches: Sequence[tuple[int, int, int]], before: Ints, after: Ints
    ) -> list[Window]:
        """The windows whose content, finality or coarseness changed."""
        out = []
        for ratio in self._ratios:
            accounts = [*(term.account.index for term in ratio.terms), ratio.denominator.index]
            mine = np.isin(touched[0], accounts)
            for name in (w for w in ratio.spec.windows if w in CALENDAR):
                cls = CALENDAR[name]
                parts = [touched[2][mine & (touched[1] == cls)]]
                parts.append(self._closed(accounts, cls, before[accounts].min(), after[accounts].min()))
                parts += self._coarsened(accounts, cls, stretches)
                span = np.unique(np.concatenate(parts))
                if len(span):
                    out.append(Window(ratio, name, accounts, span, *self._edges(accounts[-1], cls, span)))
        return out

    def _edges(self, account: int, cls: int, span: Ints) -> tuple[Ints, Ints]:
        return self._spans.edges(np.full(len(span), account * CLASSES + cls), span)

    def _closed(self, accounts: list[int], cls: int, before: int, after: int) -> Ints:
        if after <= before:
            return np.empty(0, np.int64)
        span = self._known(np.array(accounts), cls)
        end = self._edges(accounts[-1], cls, span)[1]
        return span[(end > before) & (end <= after)]

    def _coarsened(
        self, accounts: list[int], cls: int, stretches: Sequence[tuple[int, int, int]]
    ) -> list[Ints]:
        account, parts = np.array([accounts[-1]]), []
        for _, start, end in (s for s in stretches if s[0] == accounts[-1]):
            low, high = (int(self._spans.span_of(account, np.array([at]), cls)[0]) for at in (start, end - 1))
            if low < high:
                span = self._known(np.array(accounts), cls)
                parts.append(span[(span >= low) & (span <= high)])
        return parts

    def intensity(
        self, window: Window, sides: list[Sums], coarse: NDArray[np.bool_], frontier: Ints, position: int
    ) -> pa.Table:
        """Rows of ``intensity``; ``sides``: what the window's accounts hold, in their order."""
        ratio, n = window.ratio, len(window.span)
        length = window.end - window.start
        upper, unknown_factor = self._upper(ratio, window.start, sides[:-1])
        lower = sides[-1]
        members = sum(len(term.account.members) for term in ratio.terms)
        measured, known = (sum(getattr(s, name) for s in sides[:-1]) for name in ("measured", "known"))
        reason = np.full(n, KNOWN, np.int64)
        reason[lower.amount <= 0] = DENOMINATOR_ZERO
        reason[lower.known != length * len(ratio.denominator.members)] = DENOMINATOR_INCOMPLETE
        reason[coarse] = DENOMINATOR_COARSER
        reason[unknown_factor] = FACTOR_UNKNOWN
        reason[known != length * members] = NUMERATOR_INCOMPLETE
        value = np.full(n, np.nan)
        there = reason == KNOWN
        value[there] = divide(upper[there], lower.amount[there], ratio.per_micro)
        share = np.minimum(
            measured / (length * members), lower.measured / (length * len(ratio.denominator.members))
        )
        columns = self._names(window) | {
            "start": times(window.start),
            "end": times(window.end),
            "numerator": amounts(upper, (known == 0) | unknown_factor),
            "denominator": amounts(lower.amount, (lower.known == 0) | coarse),
            "value": numbers(value),
            "reason": words(REASONS, reason),
            "measured_share": numbers(share),
        }
        gone = (known == 0) & (lower.known == 0)
        final = gone | (window.end <= frontier[window.accounts].min())
        columns |= _story(sides, final)
        return table(INTENSITY, columns, position, gone)

    def _upper(self, ratio: Ratio, start: Ints, sides: list[Sums]) -> tuple[Ints, NDArray[np.bool_]]:
        """The numerator in its unit, and where a coefficient is unknown."""
        total, missing = np.zeros(len(start), np.int64), np.zeros(len(start), bool)
        for term, side in zip(ratio.terms, sides, strict=True):
            amount, unknown = summed(side.amount, start, term.factors, lambda values: values)
            total += amount
            if unknown is not None:
                missing |= unknown
        return total, missing

    def _names(self, window: Window) -> Columns:
        ratio, same = window.ratio, np.zeros(len(window.span), np.int64)
        spec = ratio.spec
        texts: dict[str, str] = {
            "scope": spec.scope,
            "id": spec.id,
            "product": spec.product,
            "window": window.name,
            "unit": f"{spec.unit}/{per(spec.per_amount, spec.per_unit)}",
            "covers": ratio.covers,
            "policy": self._roster.policy.id,
        }
        target = np.full(len(same), np.nan if ratio.target is None else ratio.target)
        return {name: words([text], same) for name, text in texts.items()} | {"target": numbers(target)}


def _story(sides: list[Sums], final: NDArray[np.bool_]) -> dict[str, Any]:
    """The revisions of all sides together, the cause and time of the newest."""
    cause, reported, revision = sides[0].cause, sides[0].reported, sides[0].revision
    for side in sides[1:]:
        cause = np.where(side.reported > reported, side.cause, cause)
        reported, revision = np.maximum(reported, side.reported), revision + side.revision
    return story(final, revision, cause, reported)
