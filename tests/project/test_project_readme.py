"""The README's commands run, as they stand there, and do what it says."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.project.conftest import Project

START_S = 30
SEEN_S = 10
STEEL_YEAR = "../shared/data/uci_steel_2018.csv"
POINTS = ("main", "lagging", "leading")
METERFLOW = f"{sys.executable} -m meterflow"


def blocks(project: Project, heading: str) -> list[str]:
    """The shell blocks of one section of the README."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## )", project.text("README.md"), re.MULTILINE | re.DOTALL)
    assert section
    return re.findall(r"^```sh\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)


def here(script: str, data: Path) -> str:
    """A script of the README with this interpreter, and its data in a folder of the test."""
    return script.replace(".venv/bin/meterflow", METERFLOW).replace("data/", f"{data}/")


def shell(project: Project, script: str) -> str:
    """What a script says on standard output; it must succeed as a whole."""
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=project.root, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ready(port: int) -> bool:
    """Whether the service on this port says it is."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture
def service(project: Project, tmp_path: Path) -> Iterator[int]:
    """The README's first service on free ports; gives the port for meters, and checks the clean stop."""
    mqtt, http = free_port(), free_port()
    command = here(blocks(project, "Publish a first reading")[0].strip(), tmp_path).split()
    ports = ["--mqtt-port", str(mqtt), "--http-port", str(http)]
    with subprocess.Popen(
        [*command, *ports], cwd=project.root, env=os.environ | {"NO_COLOR": "1"}
    ) as process:
        try:
            until = time.monotonic() + START_S
            while not ready(http):
                assert process.poll() is None, "the service ended"
                assert time.monotonic() < until, "the service is not ready"
                time.sleep(0.1)
            yield mqtt
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            process.kill()


@pytest.mark.skipif(not shutil.which("mosquitto_pub"), reason="mosquitto_pub is missing: mosquitto-clients")
def test_a_first_reading_is_published_and_seen(project: Project, service: int, tmp_path: Path) -> None:
    """Two readings sent with mosquitto_pub are 2.5 kWh in `interval`; nothing is rejected."""
    script = here(blocks(project, "Publish a first reading")[1], tmp_path)
    publishing, interval, rejected = re.split(rf"^(?={re.escape(METERFLOW)})", script, flags=re.MULTILINE)
    own_port = f'mosquitto_pub() {{ command mosquitto_pub -p {service} "$@"; }}\n'
    shell(project, own_port + publishing)
    until = time.monotonic() + SEEN_S
    while (seen := used(shell(project, interval))) != Decimal("2.5") and time.monotonic() < until:
        time.sleep(0.2)
    assert seen == Decimal("2.5")
    assert len(shell(project, rejected).splitlines()) == 1


def used(table: str) -> Decimal:
    """The sum of amounts of an `interval` table in CSV."""
    return sum((Decimal(row["amount"] or 0) for row in csv.DictReader(io.StringIO(table))), Decimal(0))


def test_the_steel_year_gives_the_figures_of_the_readme(project: Project, tmp_path: Path) -> None:
    """Checked, converted and computed as the README has it, the year adds up as it says."""
    year = project.root / STEEL_YEAR
    if not year.exists():
        pytest.skip(f"the data set is not here: {STEEL_YEAR}")
    script = here(blocks(project, "Real input")[0], tmp_path).replace("steel.ndjson", f"{tmp_path}/R.ndjson")
    shell(project, script.replace("Steel_industry_data.csv", str(year)))
    with (tmp_path / "steel" / "interval.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    sums = {point: sum(Decimal(row["amount"]) for row in rows if row["point"] == point) for point in POINTS}
    promised = re.findall(r"\d{3},\d{3}\.\d\d", project.text("README.md"))
    assert [f"{sums[point]:,.2f}" for point in POINTS] == promised
