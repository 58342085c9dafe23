"""Rows of ``rollup``, from what the cells of accounts hold: of one partition, or of all together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from metering.measures import ENERGIES
from metering.tables import ROLLUP
from processors.columns import (
    QUALITIES,
    Columns,
    Vocabulary,
    amounts,
    means,
    numbers,
    quality,
    spread,
    story,
    table,
    times,
    words,
)
from processors.ratios import coefficients, covers, emission_factors
from processors.spans import CLASSES, NAMES, Spans

Ints = NDArray[np.int64]

_NAMES = Vocabulary(NAMES)


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
        every, roster = self._accounts.all, self._accounts.roster
        energy = [account.measures in ENERGIES for account in every]
        both = list(zip(every, energy, strict=True))
        self._words = {
            name: Vocabulary([getattr(account, name) for account in every])
            for name in ("scope", "measures", "product", "unit")
        }
        self._words["covers"] = Vocabulary([covers(a.energies, (a.measures,)) if e else "" for a, e in both])
        self._factors = {
            "kgce": coefficients([roster.policy.kgce.get(a.measures, ()) if e else () for a, e in both]),
            "kgco2e": coefficients([emission_factors(roster, a) if e else () for a, e in both]),
        }

    def table(
        self, account: Ints, cls: Ints, span: Ints, sums: Sums, frontier: Ints, position: int | Ints
    ) -> pa.Table:
        """A row for each span; ``frontier``: of each row, up to where its account is final.

        kgce and kgCO2e are by the coefficient in force at a span's start, and empty where there is none.
        """
        start, end = self._spans.edges(account * CLASSES + cls, span)
        expected = self._accounts.expected_ms(account, start, end)
        unknown = sums.known == 0
        share = np.divide(sums.measured, expected, out=np.zeros(len(span)), where=expected > 0)
        columns: Columns = {name: words(texts, account) for name, texts in self._words.items()}
        columns |= {
            "span": words(_NAMES, cls),
            "start": times(start),
            "end": times(end),
            "amount": self._amounts(account, sums),
            "quality": words(QUALITIES, quality(sums.known, sums.measured, expected, sums.suspect)),
            "measured_share": numbers(share),
        }
        for name, factors in self._factors.items():
            values, missing = factors.convert(account, start, sums.amount)
            columns[name] = amounts(values, missing | unknown)
        gone = unknown & (sums.held == 0)
        columns |= story(gone | (end <= frontier), sums.revision, sums.cause, sums.reported)
        return table(ROLLUP, columns, position, gone)

    def _amounts(self, account: Ints, sums: Sums) -> Any:
        """What is summed up; of gauges with a mean that, over the time that is known."""
        unknown, mean = sums.known == 0, self._accounts.mean[account]
        if not mean.any():
            return amounts(sums.amount, unknown)
        zero = np.zeros(int(mean.sum()), np.int64)
        of_means = means(sums.amount[mean], sums.rest[mean], sums.known[mean], zero)
        return spread(mean, of_means, amounts(sums.amount[~mean], unknown[~mean]))
