"""Plants of a profile published over MQTT: all of it arrives, and the rate reached is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from meterflow.scoring import scored
from tests.meterflow.helper import Service, check_laws, done, meterflow, mistake

WORLD = ("--profile", "food", "--seed", 3, "--duration", "2h", "--faults", "spike,late,duplicate")


def test_a_profile_is_published_to_an_endpoint(serve: Callable[..., Service], tmp_path: Path) -> None:
    """As many messages as its recording has; what the service stores has a score as compute's has."""
    recording, truth, data = tmp_path / "R.ndjson", tmp_path / "T", tmp_path / "D"
    done("simulate", *WORLD, "--out", recording, "--truth", truth)
    lines = len(recording.read_text("utf-8").splitlines())
    service = serve(truth / "site.yaml")
    service.start()
    said = json.loads(done("simulate", *WORLD, "--to", service.mqtt, "--json").stdout)
    assert (said["messages"], said["acknowledged"]) == (lines, lines)
    assert said["rate_hz"] > 0
    messages = {json.dumps(json.loads(line)["payload"]) for line in recording.read_text("utf-8").splitlines()}
    service.caught_up(len(messages) - 1)
    check_laws(service)
    data.mkdir()
    for table in ("interval", "rollup", "intensity", "verdict", "rejected"):
        text = done("export", table, "--data", service.folder, "--format", "csv").stdout
        (data / f"{table}.csv").write_text(text, "utf-8")
    service.stop()
    found = scored(truth, data)
    assert found.false_final == 0
    assert found.verdicts["right"] > 0
    assert found.verdicts["wrong"] == found.verdicts["missing"] == 0


def test_a_profile_that_is_none_is_told(tmp_path: Path) -> None:
    """Before anybody is called."""
    mistake(meterflow("simulate", "--profile", tmp_path / "none.yaml", "--to", "mqtt://h"), 2, "no profile")
