"""The load of the rolling-intensity job: readings with a known truth, from a fixed seed.

16 plants with 60 electricity, 30 water and 10 output registers each. Every register is read every
10 s of event time, at an instant of its own within them; one reading in a hundred comes up to 30 s
late. Readings come in the order of their arrival. The truth of every window is in kafka_truth.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bus.frames import encode_readings
from bus.log import Entry
from bus.partition import partition_of
from metering.readings import NO_SEQ, NO_TIME, Dictionary, Readings, absent
from metering.roster import Roster
from metering.site_compile import compile_roster
from metering.site_load import load_site

Ints = NDArray[np.int64]

PLANTS, PARTITIONS, SEED = 16, 4, 1
FIRST_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
EVERY_MS, LATE_SHARE, LATE_MS_MAX, PATIENCE_MS = 10_000, 0.01, 30_000, 60_000
FRAME_READINGS, FRAME_EVERY_MS = 4096, 4
"""A million readings a second."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Registers of one kind; ``rise_max``: the most they rise in 10 s, in steps of their decimals."""

    name: str
    prefix: str
    registers: int
    unit: str
    decimals: int
    rise_max: int
    limit: str


KINDS = (
    Kind("electricity", "e", 60, "kWh", 2, 80, "500 kW"),
    Kind("water", "w", 30, "m3", 3, 40, "20 m3/h"),
    Kind("output", "o", 10, "t", 3, 60, "30 t/h"),
)
REGISTERS = sum(kind.registers for kind in KINDS)
KIND_OF = np.repeat(np.arange(len(KINDS)), [kind.registers for kind in KINDS])
"""The kind of each register of a plant."""


def plant_names() -> list[str]:
    """As many plants on each of the four partitions."""
    names: list[str] = []
    for name in (f"plant-{i:02d}" for i in count(1)):
        partition = partition_of(name, PARTITIONS)
        if sum(partition_of(n, PARTITIONS) == partition for n in names) < PLANTS // PARTITIONS:
            names.append(name)
        if len(names) == PLANTS:
            return names
    raise AssertionError


PLANT_NAMES = plant_names()
REGISTER_NAMES = [f"{kind.prefix}{i:02d}" for kind in KINDS for i in range(1, kind.registers + 1)]


@dataclass(frozen=True)
class Load:
    """``times`` and ``values``: a row per register (plant by plant), a column per reading.

    ``values`` are in steps of the register's decimals. ``order``: flat numbers of readings by arrival.
    """

    times: Ints
    values: Ints
    arrival: Ints
    order: Ints

    def __len__(self) -> int:
        return self.times.size

    @cached_property
    def end_ms(self) -> Ints:
        """Of each plant the instant up to which all its registers have been read."""
        last: Ints = self.times[:, -1].reshape(PLANTS, REGISTERS).min(axis=1)
        return last


def make(readings: int, seed: int = SEED) -> Load:
    """About ``readings`` readings: as many for each register."""
    random = np.random.default_rng(seed)
    registers, each = PLANTS * REGISTERS, max(readings // (PLANTS * REGISTERS), 8)
    phase = random.permutation(registers) * EVERY_MS // registers
    times = FIRST_MS + phase[:, None] + np.arange(each) * EVERY_MS
    most = np.array([kind.rise_max for kind in KINDS])[np.tile(KIND_OF, PLANTS)]
    rises = random.integers(0, most[:, None] + 1, (registers, each))
    values = random.integers(10_000, 10_000_000, (registers, 1)) + np.cumsum(rises, axis=1)
    late = random.random(times.shape) < LATE_SHARE
    arrival = times + np.where(late, random.integers(1, LATE_MS_MAX + 1, times.shape), 0)
    return Load(times, values, arrival, np.argsort(arrival, axis=None, kind="stable"))


def messages(load: Load) -> Iterator[tuple[int, list[str], list[bytes]]]:
    """Readings as JSON by arrival, some thousands of one partition at a time: partition, keys, values."""
    heads, tails = _ends_of_lines()
    decimals = [KINDS[kind].decimals for kind in np.tile(KIND_OF, PLANTS).tolist()]
    keys = [name for name in PLANT_NAMES for _ in range(REGISTERS)]
    partition = np.array([partition_of(name, PARTITIONS) for name in keys])
    each = load.times.shape[1]
    for part in np.array_split(load.order, max(len(load) // 50_000, 1)):
        register = part // each
        for number in range(PARTITIONS):
            mine = partition[register] == number
            registers = register[mine].tolist()
            rows = zip(registers, *_of(load, part[mine]), strict=True)
            lines = [
                f"{heads[r]}{time}{_decimal(value, decimals[r])}{tails[r]}".encode()
                for r, time, value in rows
            ]
            yield number, [keys[r] for r in registers], lines


def _ends_of_lines() -> tuple[list[str], list[str]]:
    """What stands before the time and behind the value, for each register."""
    heads, tails = [], []
    for plant in PLANT_NAMES:
        for register, kind in zip(REGISTER_NAMES, KIND_OF.tolist(), strict=True):
            heads.append(f'{{"plant":"{plant}","meter":"{register}","ts":')
            tails.append(f',"unit":"{KINDS[kind].unit}","kind":"{KINDS[kind].name}"}}')
    return heads, tails


def _decimal(value: int, decimals: int) -> str:
    digits = str(value)
    return f',"value":{digits[:-decimals]}.{digits[-decimals:]}'


def _of(load: Load, part: Ints) -> tuple[list[int], list[int]]:
    return load.times.ravel()[part].tolist(), load.values.ravel()[part].tolist()


def entries(load: Load, received_ms: int | None = None) -> Iterator[Entry]:
    """The same as records of the readings topic, as ingest writes a backlog: one shortly after the other.

    ``received_ms``: when the last one came (Kafka lets old records go); if not given, when the last
    reading arrives. Stamps of the readings' own time would be false: nobody gathers a plant's readings
    for seven minutes, and a plant that says nothing for longer than its patience is taken to be silent.
    """
    each = load.times.shape[1]
    plants = load.order // each // REGISTERS
    frames: list[tuple[int, int, Ints]] = []
    for plant in range(PLANTS):
        mine = load.order[plants == plant]
        parts = np.split(mine, np.arange(FRAME_READINGS, len(mine), FRAME_READINGS))
        frames += [(int(load.arrival.ravel()[part[-1]]), plant, part) for part in parts]
    frames.sort(key=lambda frame: frame[:2])
    last_ms = int(load.arrival.max()) if received_ms is None else received_ms
    for number, (_, plant, part) in enumerate(frames):
        stamp_ms = last_ms - (len(frames) - 1 - number) * FRAME_EVERY_MS
        yield Entry(PLANT_NAMES[plant], encode_readings(_readings(load, plant, part, stamp_ms)), stamp_ms)


_WORDS = tuple(REGISTER_NAMES)
_UNITS = tuple(kind.unit for kind in KINDS)
_EXPONENT = np.array([-kind.decimals for kind in KINDS], np.int8)


def _readings(load: Load, plant: int, part: Ints, stamp_ms: int) -> Readings:
    n, register = len(part), part // load.times.shape[1] - plant * REGISTERS
    kind = KIND_OF[register]
    return Readings(
        plant=PLANT_NAMES[plant],
        point=Dictionary(_WORDS, register.astype(np.int32)),
        time=load.times.ravel()[part],
        start=np.full(n, NO_TIME, np.int64),
        mantissa=load.values.ravel()[part],
        exponent=_EXPONENT[kind],
        unit=Dictionary(_UNITS, kind.astype(np.int32)),
        serial=absent(n),
        product=absent(n),
        revision=np.zeros(n, np.int32),
        seq=np.full(n, NO_SEQ, np.int64),
        quality=np.zeros(n, np.uint8),
        flags=np.zeros(n, np.uint8),
        received=np.full(n, stamp_ms, np.int64),
    )


def site_text() -> str:
    """The site file of these plants. What the first one has, the others have, too."""
    return "meterflow: 1\nplants:\n" + "".join(_plant(name) for name in PLANT_NAMES)


def roster(folder: Path) -> Roster:
    """The same compiled; the file is left in the folder as site.yaml."""
    path = folder / "site.yaml"
    path.write_text(site_text())
    return compile_roster(load_site(path))


def _plant(name: str) -> str:
    first = name == PLANT_NAMES[0]
    points = f"&points\n{_points()}" if first else "*points\n"
    intensity = f"&intensity\n{_INTENSITY}" if first else "*intensity\n"
    return (
        f"  - id: {name}\n    time_zone: Asia/Shanghai\n    patience: {PATIENCE_MS // 1000}s\n"
        f"    products: [{{id: goods, unit: t}}]\n    points: {points}    intensity: {intensity}"
    )


_INTENSITY = """\
      - {id: kwh-per-t, of: electricity, per: goods, windows: [1h]}
      - {id: m3-per-t, of: water, per: goods, windows: [1h]}
"""


def _points() -> str:
    return "".join(
        f"      - {{id: {register}, measures: {KINDS[kind].name}, reads: register, unit: {KINDS[kind].unit}, "
        f"{'product: goods, ' if KINDS[kind].name == 'output' else ''}"
        f"expect_every: 10s, base: 1m, limit: {KINDS[kind].limit}, "
        f"installations: [{{digits: 8, decimals: {KINDS[kind].decimals}}}]}}\n"
        for register, kind in zip(REGISTER_NAMES, KIND_OF.tolist(), strict=True)
    )
