"""Runs: readings sorted by key, in columns. A column is there only if anything in it is not its default."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metering.readings import NO_TIME
from processors.kernels.memory import merge

Ints = NDArray[np.int64]

NONE = -1
"""Key of a neighbour that does not exist."""
RUN_MAX = 1 << 18
"""Runs are merged up to so many readings: a merge needs as much room again as it makes."""
FIELDS: dict[str, tuple[np.dtype, int]] = {
    "key": (np.dtype(np.int64), NONE),
    "value": (np.dtype(np.int64), 0),
    "flags": (np.dtype(np.uint8), 0),
    "start": (np.dtype(np.int64), NO_TIME),
    "revision": (np.dtype(np.int32), 0),
    "changes": (np.dtype(np.int32), 0),
    "cause": (np.dtype(np.uint8), 0),
    "reported": (np.dtype(np.int64), 0),
}
"""Type and default of each column."""
ALWAYS = ("key", "value", "flags")
_NO_FLAGS = np.zeros(RUN_MAX, np.uint8)
_NO_FLAGS.flags.writeable = False
"""Those of all runs without any."""


Run = dict[str, NDArray[Any]]
"""Columns by name; the first three are always there."""


def matters(name: str, column: NDArray[Any]) -> bool:
    """Whether anything in a column is not its default."""
    return bool((column != FIELDS[name][1]).any())


def lean(run: Run) -> Run:
    """The same, its flags those of all runs that have none."""
    size = len(run["key"])
    return run if size > RUN_MAX or run["flags"].any() else run | {"flags": _NO_FLAGS[:size]}


def shared(column: NDArray[Any]) -> bool:
    """Whether these are the flags of all runs that have none."""
    return column.base is _NO_FLAGS


def blank(name: str, size: int) -> NDArray[Any]:
    """A column of defaults."""
    kind, default = FIELDS[name]
    return np.full(size, default, kind)


def joined(runs: list[Run]) -> Run:
    """One after the other, with every column that any of them has."""
    names = [name for name in FIELDS if any(name in run for run in runs)]
    columns = {
        name: [run[name] if name in run else blank(name, len(run["key"])) for run in runs] for name in names
    }
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def merged(*runs: Run) -> Run:
    """All of them as one, sorted by key."""
    if len(runs) == 2 and runs[0].keys() == runs[1].keys() == set(ALWAYS):
        one, other = ((run["key"], run["value"], run["flags"]) for run in runs)
        return dict(zip(ALWAYS, merge(one, other), strict=True))
    every = joined(list(runs))
    if len(runs) == 1:
        return every
    order = np.argsort(every["key"], kind="stable")
    return {name: column[order] for name, column in every.items()}


def packed(run: Run, some: slice) -> bytes:
    """A part of a run as bytes."""
    out = io.BytesIO()
    np.savez(out, **{name: column[some] for name, column in run.items()})  # type: ignore[arg-type]
    return out.getvalue()


def unpacked(piece: bytes) -> Run:
    """What was packed."""
    with np.load(io.BytesIO(piece), allow_pickle=False) as columns:
        return {field: columns[field] for field in columns}
