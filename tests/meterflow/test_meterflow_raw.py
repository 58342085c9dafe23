"""Raw payloads kept as configured: each once in the archive, byte for byte, whatever happens on the way."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import duckdb
import numpy as np

from bus.log import PAYLOADS, Entry
from bus.log_sqlite import open_log
from bus.payload_frames import encode_payloads
from metering.readings import Evidence, absent, dictionary
from sinks.archive_place import FolderPlace
from sinks.archive_reader import Archive
from tests.meterflow.helper import (
    COMMAND,
    ROOT,
    Service,
    done,
    environment,
    eventually,
    meterflow,
    mistake,
    publish,
)
from tests.meterflow.recordings import works
from tests.meterflow.roles import Services
from tests.meterflow.test_meterflow_evidence import TOPIC, payload
from tests.meterflow.test_meterflow_roles import recorded
from tests.sinks.archive_builders import usual

Serve = Callable[..., Service]
FORMATS = ROOT / "docs" / "formats.md"


def told(service: Service) -> dict[str, object]:
    """What ``archive check`` finds, also where something is wrong."""
    found: dict[str, object] = json.loads(
        meterflow("archive", "check", "--data", service.folder, "--json").stdout
    )
    return found


def of_evidence(archive: Path) -> set[bytes]:
    """The SHA-256 of all messages that readings were taken from."""
    kept = Archive(FolderPlace(archive))
    return {one for plant in kept.plants() for one in kept.evidence(plant).column("sha256").to_pylist()}


def of_payloads(archive: Path) -> set[bytes]:
    """Of all raw payloads that are there, worked out of their bytes by DuckDB."""
    if not any(archive.glob("raw/manifest/*.json")):
        return set()
    with duckdb.connect() as connection:
        sql = f"SELECT sha256, unhex(sha256(payload)) FROM '{archive}/raw/payloads/*/*/*.parquet'"
        found = connection.execute(sql).fetchall()
    assert all(said == worked_out for said, worked_out in found)
    return {digest for digest, _ in found}


def digests(recording: Path) -> set[bytes]:
    """Of all payloads that are sent by a recording."""
    lines = [json.loads(line)["payload"] for line in recording.read_text().splitlines()]
    return {sha256(json.dumps(one, separators=(",", ":")).encode()).digest() for one in lines}


def documented(archive: Path) -> list[tuple[str, bytes]]:
    """Point and payload of each reading, as docs/formats.md has DuckDB find them."""
    (sql,) = re.findall(r"```sql\n(SELECT r\.point.*?)```", FORMATS.read_text(), re.DOTALL)
    with duckdb.connect() as connection:
        sql = sql.replace("'archive/", f"'{archive}/").replace(";", "")
        return connection.execute(f"SELECT point, payload FROM ({sql})").fetchall()


def test_the_raw_payload_of_each_reading_is_there(serve: Serve, site: Path) -> None:
    """Sent twice it is there once; the command and DuckDB alone give the bytes that were sent."""
    service = serve(site, "--raw", "--archive-every", "0.05")
    service.start()
    sent = [payload(0), b"[" + payload(1) + b"," + payload(2) + b"]", payload(3)]
    for one in (*sent, sent[0]):
        publish(service.mqtt_port, TOPIC, one)
    publish(service.mqtt_port, TOPIC, b"not json")
    service.caught_up(4)
    service.stop()
    report = told(service)
    assert (report["problems"], report["readings"]) == ([], 5)
    place = service.folder / "archive"
    assert of_evidence(place) == {sha256(one).digest() for one in sent}
    for one in sent:
        words = ("archive", "payload", sha256(one).hexdigest(), "--data", str(service.folder))
        command = [*COMMAND, *words]
        assert subprocess.run(command, env=environment(), capture_output=True, check=True).stdout == one
    assert sorted({found for _, found in documented(place)}) == sorted(sent)
    mistake(meterflow("archive", "payload", "0" * 64, "--data", service.folder), 2, "no raw payload")
    mistake(meterflow("archive", "payload", "0" * 63, "--data", service.folder), 2, "no SHA-256")


def test_a_revision_is_followed_to_its_readings(serve: Serve, site: Path) -> None:
    """By when it and the one before were reported: the late reading, with the message it came in."""
    service = serve(site, "--raw")
    service.start()
    for minute in (0, 1, 3, 200):
        publish(service.mqtt_port, TOPIC, payload(minute))
    service.caught_up(4)
    late = payload(2).replace(b'"2.50"', b'"2.75"')
    publish(service.mqtt_port, TOPIC, late)
    service.caught_up(5)
    rows = service.export("interval", "--history")
    revised = [row for row in rows if row["point"] == "count" and row["cause"] == "late"]
    after = max(revised, key=lambda row: (row["reported"], row["start"]))
    same = [row for row in rows if all(row[k] == after[k] for k in ("plant", "point", "start", "end"))]
    (before,) = (row for row in same if int(row["revision"]) == int(after["revision"]) - 1)
    service.stop()
    words = ["--point", "count", "--since", before["reported"], "--by", after["reported"], "--json"]
    words += ["--from", after["start"], "--to", after["end"]]
    shown = done("archive", "evidence", "works", "--data", service.folder, *words).stdout
    (found,) = map(json.loads, shown.splitlines())
    assert (found["value"], found["sha256"], found["topic"]) == ("2.75", sha256(late).hexdigest(), TOPIC)
    assert (found["offset"], found["row"]) == (max(offsets(service)), 0)
    for more in (("--by", before["reported"]), ("--since", after["reported"]), ("--point", "main")):
        assert done("archive", "evidence", "works", "--data", service.folder, *words, *more).stdout == ""


def offsets(service: Service) -> list[int]:
    """Of all archived readings."""
    shown = done("archive", "evidence", "works", "--data", service.folder, "--json").stdout
    return [json.loads(line)["offset"] for line in shown.splitlines()]


def test_without_being_asked_nothing_raw_is_kept(serve: Serve, site: Path) -> None:
    """Neither on the log nor in the archive; and what a run with it left on the log is archived still."""
    service = serve(site)
    service.start()
    publish(service.mqtt_port, TOPIC, payload(0))
    service.caught_up(1)
    service.stop()
    assert told(service)["payloads"] == 0
    assert not (service.folder / "archive" / "raw").exists()


def test_raw_payloads_outlive_kills(serve: Serve, site: Path, tmp_path: Path) -> None:
    """Killed while it archives: of every reading that was acknowledged the payload is there, once."""
    service = serve(site, "--raw", "--archive-every", "0.05")
    service.start()
    recording = tmp_path / "works.ndjson"
    readings = works(recording, 400)
    for number in range(3):
        done("replay", recording, "--mqtt", service.mqtt, "--speed", "max")
        if number < 2:
            eventually(lambda: list(service.folder.glob("archive/raw/manifest/*.json")), 20)
            service.kill()
            service.start()
    service.caught_up(readings)
    service.stop()
    without = serve(site, folder=service.folder)
    without.start()
    without.stop()
    assert told(without)["problems"] == []
    place = FolderPlace(service.folder / "archive")
    assert of_evidence(place.root) == of_payloads(place.root) == digests(recording)


def test_a_damaged_file_of_raw_payloads_is_named(serve: Serve, site: Path) -> None:
    """Missing, torn, altered: told with its path, and no other bytes are shown for it."""
    service = serve(site, "--raw")
    service.start()
    publish(service.mqtt_port, TOPIC, payload(0))
    service.caught_up(1)
    service.stop()
    (file,) = service.folder.glob("archive/raw/payloads/*/*/*.parquet")
    whole, digest = file.read_bytes(), sha256(payload(0)).hexdigest()
    at = whole.index(b"note")
    for content, kind in (
        (whole[:-1], "torn"),
        (whole[:at] + b"N" + whole[at + 1 :], "altered"),
        (None, "missing"),
    ):
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        problem: dict[str, str]
        (problem,) = told(service)["problems"]  # type: ignore[misc]
        assert (problem["kind"], problem["path"]) == (kind, str(file.relative_to(service.folder / "archive")))
        shown = meterflow("archive", "payload", digest, "--data", service.folder)
        assert (shown.returncode, shown.stdout) == (1, "")
        file.touch()


def test_raw_payloads_are_let_go_of_by_age(serve: Serve, site: Path) -> None:
    """Told in the log, the metrics, by the check, and to who asks for one; readings stay."""
    service = serve(site, "--raw")
    service.start()
    publish(service.mqtt_port, TOPIC, payload(0))
    service.caught_up(1)
    service.stop()
    asyncio.run(two_days_ago(service.folder, payload(1)))
    service.start()
    service.stop()
    assert told(service)["payloads"] == 2
    later = serve(site, "--keep-raw", "1", folder=service.folder)
    later.start()
    eventually(lambda: later.metric('meterflow_events_total{event="raw_payloads_let_go"}') == 1, 20)
    later.stop()
    assert "let go of 1 raw payloads that came before" in later.said
    report = told(later)
    assert (report["problems"], report["payloads"], report["readings"]) == ([], 1, 1)
    asked = meterflow("archive", "payload", sha256(payload(1)).hexdigest(), "--data", later.folder)
    mistake(asked, 2, "no raw payload", "were let go of")


async def two_days_ago(folder: Path, sent: bytes) -> None:
    """A raw payload on the log that came then."""
    received = time.time_ns() // 1_000_000 - 2 * 86_400_000
    digest = np.frombuffer(sha256(sent).digest(), np.uint8).reshape(1, -1)
    evidence = Evidence(dictionary([TOPIC]), absent(1), digest, np.zeros(1, np.int32), "", (sent,))
    readings = replace(usual(np.array([received]), np.array([1])), evidence=evidence)
    log = await open_log(folder)
    await log.append({PAYLOADS: [Entry("works", frame, received) for frame in encode_payloads(readings)]})
    await log.close()


def test_copies_on_kafka_keep_raw_payloads(services: Services, tmp_path: Path) -> None:
    """Of every message that readings on the log are of, on whatever partition."""
    with services.settings.open("a") as settings:
        settings.write("archive: {url: archive, every: 1s, raw: true, keep_raw_days: 3}\n")
    _, copy = services.start("ingest", "process")
    recording = tmp_path / "works.ndjson"
    recorded(recording, 120)
    eventually(lambda: copy.partitions("raw") == {0, 1, 2}, 60)
    done("replay", recording, "--mqtt", services.broker.url, "--speed", "max")
    archive, wanted = tmp_path / "archive", digests(recording)
    eventually(lambda: of_evidence(archive) == of_payloads(archive) == wanted, 60)
    copy.stop()
    assert json.loads(done("archive", "check", "--archive", archive, "--json").stdout)["problems"] == []
