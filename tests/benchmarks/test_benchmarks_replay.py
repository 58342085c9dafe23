"""The week of a park through MQTT, small: the benchmark's own comparison, and that it can fail."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks import replay


def test_what_is_replayed_into_a_service_is_what_compute_says(capsys: pytest.CaptureFixture[str]) -> None:
    """Every row of every table, in the columns that are a function of the set."""
    figures = replay.run(meters=12, duration="3h")
    assert figures["messages"] > 2_000
    assert figures["rows"]["interval"] > 2_000
    assert figures["rows"]["intensity"] > 500
    assert set(figures["differing_rows"].values()) == {0}
    assert "rows, of them different" in capsys.readouterr().out


def test_a_row_that_differs_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row less on one side counts, and is no other row more."""
    monkeypatch.setattr(replay, "_MEASURED", ("rollup",))
    recording, truth = tmp_path / "r", tmp_path / "truth"
    replay._meterflow("simulate", "--out", recording, "--truth", truth, "--duration", "1h")
    replay._meterflow("compute", recording, "--site", truth / "site.yaml", "--out", tmp_path / "computed")
    shutil.copytree(tmp_path / "computed", tmp_path / "data")
    assert replay._compared(tmp_path)[1] == {"rollup": 0}
    path = tmp_path / "computed" / "rollup.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    assert replay._compared(tmp_path)[1] == {"rollup": 1}
