"""Compiled loops: each gives exactly what its numpy twin gives."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from metering.readings import NO_TIME, TIME_FIRST_MS
from processors.batch import AMOUNT_MAX
from processors.flows import ONE_EDITED, Flows
from processors.kernels import chain, columns, library, memory, order, survey
from processors.kernels.patience import Ways
from processors.memory import CONFLICT, EDITED, ESTIMATED, ROUNDED, TIME_BITS, key_of
from processors.progress import NEVER, Survey
from processors.runs import NONE
from processors.verdicts import NO_LIMIT

Ints = NDArray[np.int64]
ROOT = Path(__file__).resolve().parents[2]
SERIES = 4
TIMES = st.integers(TIME_FIRST_MS, TIME_FIRST_MS + 50) | st.sampled_from(
    [TIME_FIRST_MS, TIME_FIRST_MS + (1 << TIME_BITS) - 2]
)
needs_library = pytest.mark.skipif(not library.COMPILED, reason="the loops are not built: make setup")


def ints(values: Any) -> Ints:
    """An array of int64."""
    return np.array(values, np.int64)


def same(one: Any, other: Any) -> bool:
    """Whether arrays (or tuples of them) are equal in type and content."""
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one.dtype == other.dtype and np.array_equal(one, other))


ROWS = st.lists(st.tuples(st.integers(0, SERIES - 1), TIMES, st.integers(0, 3)), max_size=60)
NEWEST = st.lists(TIMES | st.just(NEVER), min_size=SERIES, max_size=SERIES)


def by_record(rows: list[tuple[int, int, int]]) -> tuple[Ints, Ints, Ints]:
    """Series, time and record of rows, which come by record."""
    return tuple(ints(sorted(rows, key=lambda row: row[2])).reshape(-1, 3).T.copy())  # type: ignore[return-value]


@needs_library
@given(ROWS, NEWEST)
def test_a_batch_is_ordered_as_numpy_orders_it(rows: list[tuple[int, int, int]], newest: list[int]) -> None:
    """By series, time and row, with what was seen of the series before; any times, any records."""
    series, time, record = by_record(rows)
    args = (series, time, record, ints(newest))
    assert same(order.order(*args), order.order_twin(*args))


@needs_library
def test_a_batch_from_back_to_front_is_ordered_too() -> None:
    """Where insertion would take for ever, numpy sorts."""
    time = TIME_FIRST_MS + np.arange(20_000)[::-1].astype(np.int64)
    args = (np.zeros(20_000, np.int64), time, np.arange(20_000), ints([NEVER]))
    assert same(order.order(*args), order.order_twin(*args))


@needs_library
@given(ROWS)
def test_time_through_a_batch_is_surveyed_as_numpy_does(rows: list[tuple[int, int, int]]) -> None:
    """The highest keys by point, and the newest time of each plant in each record."""
    point, time, record = by_record(rows)
    args = (point, time, record, ints([0, 1, 0, 2])[point], 3, 4)
    assert same(survey.survey(*args), survey.survey_twin(*args))


@needs_library
@given(st.data())
def test_what_reaches_behind_is_found_as_numpy_finds_it(data: st.DataObject) -> None:
    """Registers and interval reads, seen or never seen, before and behind their patience."""
    size, seen = data.draw(st.integers(0, 20)), TIMES | st.just(NEVER)
    draw: Callable[[Any], Ints] = lambda kind: ints(data.draw(st.lists(kind, min_size=size, max_size=size)))  # noqa: E731
    point, record = draw(st.integers(0, 2)), draw(st.integers(0, 3))
    group = ints([1, 0, 1])
    base_ms, interval = ints([7, 10, 900_000]), np.array([False, True, False])
    time = draw(TIMES)
    start = np.where(interval[point], draw(TIMES), NO_TIME)
    patience = ints(data.draw(st.lists(seen, min_size=8, max_size=8))).reshape(2, 4)
    columns = (point, time, start, record, draw(seen), draw(seen))
    args = (columns, patience, group, ints([1, 0]), base_ms, interval)
    assert same(survey.behind(*args), survey.behind_twin(*args))


@needs_library
@given(ROWS, st.integers(1, 4), st.sampled_from([-1, 1]))
def test_the_nearest_of_an_earlier_record_is_found_as_numpy_finds_it(
    rows: list[tuple[int, int, int]], steps_max: int, step: int
) -> None:
    """In both directions, also where it is too far to be sure."""
    series, _, record = ints(sorted(rows)).reshape(-1, 3).T.copy()
    args = (series, record, np.arange(len(rows))[::2].copy(), step, steps_max)
    assert same(survey.nearest(*args), survey.nearest_twin(*args))


KEYS = st.lists(st.tuples(st.integers(0, SERIES - 1), TIMES), max_size=40)


def keys_of(pairs: list[tuple[int, int]]) -> Ints:
    """Ascending keys."""
    series, time = ints(pairs).reshape(-1, 2).T
    return np.sort(key_of(series, time))


@needs_library
@given(ROWS, st.integers(0, 2**32 - 1))
def test_cells_are_stamped_as_numpy_stamps_them(rows: list[tuple[int, int, int]], seed: int) -> None:
    """Spans that end anywhere, of points in any order; what is final already, or not yet, keeps its time."""
    random = np.random.default_rng(seed)
    point, time, record = by_record(rows)
    plant = np.zeros(len(point), np.int64)
    keys, records, _ = survey.survey(point, time, record, plant, 1, 4)
    frontiers = np.sort(random.integers(TIME_FIRST_MS - 5, TIME_FIRST_MS + 60, (2, SERIES)), axis=0)
    patience = np.sort(random.integers(TIME_FIRST_MS - 5, TIME_FIRST_MS + 60, (2, 5)), axis=1)
    first = np.array([0, 1])
    groups = (random.integers(0, 3, SERIES), random.integers(0, 2, 3))
    way = (*groups, random.integers(0, 2, SERIES), first, random.integers(1, 4, 2))
    track = survey.Track(
        frontiers[0], frontiers[1], keys, records, patience, *way, np.sort(random.integers(0, 99, 4))
    )
    none = np.empty(0, np.int64)
    progress = Survey(track.log_time, Ways.none(0), patience, *groups, none, none, keys, records)
    cells = random.integers(0, SERIES, 9), random.integers(TIME_FIRST_MS, TIME_FIRST_MS + 60, 9), np.arange(9)

    def reached(which: Ints, end: Ints) -> Ints:
        lane = track.lane[which]
        return track.log_time[progress.first_record(which, end, first[lane], track.last[lane])]

    said = np.full((2, 9), 20)
    survey.stamp(cells, track, reached, said[0])
    survey.stamp_twin(cells, track, reached, said[1])
    assert said[0].tolist() == said[1].tolist()


@needs_library
@given(KEYS, st.lists(TIMES | st.none(), min_size=SERIES, max_size=SERIES))
def test_what_may_not_be_new_is_found_as_numpy_finds_it(
    pairs: list[tuple[int, int]], times: list[int | None]
) -> None:
    """Keys that are not behind the newest, and those that come twice."""
    newest = ints(
        [NONE if time is None else int(key_of(ints([s]), ints([time]))[0]) for s, time in enumerate(times)]
    )
    assert same(memory.doubtful(keys_of(pairs), newest), memory.doubtful_twin(keys_of(pairs), newest))


@needs_library
@given(KEYS, st.lists(st.booleans(), min_size=40, max_size=40))
def test_runs_are_merged_as_numpy_merges_them(pairs: list[tuple[int, int]], mine: list[bool]) -> None:
    """Also empty ones, and such as lie behind each other."""
    key = np.unique(keys_of(pairs))
    first = np.array(mine)[: len(key)]
    runs = [(key[side], key[side] * 3, (key[side] % 7).astype(np.uint8)) for side in (first, ~first)]
    assert same(memory.merge(runs[0], runs[1]), memory.merge_twin(runs[0], runs[1]))


@needs_library
@given(KEYS, KEYS, st.integers(0, 255), st.sampled_from([-1, 1]))
def test_neighbours_are_found_as_numpy_finds_them(
    known: list[tuple[int, int]], wanted: list[tuple[int, int]], seed: int, step: int
) -> None:
    """Before and behind, past those that are to be left out, better or not than what was found before."""
    key, keys = np.unique(keys_of(known)), keys_of(wanted)
    random = np.random.default_rng(seed)
    flags = random.integers(0, 4, len(key)).astype(np.uint8)
    best = np.where(random.random(len(keys)) < 0.5, NONE, keys + step * random.integers(1, 9, len(keys)))
    other = best.copy()
    memory.neighbours(keys, key, flags, CONFLICT, step, best)
    memory.neighbours_twin(keys, key, flags, CONFLICT, step, other)
    assert same(best, other)


def test_the_loop_for_chains_has_every_fact_in_its_place() -> None:
    """Its columns of flows are those of Flows without the ones that are the same for all."""
    constant = {"booked", "suspect", "revised"}
    names = [field.name for field in fields(Flows) if field.name not in constant]
    assert names == ["point", "sign", "start", "end", "amount", "measured", "rounded", "record"]


def one_chain(key: list[int], value: list[int], **facts: Any) -> tuple[chain.Columns, Any, Ints]:
    """Flows of a register with a limit of 1 a millisecond, nothing known before."""
    nothing = chain.Readings(ints([]), ints([]), np.empty(0, np.uint8))
    newest = chain.Readings(ints([NONE]), ints([0]), np.zeros(1, np.uint8))
    columns_of = {
        "numerator": ints([3]),
        "near_ms": ints([10]),
        "point": ints([5]),
        "allowance": ints([0]),
        "width": ints([0]),
        "simple": np.ones(1, bool),
        "limited": np.ones(1, bool),
        "per_ms": np.ones(1),
    } | facts
    run = chain.Readings(ints(key), ints(value), np.zeros(len(key), np.uint8))
    booked = np.zeros(1, np.int64)
    record = np.zeros(len(key), np.int64)
    return *chain.chain(run, record, nothing, nothing, newest, chain.Facts(**columns_of), booked), booked


@needs_library
def test_a_plain_chain_becomes_flows() -> None:
    """Two stretches between three readings, each with its amount after the multiplier."""
    flows, general, booked = one_chain([1, 11, 22], [100, 104, 113])
    assert [column.tolist() for column in flows] == [
        [5, 5],
        [1, 1],
        [TIME_FIRST_MS, TIME_FIRST_MS + 10],
        [TIME_FIRST_MS + 10, TIME_FIRST_MS + 21],
        [12, 27],
        [1, 0],
        [0, 0],
        [0, 0],
    ]
    assert general.tolist() == [False] * 3
    assert booked.tolist() == [13]


@needs_library
@pytest.mark.parametrize(
    "facts",
    [
        {"key": [1, 11], "value": [100, 99]},
        {"key": [1, 11], "value": [100, 111]},
        {"key": [1, 11], "value": [100, 110]},
        {"key": [1, 11], "value": [100, 101], "simple": np.zeros(1, bool)},
        {"key": [1, 2 + 400 * 86_400_000], "value": [100, 100], "limited": np.zeros(1, bool)},
    ],
    ids=["a fall", "beyond the limit", "at the limit", "multipliers", "a gap"],
)
def test_a_chain_with_anything_else_is_left_to_the_books(facts: dict[str, Any]) -> None:
    """Nothing is said and nothing booked of it."""
    flows, general, booked = one_chain(**facts)
    assert [len(column) for column in flows] == [0] * 8
    assert general.all()
    assert booked.tolist() == [0]


def one_column(factor: int, least: int = 1 - AMOUNT_MAX, **columns_of: Any) -> columns.Taken | None:
    """What is taken of one reading of one register; ``least``: what that shows."""
    raw: dict[str, Any] = {
        "point": ints([0]),
        "time": ints([TIME_FIRST_MS]),
        "mantissa": ints([1]),
        "exponent": np.zeros(1, np.int8),
        "unit": ints([-1]),
        "revision": np.full(1, 7, np.int32),
        "quality": np.full(1, 3, np.uint8),
        "flags": np.ones(1, np.uint8),
    } | columns_of
    facts = columns.Facts(
        np.ones(1, bool),
        ints([0]),
        ints([TIME_FIRST_MS]),
        ints([TIME_FIRST_MS]),
        ints([least]),
        ints([AMOUNT_MAX]),
        ints([0]),
    )
    return columns.columns(columns.Raw(**raw), facts, np.zeros(256, np.int64), 1, lambda _: factor)


@needs_library
@pytest.mark.parametrize("mantissa", [0, 1, -1, AMOUNT_MAX // 1000, -(AMOUNT_MAX // 1000)])
def test_a_plain_reading_is_taken_as_it_is(mantissa: int) -> None:
    """Its value is multiplied, its quality and its mark of rounding become flags."""
    taken = one_column(1000, mantissa=ints([mantissa]))
    assert taken is not None
    assert [column.tolist() for column in taken] == [
        [0],
        [mantissa * 1000],
        [7],
        [ESTIMATED | ROUNDED],
    ]


@needs_library
@pytest.mark.parametrize(
    "columns_of",
    [
        {"mantissa": ints([AMOUNT_MAX // 1000 + 1])},
        {"mantissa": ints([np.iinfo(np.int64).min])},
        {"mantissa": ints([np.iinfo(np.int64).max])},
        {"point": ints([-1])},
        {"time": ints([TIME_FIRST_MS - 1])},
        {"time": ints([TIME_FIRST_MS + 1])},
        {"quality": np.full(1, 2, np.uint8)},
        {"mantissa": ints([-1]), "least": 0},
    ],
    ids=["large", "least", "greatest", "unknown", "early", "late", "bad", "below"],
)
def test_a_reading_to_be_refused_is_not_taken_as_it_is(columns_of: dict[str, Any]) -> None:
    """What is not plain is looked at in detail."""
    assert one_column(1000, **columns_of) is None


@needs_library
def test_a_reading_whose_unit_is_no_whole_number_is_not_taken_as_it_is() -> None:
    """It may have to be rounded."""
    assert one_column(-1) is None


def test_flags_and_bits_are_those_of_the_memory() -> None:
    """What the C sources spell out themselves."""
    text = "".join(source.read_text() for source in (ROOT / "processors/kernels").glob("*.c"))
    names = {"TIME_BITS": TIME_BITS, "ROUNDED": ROUNDED, "CONFLICT": CONFLICT, "ESTIMATED": ESTIMATED}
    names |= {"EDITED": EDITED, "ONE_EDITED": ONE_EDITED}
    assert all(f"#define {name} {value}\n" in text for name, value in names.items())
    assert NO_LIMIT < 0


@needs_library
def test_a_loop_takes_no_array_of_another_type() -> None:
    """A wrong array is a mistake of the caller, found before anything is read."""
    fast = library.compiled(
        "doubtful", (library.SIZE, library.SIZE, library.INT64, library.INT64, library.OUT_INT64)
    )
    assert fast is not None
    key, rows = np.zeros(4, np.int64), np.zeros(4, np.int64)
    for wrong in (np.zeros(4, np.int32), np.zeros(8, np.int64)[::2]):
        with pytest.raises(AssertionError):
            fast(4, 43, wrong, key, rows)


def compiled_in(environment: dict[str, str], folder: Path = ROOT) -> str:
    """Whether a fresh process uses the compiled loops."""
    text = "from processors.kernels.library import COMPILED; print(COMPILED)"
    done = subprocess.run(
        [sys.executable, "-c", text],
        env=os.environ | environment,
        cwd=folder,
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().strip()


def test_the_loops_can_be_switched_off() -> None:
    """METERFLOW_KERNELS=off: numpy alone."""
    assert compiled_in({"METERFLOW_KERNELS": "off"}) == "False"


def build(root: Path, **environment: str) -> str:
    """Runs scripts/build-kernels of a tree; what it says on stderr."""
    done = subprocess.run(
        [root / "scripts/build-kernels"],
        env=os.environ | {"PYTHON": sys.executable} | environment,
        capture_output=True,
        check=True,
    )
    return done.stderr.decode()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What the build needs, nothing built."""
    for name in ("scripts", "bus", "metering", "processors"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("build", "__pycache__"))
    return tmp_path


def test_without_a_compiler_the_build_says_so_in_a_line(tree: Path) -> None:
    """It does not fail, and nothing is built."""
    said = build(tree, CC="no-such-compiler")
    assert said.count("\n") == 1
    assert "no C compiler" in said
    assert not list(tree.glob("*/kernels/build/*"))


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_a_library_is_built_once_for_its_sources(tree: Path) -> None:
    """A second build does nothing, a changed source gets a library of its own, and old ones go."""
    assert build(tree) == ""
    (first,) = tree.glob("processors/kernels/build/*")
    before = first.stat().st_mtime_ns
    build(tree)
    assert first.stat().st_mtime_ns == before
    with (tree / "processors/kernels/memory.c").open("a") as source:
        source.write("\n/* changed */\n")
    build(tree)
    (second,) = tree.glob("processors/kernels/build/*")
    assert second.name != first.name
