"""Lines of several tables in one request, and each table told what of it was refused."""

from __future__ import annotations

import json
from contextlib import closing

import pytest

from metering.tables import POSITION
from sinks import influx_writer
from sinks.influx_client import InfluxClient, InfluxSettings
from sinks.influx_lines import Lines
from sinks.influx_outbox import Outbox
from sinks.influx_store import InfluxStore
from sinks.influx_writer import InfluxWriter, Refused
from tests.sinks.influx_histories import FIRST_MS, table_of
from tests.sinks.influx_moody import Moody, Says


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(influx_writer, "BACK_OFF_S", (0.01, 0.02))


def some(name: str, count: int) -> list[bytes]:
    return [f"{name} v={i}i {i}\n".encode() for i in range(count)]


def dropped(lines: list[bytes], bad: bytes) -> Says | None:
    """As InfluxDB drops lines of one measurement."""
    count = sum(line.startswith(bad) for line in lines)
    said = {"code": "unprocessable entity", "message": f"partial write: beyond retention dropped={count}"}
    return Says(422, json.dumps(said).encode(), {"Content-Type": "application/json"}) if count else None


def test_a_batch_of_several_tables_is_one_request() -> None:
    """InfluxDB makes its log durable once, not once for each table."""
    at = {POSITION: 1}
    frames = [
        table_of(
            "interval", [{"plant": "p", "point": "q", "start": 0, "end": FIRST_MS, "state": "open"} | at]
        ),
        table_of("rollup", [{"scope": "plant:p", "span": "hour", "end": FIRST_MS, "state": "open"} | at]),
        table_of("ledger", [{"plant": "p", "point": "q", "from": 0, "to": FIRST_MS} | at]),
    ]
    with Moody() as server:
        with closing(InfluxStore(InfluxSettings(server.url, "o", "b", "t"))) as store:
            store.store(frames)
            first = len(server.asked_s)
            store.store(frames)
        assert len(server.asked_s) - first == 1
        assert len(server.stored) == 6


def test_each_piece_is_told_of_its_own_lines() -> None:
    """By their place in it, however many pieces came before."""
    told: dict[str, list[int]] = {}

    def tell(name: str, refused: list[Refused]) -> None:
        told[name] = [each.index for each in refused]

    def judge(lines: list[bytes]) -> Says | None:
        bad = [line for line in lines if line in (some("b", 9)[4], some("c", 9)[0])]
        said = json.dumps({"code": "invalid", "message": "unable to parse"}).encode()
        return Says(400, said, {"Content-Type": "application/json"}) if bad else None

    with Moody(judge=judge) as server:
        client = InfluxClient(InfluxSettings(server.url, "o", "b", "t"))
        outbox = Outbox(InfluxWriter(client), 100)
        for name in "abc":
            outbox.put(Lines.of(some(name, 9)), lambda refused, name=name: tell(name, list(refused)))  # type: ignore[misc]
        outbox.drain()
        outbox.close()
        client.close()
    assert told == {"b": [4], "c": [0]}
    assert len(server.stored) == 25


def test_a_trace_that_is_refused_takes_no_row_with_it() -> None:
    """A bucket whose retention has become short drops it; the rows beside it are good."""
    with Moody(judge=lambda lines: dropped(lines, b"meterflow_results")) as server:
        client = InfluxClient(InfluxSettings(server.url, "o", "b", "t"))
        writer = InfluxWriter(client)
        writer.trace = b"meterflow_results,partition=0 began=1i 1\n"
        assert writer.write(Lines.of(some("a", 1))) == []
        client.close()
    assert server.stored == some("a", 1)
