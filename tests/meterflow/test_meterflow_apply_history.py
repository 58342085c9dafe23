"""What was reported goes on over ``meterflow apply``: one history of each figure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from metering.tables import TABLES
from simulators.recording import Message, read_recording, write_recording
from tests.meterflow.helper import Row, Service, done, rows_of
from tests.meterflow.recordings import works
from tests.meterflow.test_meterflow_apply import Serve, applied, other

REPORTED = ("interval", "rollup", "intensity", "verdict", "alert")
HISTORY = "&history=true"
Rows = dict[str, list[Row]]
Keyed = dict[tuple[str, ...], Row]


def said(service: Service, asked: str = "") -> Rows:
    found: Rows = {}
    for table in REPORTED:
        code, text = service.get(f"/api/export/{table}?format=csv{asked}")
        assert code == 200, text
        found[table] = rows_of(text.decode())
    return found


def keyed(table: str, rows: Iterable[Row]) -> Keyed:
    """What was reported, by its key."""
    return {tuple(row[name] for name in TABLES[table].key): row for row in rows if row.get("state") != "open"}


def chains(table: str, rows: Iterable[Row]) -> dict[tuple[str, ...], list[Row]]:
    """The reported rows of each key, in the order of their revisions."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in TABLES[table].key), []).append(row)
    return {key: sorted(its, key=lambda row: int(row["revision"])) for key, its in found.items()}


def figures(table: str, row: Row) -> Row:
    """Without what tells its story."""
    return {column.name: row[column.name] for column in TABLES[table].columns if not column.of_log}


def check_change(before: Rows, after: Rows, history: tuple[Rows, Rows], at: str) -> dict[str, int]:
    """What says the same is as it was, in all columns; each other row is one revision more, by the site file.

    ``history``: before and after. How many rows of a table were revised.
    """
    revised = dict.fromkeys(REPORTED, 0)
    for table in REPORTED:
        old, new = keyed(table, before[table]), keyed(table, after[table])
        was, since = (chains(table, rows[table]) for rows in history)
        for key, row in new.items():
            if key in old and figures(table, row) == figures(table, old[key]):
                assert row == old[key]
                assert since[key] == was[key]
                continue
            revised[table] += 1
            revision = int(old[key]["revision"]) + 1 if key in old else 0
            assert int(row["revision"]) == revision, (table, row, old.get(key))
            assert row["reported"] >= at
            assert row.get("cause", "site") == "site"
            assert since[key] == [*was.get(key, []), row]
        for key in old.keys() - new.keys():
            assert since[key][: len(was[key])] == was[key]
    return revised


def late(recording: Path, out: Path, minute: int, value: str) -> None:
    """A correction of one reading of long ago."""
    message = list(read_recording(recording))[minute]
    content = json.loads(message.payload)
    reading = {"point": "main", "time": content["time"], "value": value, "revision": 1}
    with write_recording(out) as file:
        file.write(Message(message.received_ms, message.topic, 1, json.dumps([reading]).encode()))


def test_a_changed_multiplier_restates_what_it_touches_and_nothing_else(
    serve: Serve, tmp_path: Path, site: Path
) -> None:
    """Two changes after each other, a restart and corrections between them: revisions rise, none twice; and
    what was exported at any instant can be asked for.
    """
    service = serve(site)
    recording = tmp_path / "works.ndjson"
    readings = works(recording, 300)
    service.start()
    done("replay", recording, "--mqtt", service.mqtt, "--speed", "max")
    service.caught_up(readings)
    exported: dict[str, Rows] = {}
    changes = [("multiplier: 10", "multiplier: 20"), ("multiplier: 10", "multiplier: 30")]
    for number, words in enumerate(changes):
        correction = tmp_path / f"late-{number}.ndjson"
        late(recording, correction, 40 + number, "100.5")
        before, history = said(service), said(service, HISTORY)
        at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        exported[at] = said(service, f"&as_of={at}")
        applied(other(site, f"site-{number}", words, ("9000 kW", "27000 kW")), service)
        service.caught_up(readings + number)
        revised = check_change(before, said(service), (history, said(service, HISTORY)), at)
        assert 0 < revised["interval"] < len(before["interval"])
        service.stop()
        service.start()
        done("replay", correction, "--mqtt", service.mqtt, "--speed", "max")
        service.caught_up(readings + number + 1)
    for table, rows in said(service, HISTORY).items():
        for key, chain in chains(table, rows).items():
            revisions = [int(row["revision"]) for row in chain]
            assert revisions == sorted(set(revisions)), (table, key, chain)
            assert [row["reported"] for row in chain] == sorted(row["reported"] for row in chain)
    for at, then in exported.items():
        assert said(service, f"&as_of={at}") == then
