"""Rows of ``rollup``, from what the cells of accounts hold: of one partition, or of all together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from metering.measures import ENERGIES
from metering.policy import Factor
from metering.tables import ROLLUP
from processors.changes import Touched
from processors.columns import CAUSE_WORDS, QUALITIES, STATE_WORDS, Vocabulary, means
from processors.kernels.rows import FIGURES, Cells, Sheet, Told, rollups, wide
from processors.kernels.rows import Accounts as AccountFacts
from processors.ratios import covers, emission_factors
from processors.sheets import Layout
from processors.spans import CLASSES, NAMES, Spans

Ints = NDArray[np.int64]

_NAMES = Vocabulary(NAMES)
_TEXTS = ("measures", "product", "unit")


@dataclass
class Sums:
    """What cells hold, a row each: millionths, milliseconds, counts and log time."""

    amount: Ints
    rest: Ints
    known: Ints
    measured: Ints
    held: Ints
    suspect: Ints
    revision: Ints
    cause: Ints
    reported: Ints


class RollupRows:
    """What is said of the accounts of a roster."""

    def __init__(self, spans: Spans) -> None:
        self._spans, self._accounts = spans, spans.accounts
        accounts, roster = self._accounts, self._accounts.roster
        kinds = [(kind, kind.measures in ENERGIES) for kind in accounts.kinds]
        scopes = Vocabulary(map(accounts.scope, range(len(accounts))))
        words = [Vocabulary([getattr(kind, name) for kind, _ in kinds]) for name in _TEXTS]
        words.append(Vocabulary([covers(k.energies, (k.measures,)) if e else "" for k, e in kinds]))
        story = [("span", _NAMES), ("quality", QUALITIES), ("state", STATE_WORDS), ("cause", CAUSE_WORDS)]
        texts = [("scope", scopes), *zip((*_TEXTS, "covers"), words, strict=True), *story]
        self.layout = Layout(ROLLUP, texts, ["amount", "kgce", "kgco2e"])
        kgce = [roster.policy.kgce.get(k.measures, ()) if e else () for k, e in kinds]
        kgco2e = [emission_factors(roster, k) if e else () for k, e in kinds]
        codes = [scopes.number, *(one.number[accounts.kind] for one in words)]
        self._facts = AccountFacts(np.array(codes), *_factors(accounts.kind, kgce, kgco2e))
        self._any_mean = bool(accounts.mean.any())

    def say(self, rows: Touched, cells: Cells, frontier: Ints, position: Ints, sheet: Sheet) -> None:
        """Says spans of accounts, which lie in cells, on a sheet; ``frontier``: of each row, up to where its
        account is final.

        kgce and kgCO2e are by the coefficient in force at a span's start, and empty where there is none.
        """
        account, first = rows.series // CLASSES, sheet.size
        start, end = self._spans.edges(rows.series, rows.span)
        expected = self._accounts.expected_ms(account, start, end)
        cls = rows.series - account * CLASSES
        told = Told(account, cls, rows.index, start, end, expected, frontier, position)
        rollups(told, cells, self._facts, sheet)
        if self._any_mean:
            mean = np.flatnonzero(self._accounts.mean[account])
            sheet.amounts[0, first + mean] = self._means(cells, rows.index[mean])

    def table(
        self, account: Ints, cls: Ints, span: Ints, sums: Sums, frontier: Ints, position: int
    ) -> pa.Table:
        """A row for each span, of what ``sums`` hold, in their order."""
        rows = Touched(account * CLASSES + cls, span, np.arange(len(span)))
        sheet = self.layout.empty(len(span))
        self.say(rows, _cells(sums), frontier, np.full(len(span), position), sheet)
        return self.layout.table(sheet)

    def _means(self, cells: Cells, index: Ints) -> Ints:
        """Of gauges with a mean that, over the time that is known."""
        total, rest, known = (cells[name][index] for name in ("amount", "rest", "known"))
        return wide(means(total, rest, known, 0), 1)


def _cells(sums: Sums) -> Cells:
    return vars(sums) | {"estimated": sums.known - sums.measured, "cause": sums.cause.astype(np.uint8)}


def _factors(kind: NDArray[np.int32], *of_kinds: list[tuple[Factor, ...]]) -> tuple[Ints, Ints, Ints]:
    """Of each account (``kind``) the kind of its factors, per figure; where the factors of each kind end; all
    of them, as from, to, numerator, denominator.
    """
    assert len(of_kinds) == FIGURES
    kinds = list(dict.fromkeys(factors for every in of_kinds for factors in every))
    numbers = {factors: number for number, factors in enumerate(kinds)}
    dated = [(one.from_ms, one.to_ms, one.numerator, one.denominator) for kind in kinds for one in kind]
    return (
        np.array([np.array([numbers[factors] for factors in every], np.int64)[kind] for every in of_kinds]),
        np.cumsum([len(kind) for kind in kinds], dtype=np.int64),
        np.array(dated, np.int64).reshape(-1, 4),
    )
