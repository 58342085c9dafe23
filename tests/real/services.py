"""`make services`: Kafka, InfluxDB and Mosquitto that go on running, for a person to work with.

``python -m tests.real.services start`` prints their addresses as lines that a shell can eval, and a settings
file for the roles; ``stop`` ends them and keeps their data. Everything lies in METERFLOW_SERVICES, else in
``~/.local/state/meterflow-services``. They listen on this machine only, on their usual ports where these are
free; whoever may use this machine may use them.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from tests.real.influxd import InfluxServer
from tests.real.kafka import KafkaServer
from tests.real.mosquitto import Mosquitto
from tests.real.server import STOP_S, Server, free_port, listens

ROOT: Final = Path(__file__).resolve().parents[2]
PORTS: Final = {"kafka": 9092, "influxd": 8086, "mosquitto": 1883}
STOP_SIGNALS: Final = {"influxd": signal.SIGINT}

Running = dict[str, dict[str, int]]
"""Server -> its port, process id, and the ticks since boot when that process began."""


def home() -> Path:
    """Where the services have their data."""
    given = os.environ.get("METERFLOW_SERVICES")
    return Path(given) if given else Path.home() / ".local" / "state" / "meterflow-services"


def make(name: str, port: int) -> Server:
    """The server of that name."""
    folder = home() / name
    folder.mkdir(parents=True, exist_ok=True)
    if name == "kafka":
        return KafkaServer(folder, port=port)
    return (
        InfluxServer(folder, port=port)
        if name == "influxd"
        else Mosquitto(folder, port=port, persistent=True)
    )


def began(pid: int) -> int:
    """When that process began, in ticks since boot; 0 when there is none. A later one with its id differs."""
    with suppress(OSError):
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return 0 if state == "Z" else int(fields[18])
    return 0


def remembered() -> Running:
    """What was started before."""
    with suppress(FileNotFoundError):
        found: Running = json.loads((home() / "running.json").read_text())
        return found
    return {}


def remember(running: Running) -> None:
    """For the next call."""
    (home() / "running.json").write_text(json.dumps(running))


def is_running(one: dict[str, int]) -> bool:
    """Whether it is still that process."""
    return one["began"] != 0 and began(one["pid"]) == one["began"]


def port_for(name: str, running: Running) -> int:
    """The one it had, else its usual one, else any."""
    port = running.get(name, {}).get("port", PORTS[name])
    return free_port() if listens(port) else port


def start() -> None:
    """Starts what does not run, and prints where everything is."""
    home().mkdir(parents=True, exist_ok=True)
    running = remembered()
    for name in PORTS:
        if name in running and is_running(running[name]):
            continue
        port = port_for(name, running)
        server = make(name, port).start(outlives=True)
        running[name] = {"port": port, "pid": server.pid, "began": began(server.pid)}
        remember(running)
    print_places({name: one["port"] for name, one in running.items()})


def print_places(ports: dict[str, int]) -> None:
    """The addresses on standard output; on standard error how to use and to stop them."""
    influx = InfluxServer(home() / "influxd", port=ports["influxd"])
    mqtt = f"mqtt://127.0.0.1:{ports['mosquitto']}"
    kafka = f"127.0.0.1:{ports['kafka']}"
    settings = write_settings(mqtt, kafka, influx)
    places = {
        "METERFLOW_TEST_KAFKA": kafka,
        "METERFLOW_TEST_INFLUXDB_URL": influx.url,
        "METERFLOW_TEST_INFLUXDB_ORG": influx.org,
        "METERFLOW_TEST_INFLUXDB_TOKEN": influx.token,
        "METERFLOW_TEST_MQTT": mqtt,
        "METERFLOW_SETTINGS": str(settings),
    }
    sys.stdout.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in places.items())
    sys.stdout.flush()
    sys.stderr.write(
        f"running; data and logs in {home()}; stop: make services-stop\n"
        f'in this shell: eval "$(make -s services)"; settings of the roles: {settings}\n'
    )


def write_settings(mqtt: str, kafka: str, influx: InfluxServer) -> Path:
    """A settings file for the roles, with the park as its site."""
    token = home() / "influxdb-token"
    token.touch(mode=0o600)
    token.write_text(influx.token)
    settings = home() / "settings.yaml"
    settings.write_text(
        "# Made anew by each `make services`; change a copy.\n"
        f"site: {ROOT / 'examples' / 'park' / 'site.yaml'}\n"
        f"mqtt: {{url: '{mqtt}'}}\n"
        f"kafka: {{bootstrap: '{kafka}'}}\n"
        f"influxdb: {{url: '{influx.url}', org: {influx.org}, bucket: {influx.bucket},\n"
        f"  token_file: '{token}'}}\n"
    )
    return settings


def stop() -> None:
    """Ends what runs, orderly, the servers at the same time."""
    running = remembered()
    ours = {name: one for name, one in running.items() if is_running(one)}
    for name, one in ours.items():
        os.kill(one["pid"], STOP_SIGNALS.get(name, signal.SIGTERM))
    until = time.monotonic() + STOP_S
    while any(is_running(one) for one in ours.values()) and time.monotonic() < until:
        time.sleep(0.05)
    for one in ours.values():
        if is_running(one):
            os.kill(one["pid"], signal.SIGKILL)
    sys.stderr.write(f"stopped: {', '.join(ours) or 'nothing was running'}; data stay in {home()}\n")


def main() -> None:
    """One word: start or stop."""
    verbs: dict[str, Callable[[], None]] = {"start": start, "stop": stop}
    if len(sys.argv) != 2 or sys.argv[1] not in verbs:
        sys.exit("usage: python -m tests.real.services start|stop")
    os.environ["CI"] = "true"  # what is missing is an error here, never a skip
    try:
        verbs[sys.argv[1]]()
    except pytest.fail.Exception as problem:
        sys.exit(str(problem))


if __name__ == "__main__":
    main()
