"""A short chaos run, and that its verdict can be a bad one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from metering.tables import TABLES
from tests.chaos.run import Asked, chaos
from tests.chaos.verify import COMPARED, Verdict, compare

SEED = 7


def test_everything_together_under_faults_is_as_computed(tmp_path: Path) -> None:
    """Broker, endpoints, Kafka, processors, sinks, InfluxDB, archive: nothing lost, nothing twice."""
    said: list[str] = []
    asked = Asked(SEED, tmp_path / "chaos", readings=16_000, seconds=40, faults=0, brief=True)
    verdict, counts = asyncio.run(chaos(asked, said.append))
    assert verdict.good, (verdict.wrong, said)
    assert (verdict.lost, verdict.double) == (0, 0)
    assert verdict.facts["accepted readings and decisions"] > 8_000
    assert [name for name in counts if name.startswith("kill in commit")], said
    assert sum(counts.values()) - counts["did not come"] > 12, said


@pytest.mark.parametrize(("change", "lost", "double"), [("drop", 1, 0), ("twice", 0, 1), ("other", 0, 0)])
def test_a_row_that_is_missing_or_wrong_is_found(tmp_path: Path, change: str, lost: int, double: int) -> None:
    """One of the rows of a table."""
    for side in ("wanted", "stored"):
        (tmp_path / side).mkdir()
        for name in COMPARED:
            rows = [_row(name, number) for number in range(3)]
            if side == "stored" and name == "verdict":
                rows = {"drop": rows[1:], "twice": [*rows, rows[0]], "other": [*rows[1:], _row(name, 9)]}[
                    change
                ]
            pq.write_table(pa.Table.from_pylist(rows), tmp_path / side / f"{name}.parquet")
    verdict = Verdict()
    compare(tmp_path / "stored", tmp_path / "wanted", verdict)
    assert (verdict.lost, verdict.double) == (lost, double)
    assert not verdict.good


def _row(name: str, number: int) -> dict[str, str]:
    return {column.name: f"{column.name}-{number}" for column in TABLES[name].columns}
