"""Real meters through a broker, Kafka and InfluxDB: the tables of compute, also with processors killed."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.meterflow.conftest import shared_data
from tests.meterflow.helper import EXAMPLES, LONG, done, of_set, rows_of
from tests.meterflow.roles import TABLES, Copy, Services

KILLS = 30 if LONG else 4
SEED = 1
PAUSE_S = (0.3, 2.0)


class Example:
    """A recording of real meters, its site, and what compute makes of them."""

    def __init__(self, folder: Path, name: str, file: str) -> None:
        self.site, self.recording = EXAMPLES / name / "site.yaml", folder / f"{name}.ndjson"
        out = folder / name
        done("convert", shared_data(file), "--map", EXAMPLES / name / "map.yaml", "--out", self.recording)
        done("compute", self.recording, "--site", self.site, "--out", out, "--format", "csv")
        rows = {table: rows_of((out / f"{table}.csv").read_text()) for table in (*TABLES, "hop")}
        self.tables = {table: of_set(table, rows[table]) for table in TABLES}
        self.accepted = sum(int(row["accepted"]) for row in rows["hop"])


@pytest.mark.parametrize(
    ("name", "file"), [("steel", "uci_steel_2018.csv"), ("water", "ampds2_water_hourly.csv")]
)
def test_real_meters_give_the_tables_of_compute(
    make_services: Callable[[Path], Services], tmp_path: Path, name: str, file: str
) -> None:
    """Row by row, in all columns that are functions of the set of readings."""
    example = Example(tmp_path, name, file)
    services = make_services(example.site)
    services.start("ingest", "process", "sink")
    done("replay", example.recording, "--mqtt", services.broker.url, "--speed", "max")
    services.stored(example.accepted, 180)
    services.have(example.tables, 60)


def test_processors_killed_at_random_give_the_tables_of_compute(
    make_services: Callable[[Path], Services], tmp_path: Path
) -> None:
    """Three copies share the partitions; one after the other is killed and started again."""
    example = Example(tmp_path, "steel", "uci_steel_2018.csv")
    services = make_services(example.site)
    _, *processors, _ = services.start("ingest", "process", "process", "process", "sink")
    killer = threading.Thread(target=kill, args=(processors,))
    killer.start()
    done("replay", example.recording, "--mqtt", services.broker.url, "--speed", "max")
    killer.join()
    services.stored(example.accepted, 240)
    services.have(example.tables, 60)


def kill(copies: list[Copy]) -> None:
    """SIGKILL to one copy after the other, by chance; each is started again."""
    chance = random.Random(SEED)
    for _ in range(KILLS):
        time.sleep(chance.uniform(*PAUSE_S))
        copy = chance.choice(copies)
        copy.kill()
        copy.launch()
