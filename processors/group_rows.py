"""Table rows of groups: roll-ups and calendar windows, from sums over all partitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from metering.roster import Roster
from metering.roster_share import GROUP
from metering.tables import INTENSITY
from processors.accounts import Accounts
from processors.columns import Columns, amounts, numbers, per, story, table, times, words
from processors.figures import KNOWN, Side, reasons, together, told
from processors.ratios import Ratio, Term, divide, ratios, summed
from processors.rollup_rows import RollupRows, Sums
from processors.spans import CLASSES, Spans
from processors.windows import CALENDAR, REASONS

Ints = NDArray[np.int64]
Touched = tuple[Ints, Ints, Ints]
"""Account, class and span of cells."""


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
        self._accounts, self._spans, self._known = accounts, spans, known
        self._ratios = [ratio for ratio in ratios(roster, accounts) if ratio.spec.scope.startswith(GROUP)]
        self.rollup = RollupRows(spans).table

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
        ratio, length = window.ratio, window.end - window.start
        terms = zip(ratio.terms, sides[:-1], strict=True)
        upper = together([_side(term, side, window.start) for term, side in terms])
        lower = _side(Term(ratio.denominator, None), sides[-1], window.start)
        reason = reasons(upper, lower, length, coarse)
        value = np.full(len(length), np.nan)
        there = reason == KNOWN
        value[there] = divide(upper.amount[there], lower.amount[there], ratio.per_micro)
        share = np.minimum(
            upper.measured / (length * upper.members), lower.measured / (length * lower.members)
        )
        columns = self._names(window) | {
            "start": times(window.start),
            "end": times(window.end),
            "numerator": amounts(upper.amount, (upper.known == 0) | upper.unknown_factor),
            "denominator": amounts(lower.amount, (lower.known == 0) | coarse),
            "value": numbers(value),
            "reason": words(REASONS, reason),
            "measured_share": numbers(share),
        }
        gone = (upper.known == 0) & (lower.known == 0)
        final = gone | (window.end <= frontier[window.accounts].min())
        both = together([upper, lower])
        columns |= story(final, both.revision, both.cause, both.reported)
        return table(INTENSITY, columns, position, gone)

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
            "policy": ratio.policy,
        }
        target = np.full(len(same), np.nan if ratio.target is None else ratio.target)
        return {name: words([text], same) for name, text in texts.items()} | {"target": numbers(target)}


def _side(term: Term, held: Sums, start: Ints) -> Side:
    """One term of a ratio, in the ratio's unit, and where its coefficient is unknown."""
    amount, unknown = summed(held.amount, start, term.factors, lambda values: values)
    return Side(
        amount,
        held.known,
        held.measured,
        held.revision,
        told(held.cause, held.reported),
        held.reported,
        members=np.full(len(start), len(term.account.members)),
        unknown_factor=np.zeros(len(start), bool) if unknown is None else unknown,
    )
