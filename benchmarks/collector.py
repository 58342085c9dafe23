"""The collector behind Mosquitto: our own client beside paho-mqtt, CPU of the collector's process.

``measure`` gives the figures of one run; ``python -m benchmarks.collector`` prints both clients.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.ingest import _broker, _cpu_s, _line, _load, _python

MESSAGES = 200_000
RECEIVE_MAXIMUM = 1_000


def measure(
    client: str,
    log: str = "memory",
    messages: int = MESSAGES,
    *,
    receive_maximum: int = RECEIVE_MAXIMUM,
) -> dict[str, Any]:
    """Publishes ``messages`` through a Mosquitto until the collector has acknowledged all of them.

    ``client``: native or paho; ``log``: memory, sqlite:FOLDER or kafka:BOOTSTRAP[/PREFIX]. CPU
    seconds of the collector's process and of the broker, from the first message on.
    """
    with tempfile.TemporaryDirectory(prefix="meterflow-bench-") as folder, _broker(Path(folder)) as found:
        broker, port = found
        arguments = [f"mqtt://127.0.0.1:{port}", client, log, str(messages), str(receive_maximum)]
        with _python("benchmarks.collector_serve", *arguments) as collector:
            assert _line(collector.stdout).strip() == "ready"
            before_s = _cpu_s(broker.pid)
            _load(port, messages)
            figures: dict[str, Any] = json.loads(_line(collector.stdout))
            figures["broker_cpu_s"] = round(_cpu_s(broker.pid) - before_s, 2)
    assert figures["accepted"] >= messages
    return {
        "client": client,
        "log": log.partition(":")[0],
        "messages": messages,
        "messages_per_s": round(messages / figures["seconds"]),
        "cpu_us_per_message": round(figures["cpu_s"] / messages * 1e6, 2),
        **figures,
    }


def run(json_output: bool = False, *, messages: int = MESSAGES) -> dict[str, Any]:
    """Both clients on the memory log and on SQLite; prints a table, or JSON. About 20 seconds."""
    with tempfile.TemporaryDirectory(prefix="meterflow-bench-") as folder:
        logs = ("memory", f"sqlite:{folder}")
        found = {
            f"{client}, {log.partition(':')[0]}": measure(client, log, messages)
            for client in ("native", "paho")
            for log in logs
        }
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if json_output else _table(found))
    return found


def _table(found: dict[str, Any]) -> str:
    lines = [f"{'collector':20}{'messages/s':>12}{'CPU us a message':>18}{'memory MB':>12}"]
    for name, figures in found.items():
        cpu_us, memory_mb = figures["cpu_us_per_message"], figures["peak_memory_mb"]
        lines.append(f"{name:20}{figures['messages_per_s']:12,}{cpu_us:18.2f}{memory_mb:12}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run("--json" in sys.argv)
