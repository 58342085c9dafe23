"""The archive is read by others as docs/formats.md says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from bus.frames import encode_readings
from bus.log import Record
from metering.readings import Readings
from sinks.archive_columns import SCHEMAS
from sinks.archive_gathered import Gathered
from sinks.archive_manifest import EVIDENCE, READINGS, Span
from sinks.archive_place import FolderPlace
from sinks.archive_writer import Writer
from tests.sinks.archive_builders import usual

FORMATS = Path(__file__).parents[2] / "docs" / "formats.md"
NOON_MS = 1_767_268_800_000  # 2026-01-01T12:00:00Z


def section() -> str:
    """What is said of the archive."""
    found = re.search(r"^## Archive\n(.*?)^## ", FORMATS.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def code(kind: str) -> str:
    """Its only piece of code of this kind."""
    (found,) = re.findall(rf"```{kind}\n(.*?)```", section(), re.DOTALL)
    return str(found)


def readings(plant: str, days: int) -> Readings:
    """One a day: 1.07, 2.07 and so on."""
    time = NOON_MS + 86_400_000 * np.arange(days, dtype=np.int64)
    return usual(time, np.arange(days, dtype=np.int64) * 100 + 107, plant=plant, exponent=-2)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder ``archive`` beside us, of three commits."""
    monkeypatch.chdir(tmp_path)
    writer = Writer(FolderPlace(tmp_path / "archive"), 0)
    for offset, one in enumerate([readings("a/b ü", 3), readings("1", 2), readings("1", 1)]):
        gathered = Gathered(0, offset)
        gathered.take(Record(offset, one.plant, encode_readings(one), 0))
        writer.write(gathered)
        writer.finish(gathered.span)
    return tmp_path / "archive"


def asked() -> list[tuple[str, float]]:
    """Plants and values as the documented SQL finds them, rounded."""
    with duckdb.connect() as connection:
        *first, last = [part for part in code("sql").split(";") if part.strip()]
        for statement in first:
            connection.execute(statement)
        return connection.execute(f"SELECT plant, round(value, 9) FROM ({last})").fetchall()


def test_duckdb_reads_the_archive_by_itself(written: Path) -> None:
    """The documented SQL gives every reading once, also while a merged manifest stands beside its parts."""
    wanted = [("1", 1.07), ("1", 1.07), ("1", 2.07), ("a/b ü", 1.07), ("a/b ü", 2.07), ("a/b ü", 3.07)]
    assert sorted(asked()) == wanted
    writer = Writer(FolderPlace(written), 0)
    writer.open()
    files = [file for span in writer.spans for file in writer.manifest(span).files]
    writer.commit(Span(0, 0, 3), files, level=1)
    assert sorted(asked()) == wanted


def test_pandas_reads_the_archive_by_itself(written: Path) -> None:
    """The documented lines give every reading once, with plant, day, time and value."""
    pytest.importorskip("pandas", reason="run: make setup-test")
    import pandas as pd

    assert written.is_dir()
    names: dict[str, Any] = {"pandas": pd}
    exec(code("python"), names)
    found = names["readings"]
    wanted = [("1", 1.07), ("1", 1.07), ("1", 2.07), ("a/b ü", 1.07), ("a/b ü", 2.07), ("a/b ü", 3.07)]
    plants = found.plant.astype(str)
    assert sorted(zip(plants, found.value.astype(float).round(9), strict=True)) == wanted
    assert set(found.columns) == {*SCHEMAS[READINGS].names, "plant", "day", "value"}
    assert (found.time.dt.strftime("%Y-%m-%d") == found.day.astype(str)).all()
    assert str(found.time.min()) == "2026-01-01 12:00:00+00:00"


@pytest.mark.parametrize("name", [READINGS, EVIDENCE])
def test_columns_are_described_as_they_are(name: str) -> None:
    """Every column is named in its table, and nothing else is."""
    table = section().partition(f"| column of `{name}`")[2].partition("\n\n")[0]
    described = [
        each for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for each in row.split(", ")
    ]
    assert sorted(described) == sorted(f"`{each}`" for each in SCHEMAS[name].names)
