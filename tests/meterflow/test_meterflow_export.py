"""``meterflow export``: from a running service, a stopped one, a killed one, and from compute's folder."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from metering.tables import TABLES
from tests.meterflow.helper import COMMAND, Service, done, environment, meterflow, mistake, rows_of
from tests.meterflow.recordings import works

Serve = Callable[..., Service]
MINUTES = 120


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Two hours of the works."""
    works(tmp_path / "works.ndjson", MINUTES)
    return tmp_path / "works.ndjson"


@pytest.fixture
def service(serve: Serve, site: Path, recording: Path) -> Service:
    """The works with two hours of readings, running."""
    service = serve(site)
    service.start()
    done("replay", recording, "--mqtt", service.mqtt, "--speed", "max")
    service.caught_up(3 * MINUTES)
    return service


def export(folder: Path, *words: str) -> str:
    return done("export", *words, "--data", folder).stdout


def raw(folder: Path, *words: str) -> bytes:
    import subprocess

    command = [*COMMAND, "export", *words, "--data", str(folder)]
    return subprocess.run(command, capture_output=True, check=True, env=environment()).stdout


def test_a_stopped_service_gives_the_same_as_a_running_one(service: Service) -> None:
    """The bytes are the same, whoever reads the store."""
    bounds = ("--from", "2026-01-01T00:30:00Z", "--to", "2026-01-01T09:00:00+08:00")
    words: list[tuple[str, ...]] = [(table,) for table in TABLES]
    words += [("rollup", "--format", form) for form in ("json", "parquet")]
    words += [("interval", *bounds), ("intensity", *bounds, "--history")]
    running = [raw(service.folder, *some) for some in words]
    service.stop()
    assert [raw(service.folder, *some) for some in words] == running


def test_every_format_has_the_same_rows(service: Service) -> None:
    """Amounts are exact in all of them."""
    as_csv = rows_of(export(service.folder, "interval"))
    as_json = json.loads(export(service.folder, "interval", "--format", "json"), parse_float=Decimal)
    as_parquet = pq.read_table(io.BytesIO(raw(service.folder, "interval", "--format", "parquet"))).to_pylist()
    amounts = [Decimal(row["amount"]) if row["amount"] else None for row in as_csv]
    assert len(amounts) > 3 * MINUTES - 10
    assert [None if row["amount"] is None else Decimal(row["amount"]) for row in as_json] == amounts
    assert [row["amount"] for row in as_parquet] == amounts


def test_from_is_left_out_and_to_is_taken_in(service: Service) -> None:
    """Bounds are of the table's time column, in any zone."""
    bounds = ("--from", "2026-01-01T08:30:00+08:00", "--to", "2026-01-01T00:40:00Z")
    ends = {row["end"] for row in service.export("interval", *bounds)}
    assert (min(ends), max(ends)) == ("2026-01-01T00:31:00Z", "2026-01-01T00:40:00Z")


def test_books_have_no_history(service: Service) -> None:
    """They hold what stands now; asking for more is a mistake, whether the service runs or not."""
    for option in ("--history", "--as-of=2026-01-02T00:00:00Z"):
        mistake(meterflow("export", "hop", "--data", service.folder, option), 2, "hop", "no history")
    service.stop()
    mistake(meterflow("export", "ledger", "--data", service.folder, "--history"), 2, "ledger", "no history")


def test_history_and_as_of_show_what_was_said_before(serve: Serve, site: Path) -> None:
    """A corrected reading restates; the row before is in the history and was in force until then."""
    from tests.meterflow.helper import eventually, publish
    from tests.meterflow.recordings import BEGIN_MS, MINUTE_MS

    service = serve(site)
    service.start()

    def count(minute: int, value: str, revision: int = 0) -> None:
        reading = {"time": BEGIN_MS + minute * MINUTE_MS, "value": value, "revision": revision}
        publish(service.mqtt_port, "meterflow/v1/works/count", json.dumps(reading))

    for minute, value in enumerate(("1.0", "1.2", "1.5", "2.0")):
        count(minute, value)
    service.caught_up(4)
    old = {row["end"]: row for row in service.rows("interval") if row["amount"]}["2026-01-01T00:01:00Z"]
    assert old["amount"] == "0.2"
    count(1, "1.1", revision=1)
    eventually(lambda: {r["amount"] for r in service.rows("interval")} >= {"0.1"}, 5)
    said = [
        (row["amount"], row["revision"])
        for row in service.export("interval", "--history")
        if row["end"] == "2026-01-01T00:01:00Z"
    ]
    assert ("0.2", "0") in said
    assert ("0.1", "1") in said
    new = {row["end"]: row for row in service.rows("interval")}["2026-01-01T00:01:00Z"]
    assert (new["amount"], new["state"]) == ("0.1", "revised")
    assert old["state"] == "final"
    before = service.export("interval", "--as-of", old["reported"])
    assert {r["amount"] for r in before if r["end"] == "2026-01-01T00:01:00Z"} == {"0.2"}


def test_a_computed_folder_is_exported_like_a_services(recording: Path, site: Path, tmp_path: Path) -> None:
    """Parquet and CSV alike, with bounds, in every format."""
    for form in ("parquet", "csv"):
        done("compute", recording, "--site", site, "--out", tmp_path / form, "--format", form)
    bounds = ("--to", "2026-01-01T00:40:00Z")
    for table in ("interval", "intensity", "ledger"):
        for words in ((table, *bounds), (table, "--format", "json")):
            found = {export(tmp_path / form, *words) for form in ("parquet", "csv")}
            assert len(found) == 1, words
    assert export(tmp_path / "csv", "interval") == (tmp_path / "csv" / "interval.csv").read_text()
    mistake(meterflow("export", "interval", "--data", tmp_path / "csv", "--history"), 2, "no history")


def test_compute_rejects_what_the_service_rejects(recording: Path, site: Path, tmp_path: Path) -> None:
    """Rejected messages of a recording are in its table, too."""
    topic = "meterflow/v1/works/nope"
    line = {"received": "2026-01-01T00:00:00Z", "topic": topic, "qos": 1, "payload": {"value": 1}}
    recording.write_text(json.dumps(line) + "\n" + recording.read_text())
    done("compute", recording, "--site", site, "--out", tmp_path / "out", "--format", "csv")
    (row,) = rows_of((tmp_path / "out" / "rejected.csv").read_text())
    assert (row["reason"], row["topic"]) == ("unknown_point", topic)


def test_what_a_killed_service_left_behind_misleads_nobody(service: Service) -> None:
    """Its address is stale: the store is read itself, also when another process has its number now."""
    wanted = service.export("interval")
    service.kill()
    announced = service.folder / "service.json"
    assert announced.exists()
    assert service.export("interval") == wanted
    announced.write_text(json.dumps(json.loads(announced.read_text()) | {"pid": os.getpid()}))
    assert service.export("interval") == wanted
    announced.write_text("{")
    assert service.export("interval") == wanted
    service.start()
    assert service.export("interval") == wanted


def test_a_proxy_in_the_environment_is_not_asked(service: Service) -> None:
    """The service is on this machine."""
    proxy = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "no_proxy": ""}
    ended = meterflow("export", "hop", "--data", service.folder, **proxy)
    assert ended.returncode == 0, ended.stderr


def test_with_a_token_the_page_is_closed_and_export_is_not(serve: Serve, site: Path, tmp_path: Path) -> None:
    """export finds the token beside the data, where only this user can read it; no log line has it."""
    token = tmp_path / "token"
    token.write_text("a-long-and-secret-token\n")
    service = serve(site, "--token-file", str(token))
    service.token = "a-long-and-secret-token"
    service.start()
    assert service.export("hop") == []
    service.token = ""
    assert {service.status(path) for path in ("/api/overview", "/api/export/hop", "/metrics", "/readyz")} == {
        401
    }
    assert service.status("/livez") == 200
    assert (service.folder / "service.json").stat().st_mode & 0o077 == 0
    assert "secret-token" not in service.said
    service.token = "a-long-and-secret-token"


def test_beyond_this_machine_only_with_a_token(site: Path, tmp_path: Path) -> None:
    """--http-host elsewhere is refused without one."""
    words = ("--data", tmp_path / "d", "--mqtt-port", 0, "--http-port", 0, "--http-host", "0.0.0.0")
    mistake(meterflow("up", site, *words), 2, "token")


def test_a_damaged_store_is_not_exported_as_an_empty_one(service: Service) -> None:
    """Nothing known is not the same as nothing there."""
    service.stop()
    (service.folder / "results.duckdb").write_bytes(b"x" * 10_000)
    mistake(meterflow("export", "interval", "--data", service.folder), 1, "damaged", "Start the service")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("nothing",), 2, "interval, rollup"),
        (("interval", "--from", "yesterday"), 2, "--from"),
        (("interval", "--to", "2026-01-01T00:00:00"), 2, "zone"),
        (("interval", "--data", "nowhere"), 2, "nowhere"),
        (("interval", "--format", "xml"), 2, "xml"),
        (("interval",), 2, "no results"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, words: tuple[str, ...], code: int, said: str) -> None:
    """What is wrong, where, and what to do; on an empty folder, too."""
    data = () if "--data" in words else ("--data", tmp_path)
    mistake(meterflow("export", *words, *data), code, said)


def test_whoever_stops_reading_gets_no_traceback(service: Service) -> None:
    """``export | head`` ends quietly."""
    import subprocess

    command = " ".join(COMMAND)
    ended = subprocess.run(
        f"{command} export rollup --data {service.folder} | head -1",
        shell=True, capture_output=True, text=True, env=environment(), check=False,
    )  # fmt: skip
    assert ended.stdout.startswith("scope,measures")
    assert ended.stderr == ""
