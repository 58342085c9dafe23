"""Readings in memory, beside a dictionary of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from processors.memory import CONFLICT, LEFT_OUT, Memory, key_of
from processors.runs import NONE

START_MS = 1_767_225_600_000
SERIES, TIMES = 3, 6

readings = st.dictionaries(
    st.tuples(st.integers(0, SERIES - 1), st.integers(0, TIMES - 1)),
    st.tuples(st.integers(1, 9), st.sampled_from([0, CONFLICT, LEFT_OUT])),
)
"""Value and flags by series and time."""


@given(st.lists(readings, max_size=4))
def test_the_ends_of_lines_are_the_first_and_last_readings_that_are_not_left_out(
    steps: list[dict[tuple[int, int], tuple[int, int]]],
) -> None:
    """Whatever comes, and whatever is said anew of what is there."""
    memory, known = Memory(SERIES), dict[int, tuple[int, int]]()
    for step in steps:
        keys = {int(key_of(np.array([s]), np.array([START_MS + t]))[0]): one for (s, t), one in step.items()}
        for fresh in (True, False):
            some = {key: keys[key] for key in sorted(keys) if (key in known) != fresh}
            columns = np.array([[key, *one] for key, one in some.items()], np.int64).reshape(-1, 3).T
            if fresh:
                memory.add({"key": columns[0], "value": columns[1], "flags": columns[2].astype(np.uint8)})
            else:
                where = memory.find(columns[0])
                memory.put("value", where, columns[1])
                memory.put("flags", where, columns[2].astype(np.uint8))
        known |= keys
        first, last = memory.ends(np.arange(SERIES))
        for s in range(SERIES):
            ends = [key_of(np.array([s]), np.array([START_MS + t]))[0] for t in (0, TIMES - 1)]
            line = [(k, v) for k, (v, off) in sorted(known.items()) if ends[0] <= k <= ends[1] and not off]
            assert (first[0][s], first[1][s]) == (line[0] if line else (NONE, 0))
            assert (last[0][s], last[1][s]) == (line[-1] if line else (NONE, 0))


def test_readings_without_flags_have_none_when_others_get_some() -> None:
    """Runs share the flags of those that have none; one that gets a flag has its own."""
    memory = Memory(2)
    keys = [key_of(np.full(9, series), START_MS + np.arange(9)) for series in (1, 0)]
    for key in keys:  # runs of their own: the second is longer
        memory.add({"key": key, "value": key, "flags": np.zeros(9, np.uint8)})
        memory.add({"key": key + 100, "value": key, "flags": np.zeros(9, np.uint8)})
    memory.put("flags", memory.find(keys[0][4:5]), np.array([CONFLICT], np.uint8))
    other = Memory(2)
    other.load(memory.dump()[0])
    for one in (memory, other):
        every = np.sort(np.concatenate([*keys, *(key + 100 for key in keys)]))
        flags = one.get("flags", one.find(every))
        assert every[flags > 0].tolist() == keys[0][4:5].tolist()
        assert one.get("flags", one.find(keys[0][4:5])).tolist() == [CONFLICT]
        assert [found.tolist() for found in one.flagged(CONFLICT) if len(found)] == [keys[0][4:5].tolist()]
