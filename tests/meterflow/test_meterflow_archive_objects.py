"""The archive of a real service in a real object store: found, whole, and equal to what was accepted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds

from tests.meterflow.helper import Service, done, eventually
from tests.meterflow.recordings import works
from tests.real.versitygw import BUCKET, ObjectStore

Serve = Callable[..., Service]


def checked(url: str) -> dict[str, Any]:
    """What the check of a whole archive says."""
    found: dict[str, Any] = json.loads(done("archive", "check", "--archive", url, "--json").stdout)
    assert found["problems"] == []
    return found


def test_an_archive_in_an_object_store_has_all_that_was_accepted(
    serve: Serve, tmp_path: Path, site: Path, object_store: ObjectStore
) -> None:
    """Over a store that goes away and a kill; and whoever reads Parquet there finds every reading once."""
    url = object_store.url("meters/of-1")
    service = serve(site, "--archive", url, "--archive-every", "0.2")
    service.start()
    readings = works(tmp_path / "works.ndjson", 120)
    done("replay", tmp_path / "works.ndjson", "--mqtt", service.mqtt, "--speed", "max")
    service.caught_up(readings)
    eventually(lambda: checked(url)["readings"] == service.received(), 20, "archived")
    object_store.stop()
    again = works(tmp_path / "more.ndjson", 60, seed=2)
    done("replay", tmp_path / "more.ndjson", "--mqtt", service.mqtt, "--speed", "max")
    eventually(lambda: service.received() >= readings + again, 20, "worked out while the store is away")
    eventually(lambda: "readings cannot be archived now" in service.said, 40, "told")
    service.kill()
    object_store.start()
    service.start()
    received = service.received()
    eventually(lambda: checked(url)["readings"] == received, 60, "archived")
    service.stop()
    rows = ds.dataset(
        f"{BUCKET}/meters/of-1/readings", format="parquet", filesystem=object_store.filesystem()
    )
    places = rows.to_table(columns=["offset", "row"]).group_by(["offset", "row"]).aggregate([])
    assert rows.count_rows() == len(places) == received
    made = ("--archive", url, "--out", tmp_path / "again", "--against", service.folder)
    done("archive", "rebuild", site, *made)
