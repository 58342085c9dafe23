"""A changed site file for the roles on Kafka: in force at every copy of ingest, or nothing has changed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

from tests.meterflow.helper import COMMAND, done, environment, eventually, meterflow, mistake, publish
from tests.meterflow.recordings import BEGIN_MS, MINUTE_MS
from tests.meterflow.roles import PLANT, Copy, Services, stored
from tests.meterflow.test_meterflow_roles import computed, recorded

NEW = "new-d"
"""A plant that only the new file has."""


def of_new_file(services: Services) -> Services:
    """Settings of its roles: another multiplier and a new plant, results and a bucket of their own."""
    site, settings = services.folder / "site-2.yaml", services.folder / "settings-2.yaml"
    text = services.site.read_text().replace("multiplier: 10", "multiplier: 20")
    site.write_text(text.replace("9000 kW", "18000 kW") + PLANT.format(id=NEW))
    bucket = f"bucket: {services.influx.bucket()}"
    given = re.sub(r"bucket: [\w-]+", bucket, services.settings.read_text())
    given = given.replace("prefix:", "results: results-2, prefix:")
    settings.write_text(given.replace(f"site: {services.site}", f"site: {site}"))
    return replace(services, site=site, settings=settings)


def ingests(services: Services) -> tuple[Copy, Copy]:
    """Two copies; the second one has the messages of the new plant."""
    return _ingest(services, 1, ("steel-a", "dye-b", "dye-c")), _ingest(services, 2, (NEW,))


def _ingest(services: Services, number: int, plants: tuple[str, ...]) -> Copy:
    filters = ", ".join(f"'meterflow/v1/{plant}/#'" for plant in plants)
    settings = services.folder / f"ingest-{number}.yaml"
    text = re.sub(r"client_id: ([\w-]+)", rf"client_id: \1-{number}, filters: [{filters}]", _text(services))
    settings.write_text(f"name: copy-{number}\n{text}")
    copy = Copy("ingest", settings, len(services.copies))
    services.copies.append(copy)
    return copy.start()


def _text(services: Services) -> str:
    return services.settings.read_text()


def send(services: Services, minute: int) -> None:
    """A reading of the new plant."""
    content = {"time": BEGIN_MS + minute * MINUTE_MS, "values": {"count": f"{minute}.000"}}
    publish(services.broker.port, f"meterflow/v1/{NEW}", json.dumps(content))


def books(services: Services, hop: str) -> int:
    """Readings of the new plant that a hop accepted, as it is stored."""
    rows = [row for row in stored(services.settings, "hop") if (row["hop"], row["plant"]) == (hop, NEW)]
    return sum(int(row["accepted"]) for row in rows)


def refused(copy: Copy) -> float:
    """Messages that a copy of ingest has refused as of an unknown plant."""
    return copy.metric('meterflow_rejected_total{reason="unknown_plant"}')


def test_readings_come_in_while_a_file_is_applied(services: Services, tmp_path: Path) -> None:
    """Every reading is in the tables of both files, also when a process and an ingest are killed."""
    recording = tmp_path / "works.ndjson"
    readings = recorded(recording, 120)
    new = of_new_file(services)
    _, second = ingests(services)
    services.start("process", "sink")
    send(services, 0)
    eventually(lambda: refused(second) == 1, 20, "refused by the old file")
    mistake(meterflow("apply", "--settings", new.settings, "--yes"), 2, "First run process and sink")

    process, _ = new.start("process", "sink")
    lines = recording.read_bytes().splitlines(keepends=True)
    early, late = tmp_path / "early.ndjson", tmp_path / "late.ndjson"
    early.write_bytes(b"".join(lines[:200]))
    late.write_bytes(b"".join(lines[200:]))
    words = ("replay", early, "--mqtt", services.broker.url, "--speed", "1000")
    player = threading.Thread(target=done, args=words)
    player.start()
    eventually(lambda: process.partitions("worker"), 20, "at work")
    process.kill()
    process.start()
    said = json.loads(done("apply", "--settings", new.settings, "--json").stdout)
    assert said["state"] == "in force"
    assert set(said["since"]) == {"copy-1", "copy-2"}
    player.join()
    done("replay", late, "--mqtt", services.broker.url, "--speed", "max")
    new.stored(readings)
    new.have(computed(recording, new.site))
    services.have(computed(recording, services.site))

    send(services, 1)
    eventually(lambda: books(new, "processors") == 1, 30, "a reading of the new plant")
    eventually(lambda: books(new, "ingest/copy-2") == 1, 30, "ingest's books are among the new results")
    second.kill()
    second.start()
    assert "the one given is older" in second.said
    send(services, 2)
    eventually(
        lambda: books(new, "processors") == 2, 30, "the file that was applied counts, not the one given"
    )
    for copy in services.copies:
        assert copy.ready(), copy.role


def test_one_ingest_that_does_not_answer_takes_the_file_later(services: Services, tmp_path: Path) -> None:
    """Before the record nothing has changed, also when the command is killed; behind it the file counts."""
    recording = tmp_path / "works.ndjson"
    recorded(recording, 30)
    new = of_new_file(services)
    first, second = ingests(services)
    services.start("process", "sink")
    done("replay", recording, "--mqtt", services.broker.url, "--speed", "max")
    new.start("process")
    command = [*COMMAND, "apply", "--settings", str(new.settings), "--yes"]
    waiting = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
    try:  # no sink has stored the new results
        assert waiting.wait(8) is None
    except subprocess.TimeoutExpired:
        waiting.kill()
        waiting.wait()
    send(services, 0)
    eventually(lambda: refused(second) == 1, 20, "the old file is in force")

    new.start("sink")
    second.signal(signal.SIGSTOP)
    ended = meterflow("apply", new.site, "--settings", new.settings, "--yes")
    second.signal(signal.SIGCONT)
    assert ended.returncode == 0, ended.stderr
    assert "copy-2 does not answer" in ended.stderr
    eventually(lambda: "decodes by the site file that was applied" in second.said, 20, "taken")
    send(services, 1)
    eventually(lambda: books(new, "processors") == 1, 30, "a reading of the new plant")
    third = services.folder / "site-3.yaml"
    third.write_text(new.site.read_text().replace("multiplier: 20", "multiplier: 30"))
    new.settings.write_text(_text(new).replace("site-2", "site-3"))
    mistake(meterflow("apply", "--settings", new.settings, "--yes"), 2, "are of another site file")
    done("apply", "--settings", services.settings, "--json")
    send(services, 2)
    eventually(lambda: refused(second) == 2, 20, "back to the file before")
    assert first.ready()
