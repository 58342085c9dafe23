"""What every window of the rolling-intensity job must say, in exact integers, and the check of all.

Two definitions, each with a truth of its own:

- ``edges`` (meterflow): a register is read off at a minute's edges, on the line between the two
  readings around each; a minute's amount is the difference.
- ``steps`` (the stream processor): a minute's amount is the last reading before its end less the last
  one before its start, so that the increase across an edge is booked in the later minute.

Both give the same total; a window differs by what its registers rose between each of its two ends
and the reading next to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from benchmarks.kafka_load import (
    EVERY_MS,
    FIRST_MS,
    KIND_OF,
    KINDS,
    PATIENCE_MS,
    PLANT_NAMES,
    PLANTS,
    REGISTERS,
    Load,
)
from bus.frames import decode_table

Ints = NDArray[np.int64]

MINUTE_MS, HOUR = 60_000, 60
RATIOS = {"kwh-per-t": 0, "m3-per-t": 1}
"""Number of the numerator's kind; the denominator is output, the last one."""
OUTPUT = len(KINDS) - 1
_MICRO, _DECIMAL_PER_MICRO = 10**6, 1000


@dataclass(frozen=True, slots=True)
class Truth:
    """``sums``: [kind, plant, minute]: over the hour up to the minute's end, or since the load began.

    ``final``: how many minutes of each plant are final when everything has been read.
    """

    sums: Ints
    final: Ints

    @property
    def minutes(self) -> int:
        return int(self.sums.shape[2])

    @property
    def is_final(self) -> NDArray[np.bool_]:
        return np.arange(self.minutes) < self.final[:, None]


@dataclass(frozen=True, slots=True)
class Checked:
    """Windows that are right, and those that say something else, are missing or too many."""

    right: int
    wrong: int

    @property
    def all_right(self) -> bool:
        return self.wrong == 0 and self.right > 0


def edges(load: Load) -> Truth:
    """meterflow's definition: amounts in millionths of kWh, m3 and t."""
    micro = np.array([_MICRO // 10**kind.decimals for kind in KINDS])[np.tile(KIND_OF, PLANTS)]
    values, final = load.values * micro[:, None], (load.end_ms - FIRST_MS) // MINUTE_MS
    edge = FIRST_MS + np.arange(int(final.max()) + 1) * MINUTE_MS
    since = edge - load.times[:, :1]
    before = np.clip(since // EVERY_MS, 0, values.shape[1] - 2)
    offset = np.clip(since - before * EVERY_MS, 0, EVERY_MS)
    low, high = np.take_along_axis(values, before, 1), np.take_along_axis(values, before + 1, 1)
    return Truth(_hours(low + (high - low) * offset // EVERY_MS), final)


def steps(load: Load) -> Truth:
    """The stream processor's definition: amounts in steps of the registers' decimals."""
    newest = load.times[:, -1].reshape(PLANTS, REGISTERS).max(axis=1)
    final = (newest - PATIENCE_MS - FIRST_MS) // MINUTE_MS
    edge = FIRST_MS + np.arange(int(final.max()) + 1) * MINUTE_MS
    last = np.clip((edge - 1 - load.times[:, :1]) // EVERY_MS, 0, load.values.shape[1] - 1)
    return Truth(_hours(np.take_along_axis(load.values, last, 1)), final)


def _hours(at_edges: Ints) -> Ints:
    """Sums by kind and plant over rolling hours, from register values at the minutes' edges."""
    amounts = np.diff(at_edges, axis=1).reshape(PLANTS, REGISTERS, -1)
    minutes = np.stack([amounts[:, kind == KIND_OF].sum(axis=1) for kind in range(len(KINDS))])
    total = np.cumsum(minutes, axis=2)
    total[:, :, HOUR:] -= total[:, :, :-HOUR].copy()
    return total


def check_frames(truth: Truth, frames: Iterable[bytes]) -> Checked:
    """Every window of meterflow's results: the newest ``intensity`` row of each key."""
    wanted = ("scope", "id", "end", "state", "numerator", "denominator", "value", "reason", "position")
    parts = [table.select(wanted) for name, table in map(decode_table, frames) if name == "intensity"]
    if not parts:
        return Checked(0, int(truth.final.sum()) * len(RATIOS))
    rows = pa.concat_tables(parts)
    rows = rows.take(np.argsort(np.abs(rows["position"].to_numpy()), kind="stable"))
    right = wrong = 0
    for name, kind in RATIOS.items():
        found = _check_ratio(truth, kind, rows.filter(pc.equal(rows["id"], name)))
        right, wrong = right + found.right, wrong + found.wrong
    return Checked(right, wrong)


def _check_ratio(truth: Truth, kind: int, rows: pa.Table) -> Checked:
    plants = pc.index_in(rows["scope"], pa.array([f"plant:{name}" for name in PLANT_NAMES])).to_numpy()
    minute = (rows["end"].cast(pa.int64()).to_numpy() - FIRST_MS) // MINUTE_MS - 1
    final = np.isin(rows["state"].to_numpy(zero_copy_only=False), ["final", "revised"])
    beyond = minute >= truth.minutes
    row = np.full((PLANTS, truth.minutes), -1)
    row[plants[~beyond], minute[~beyond]] = np.flatnonzero(~beyond)
    upper, lower = truth.sums[kind], truth.sums[OUTPUT]
    whole = np.broadcast_to(np.arange(truth.minutes) >= HOUR, row.shape)
    fits = (
        (row >= 0) & (_micro(rows["numerator"])[row] == upper) & (_micro(rows["denominator"])[row] == lower)
    )
    value = rows["value"].fill_null(np.nan).to_numpy()[row]
    reason = rows["reason"].fill_null("").to_numpy(zero_copy_only=False)[row]
    fits &= np.where(
        whole, value == _ratio_of(truth, kind), np.isnan(value) & (reason == "numerator_incomplete")
    )
    fits &= final[row]
    too_many = int((final & beyond).sum()) + int((final[row] & (row >= 0) & ~truth.is_final).sum())
    return Checked(int((fits & truth.is_final).sum()), int((~fits & truth.is_final).sum()) + too_many)


def _micro(column: pa.ChunkedArray) -> Ints:
    """Amounts with nine decimals as millionths; -1 where there is none, or where it is finer."""
    array = column.combine_chunks()
    words = np.frombuffer(array.buffers()[1], np.int64)[array.offset * 2 :][: len(array) * 2 : 2]
    exact = (words % _DECIMAL_PER_MICRO == 0) & array.is_valid().to_numpy(zero_copy_only=False)
    return np.where(exact, words // _DECIMAL_PER_MICRO, -1)


def check_objects(truth: Truth, values: Iterable[bytes]) -> Checked:
    """Every window of the stream processor's: the last JSON object of each plant and minute."""
    found = [json.loads(value) for value in values]
    plant = np.array([PLANT_NAMES.index(one["plant"]) for one in found], np.int64)
    minute = (np.array([one["end"] for one in found], np.int64) - FIRST_MS) // MINUTE_MS - 1
    beyond = (minute < 0) | (minute >= truth.minutes)
    row = np.full((PLANTS, truth.minutes), -1)
    row[plant[~beyond], minute[~beyond]] = np.flatnonzero(~beyond)
    fits = row >= 0
    if not found:
        return Checked(0, int(truth.final.sum()))
    for kind, sums in zip(KINDS, truth.sums, strict=True):
        fits &= np.array([one[kind.name] for one in found], np.int64)[row] == sums
    for field, kind_number in (("electricity_per_output", 0), ("water_per_output", 1)):
        fits &= _ratios(found, field)[row] == _ratio_of(truth, kind_number)
    too_many = int(beyond.sum()) + int(((row >= 0) & ~truth.is_final).sum())
    return Checked(int((fits & truth.is_final).sum()), int((~fits & truth.is_final).sum()) + too_many)


def _ratios(found: Sequence[dict[str, Any]], field: str) -> NDArray[np.float64]:
    return np.array([one[field] for one in found], np.float64)


def _ratio_of(truth: Truth, kind: int) -> NDArray[np.float64]:
    """The ratio of the steps' sums: one division of integers."""
    upper, lower = truth.sums[kind], truth.sums[OUTPUT]
    ratio: NDArray[np.float64] = np.divide(upper, lower, out=np.full(upper.shape, np.nan), where=lower != 0)
    return ratio
