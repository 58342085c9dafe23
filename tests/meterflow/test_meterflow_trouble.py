"""What goes wrong around the service: it says what, where and what to do, and is never half alive."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.meterflow.helper import Service, eventually, meterflow, mistake, publish
from tests.meterflow.recordings import BEGIN_MS, MINUTE_MS

Serve = Callable[..., Service]


@pytest.fixture
def service(serve: Serve, site: Path) -> Service:
    """The works, running."""
    service = serve(site)
    service.start()
    return service


def read(service: Service, minute: int) -> str:
    """Publishes a reading, acknowledged; its payload."""
    payload = json.dumps({"time": BEGIN_MS + minute * MINUTE_MS, "value": 1000 + minute})
    publish(service.mqtt_port, "meterflow/v1/works/count", payload)
    return payload


def up(service: Service, **changed: object) -> subprocess.CompletedProcess[str]:
    """A start that has to fail: the service's own options, but for those changed."""
    options = {"data": service.folder, "mqtt-port": 0, "http-port": 0} | {
        name.replace("_", "-"): value for name, value in changed.items() if name != "site"
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    return meterflow("up", changed.get("site", service.site), *words)


class Publisher:
    """A client that publishes a reading every 50 ms, and keeps when each was acknowledged."""

    def __init__(self, service: Service) -> None:
        self.acknowledged: list[float] = []
        self.sent = 0
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="steady")
        self._client.on_publish = lambda *_: self.acknowledged.append(time.monotonic())
        self._client.connect("127.0.0.1", service.mqtt_port)
        self._client.loop_start()

    def publish_for(self, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            at = BEGIN_MS + self.sent * MINUTE_MS
            payload = json.dumps({"time": at, "value": self.sent})
            self._client.publish("meterflow/v1/works/count", payload, qos=1)
            self.sent += 1
            time.sleep(0.05)

    def all_acknowledged(self, within_s: float) -> None:
        eventually(lambda: len(self.acknowledged) == self.sent, within_s, "acknowledged")
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def locked(service: Service) -> Iterator[None]:
    """Another program holds the log's file."""
    other = sqlite3.connect(service.folder / "log.sqlite", isolation_level=None, timeout=5)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


@contextmanager
def full(service: Service) -> Iterator[None]:
    """No byte is left on the disk."""
    filler = service.folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    try:
        yield
    finally:
        filler.unlink()


def recovers(service: Service, trouble: Callable[[Service], object]) -> None:
    """Acknowledging stops within a second, is told, and goes on by itself; nothing is lost."""
    publisher = Publisher(service)
    publisher.publish_for(1)
    eventually(lambda: len(publisher.acknowledged) == publisher.sent, 5)
    with trouble(service):  # type: ignore[attr-defined]
        began_s = time.monotonic()
        publisher.publish_for(2)
        eventually(lambda: service.status("/readyz") == 503, 8, "/readyz")
        assert "the log takes nothing" in service.get("/readyz")[1].decode()
        assert not [at for at in publisher.acknowledged if at > began_s + 1]
        assert service.status("/livez") == 200
    publisher.all_acknowledged(10)
    service.caught_up(publisher.sent, 20)
    eventually(lambda: service.status("/readyz") == 200, 10)
    assert "nothing is acknowledged until it does" in service.said
    assert "the log takes readings again" in service.said


def test_a_locked_log_stops_acknowledging_and_recovers(service: Service) -> None:
    """Another program's lock on the log: /readyz says so, and meters keep what is not acknowledged."""
    recovers(service, locked)
    service.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_stops_acknowledging_and_recovers(serve: Serve, site: Path, small_disk: Path) -> None:
    """No room: the same, without a restart; and a stop meanwhile would be in time, too."""
    service = serve(site, folder=small_disk / "data")
    service.log = site.with_name("service.log")
    service.start()
    recovers(service, full)
    with full(service):
        service.stop()
    service.start()


def test_a_stop_is_in_time_while_the_log_takes_nothing(service: Service) -> None:
    """What is not acknowledged then is sent again by the meters later."""
    read(service, 1)
    publisher = Publisher(service)
    with locked(service):
        publisher.publish_for(1)
        service.stop()
    service.start()
    service.caught_up(1)


@pytest.mark.parametrize(("option", "word"), [("mqtt_port", "--mqtt-port"), ("http_port", "--http-port")])
def test_a_port_in_use_is_a_mistake(service: Service, tmp_path: Path, option: str, word: str) -> None:
    """Which one, and with which option another is chosen."""
    taken = getattr(service, option)
    mistake(up(service, data=tmp_path / "other", **{option: taken}), 2, str(taken), "in use", word)
    assert service.status("/readyz") == 200


def test_a_folder_in_use_is_a_mistake_and_disturbs_nobody(service: Service) -> None:
    """A second service is refused, says by which, and the first one is found as before."""
    read(service, 1)
    service.caught_up(1)
    mistake(up(service), 2, str(service.folder), "already running")
    assert service.export("hop")[0]["accepted"] == "1"


def test_a_faulty_site_file_is_a_mistake(serve: Serve, site: Path) -> None:
    """Every fault with its line, and nothing is made."""
    site.write_text(site.read_text().replace("reads: register", "reads: never", 1))
    service = serve(site)
    mistake(up(service), 2, f"{site}:", "reads")
    assert not service.folder.exists()


def test_a_folder_of_a_newer_version_is_a_mistake(serve: Serve, site: Path) -> None:
    """It is left as it is, by up and by export."""
    service = serve(site)
    service.folder.mkdir()
    (service.folder / "version").write_text("99\n")
    mistake(up(service), 2, str(service.folder), "newer", "--data")
    mistake(meterflow("export", "interval", "--data", service.folder), 2, "newer")
    assert [path.name for path in service.folder.iterdir()] == ["version"]


def test_a_file_in_the_way_of_the_folder_is_a_mistake(serve: Serve, site: Path) -> None:
    """The data folder cannot be made below a file."""
    mistake(up(serve(site), data=site / "data"), 2, "data folder")


@pytest.mark.parametrize("what", ["folder", "log"])
def test_a_read_only_disk_is_a_mistake(serve: Serve, site: Path, small_disk: Path, what: str) -> None:
    """Whether it is empty or has the data of before: which folder, and what to do."""
    service = serve(site, folder=small_disk / "data")
    service.log = site.with_name("service.log")
    if what == "log":
        service.start()
        service.stop()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    ended = up(service)
    assert ended.returncode in (1, 2)
    mistake(ended, ended.returncode, str(small_disk), "Read-only")


def test_a_torn_record_ends_the_service_with_its_place(service: Service) -> None:
    """A record of readings that cannot be read is never skipped: the process ends with 1 and says why."""
    read(service, 1)
    service.caught_up(1)
    service.stop()
    with sqlite3.connect(service.folder / "log.sqlite") as log:
        log.execute("UPDATE record SET value = substr(value, 1, 20) WHERE length(value) > 20")
        log.execute("DELETE FROM chunk")
        log.execute("DELETE FROM consumer")
    ended = up(service)
    mistake(ended, 1, "log record")


def test_a_part_that_fails_later_ends_the_service(serve: Serve, site: Path) -> None:
    """A store that is ahead of its log belongs to another one: not half alive, but ended with a message."""
    one, other = serve(site), serve(site)
    for service, minutes in ((one, 40), (other, 1)):
        service.start()
        for minute in range(minutes):
            read(service, minute)
        service.caught_up(minutes)
        service.stop()
    shutil.copy(one.folder / "results.duckdb", other.folder / "results.duckdb")
    ended = up(other)
    mistake(ended, 2, "ahead of the log", "results.duckdb")


def test_users_may_publish_for_their_plants_only(serve: Serve, site: Path, tmp_path: Path) -> None:
    """passwd writes who may; a wrong password and another plant are refused."""
    users = tmp_path / "users.yaml"
    for user, plants in (("gateway", ["--plant", "works"]), ("guest", ["--plant", "elsewhere"])):
        ended = meterflow("passwd", users, user, *plants, text="secret\nsecret\n")
        assert ended.returncode == 0, ended.stderr
        assert "secret" not in ended.stderr + ended.stdout
    assert users.stat().st_mode & 0o077 == 0
    service = serve(site, "--users", str(users))
    service.start()
    payload = json.dumps({"time": BEGIN_MS, "value": 1})
    words = [
        "mosquitto_pub",
        "-p",
        str(service.mqtt_port),
        "-q",
        "1",
        "-t",
        "meterflow/v1/works/main",
        "-m",
        payload,
    ]
    wrong = subprocess.run(
        [*words, "-u", "gateway", "-P", "wrong"], capture_output=True, check=False, timeout=20
    )
    assert wrong.returncode != 0
    subprocess.run([*words, "-u", "guest", "-P", "secret"], check=True, timeout=20)
    subprocess.run([*words, "-u", "gateway", "-P", "secret"], check=True, timeout=20)
    service.caught_up(1)
    assert [row["reason"] for row in service.rows("rejected")] == ["not_permitted"]
    assert "secret" not in service.said
