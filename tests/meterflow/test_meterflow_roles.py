"""The roles as processes of their own, over a broker, Kafka and InfluxDB."""

from __future__ import annotations

import json
import random
import re
import signal
import threading
from pathlib import Path

import pytest

from simulators.recording import Message, write_recording
from tests.meterflow.helper import done, eventually, free_port, of_set, publish, rows_of
from tests.meterflow.recordings import BEGIN_MS, MINUTE_MS
from tests.meterflow.roles import PLANTS, TABLES, Services, Tables, export


def recorded(path: Path, minutes: int, seed: int = 1) -> int:
    """A recording of all plants with late, doubled and falling readings; how many different ones."""
    chance = random.Random(seed)
    messages, different = [], 0
    registers = {plant: [9_990_000, 0] for plant in PLANTS}
    for minute in range(minutes):
        at = BEGIN_MS + minute * MINUTE_MS
        for plant, register in registers.items():
            register[0] = (register[0] + chance.randrange(80, 130)) % 10_000_000
            register[1] += chance.randrange(150, 200)
            values = {"main": f"{register[0] / 10:.1f}", "count": f"{register[1] / 1000:.3f}"}
            late_ms = chance.choice((0,) * 30 + (5 * MINUTE_MS, 30 * MINUTE_MS))
            copies = chance.choice((1,) * 20 + (2,))
            messages += [(at + 500 + late_ms, plant, {"time": at, "values": values})] * copies
            different += len(values)
    day = {"time": BEGIN_MS, "start": BEGIN_MS - 1440 * MINUTE_MS, "values": {"books": 100_000}}
    messages += [(BEGIN_MS + 700, plant, day) for plant in PLANTS]
    with write_recording(path) as recording:
        for received_ms, plant, content in sorted(messages, key=lambda message: message[0]):
            payload = json.dumps(content, separators=(",", ":")).encode()
            recording.write(Message(received_ms, f"meterflow/v1/{plant}", 1, payload))
    return different + len(PLANTS)


def computed(recording: Path, site: Path) -> Tables:
    """What compute makes of the same recording."""
    out = recording.with_suffix("")
    done("compute", recording, "--site", site, "--out", out, "--format", "csv")
    return {name: of_set(name, rows_of((out / f"{name}.csv").read_text())) for name in TABLES}


def test_all_roles_together_give_the_tables_of_compute(services: Services, tmp_path: Path) -> None:
    """Broker, ingest, Kafka, two copies of process, sink, InfluxDB, export: row by row."""
    recording = tmp_path / "works.ndjson"
    readings = recorded(recording, 240)
    *_, web = services.start("ingest", "process", "process", "sink", "web")
    told = web.events("stored")
    done("replay", recording, "--mqtt", services.broker.url, "--speed", "max")
    services.stored(readings)
    wanted = computed(recording, services.site)
    assert {row[0] for row in wanted["rollup"]} >= {"group:park", *(f"plant:{plant}" for plant in PLANTS)}
    services.have(wanted)
    for name in ("rollup", "intensity"):
        assert of_set(name, export(services.settings, name)) == wanted[name]
    tables: set[str] = set()
    while not tables >= {"interval", "rollup"}:
        tables |= told.get(timeout=20)["tables"].keys()
    shown = web.get("/api/export/interval?format=csv")[1].decode()
    assert of_set("interval", rows_of(shown)) == wanted["interval"]
    eventually(lambda: web.metric("meterflow_worker_lag_records") == 0, 10, "no lag")
    eventually(lambda: web.metric("meterflow_sink_lag_records") == 0, 10, "no lag")
    for copy in services.copies:
        copy.stop()


def test_a_copy_that_goes_hands_over_and_one_that_comes_takes(services: Services, tmp_path: Path) -> None:
    """Stopped, killed, started again in the middle of it: nothing is lost, nothing counted twice."""
    recording = tmp_path / "works.ndjson"
    readings = recorded(recording, 300)
    services.start("ingest", "process", "process", "sink", "sink")
    _, first, second, sink, other_sink = services.copies
    player = threading.Thread(
        target=done, args=("replay", recording, "--mqtt", services.broker.url, "--speed", "3600")
    )
    player.start()
    services.stored(1)
    first.stop()
    sink.kill()
    eventually(lambda: second.partitions("worker") == {0, 1, 2}, 20, "taken over")
    first.start()
    eventually(lambda: first.partitions("worker") | second.partitions("worker") == {0, 1, 2}, 20)
    second.kill()
    player.join()
    services.stored(readings)
    wanted = computed(recording, services.site)
    services.have(wanted)
    first.stop()
    other_sink.stop()


def test_a_changed_site_file_needs_new_names(services: Services, tmp_path: Path) -> None:
    """Results of two site files do not mix; under new names all is worked out anew."""
    recording = tmp_path / "works.ndjson"
    readings = recorded(recording, 60)
    ingest, process, sink = services.start("ingest", "process", "sink")
    done("replay", recording, "--mqtt", services.broker.url, "--speed", "max")
    services.stored(readings)
    before = computed(recording, services.site)
    services.have(before)
    process.stop()
    text = services.site.read_text().replace("multiplier: 10", "multiplier: 20")
    services.site.write_text(text.replace("9000 kW", "18000 kW"))

    process.launch()
    assert process.ended() == 2
    for words in ("another site file", "kafka.results", "influxdb.bucket"):
        assert words in process.said
    assert services.tables() == before

    sink.stop()
    sink.launch(METERFLOW_KAFKA_RESULTS="results-2")
    assert sink.ended() == 2
    assert "the bucket holds other results" in sink.said

    old = services.settings.read_text()
    bucket = services.influx.bucket()
    new = re.sub(r"bucket: [\w-]+", f"bucket: {bucket}", old).replace(
        "prefix:", "results: results-2, prefix:"
    )
    services.settings.write_text(new)
    services.start("process", "sink")
    services.stored(readings)
    wanted = computed(recording, services.site)
    services.have(wanted)
    services.settings.write_text(old)
    assert services.tables() == before
    ingest.stop()


def test_a_role_waits_for_its_services_and_says_so(services: Services) -> None:
    """Alive, not ready, with what it waits for; stopped at once when it is asked to."""
    nowhere = f"127.0.0.1:{free_port()}"
    waits = {
        "process": ({"METERFLOW_KAFKA_BOOTSTRAP": nowhere}, "waiting for Kafka"),
        "ingest": ({"METERFLOW_KAFKA_BOOTSTRAP": nowhere}, "waiting for Kafka"),
        "sink": ({"METERFLOW_INFLUXDB_URL": f"http://{nowhere}"}, "waiting for InfluxDB"),
        "web": ({"METERFLOW_KAFKA_BOOTSTRAP": nowhere}, "waiting for Kafka"),
    }
    copies = {role: services.copy(role) for role in waits}
    for role, (environ, _) in waits.items():
        copies[role].launch(**environ)
    for role, (_, words) in waits.items():
        copies[role].says(words)
        assert copies[role].status("/livez") == 200
        assert copies[role].status("/readyz") == 503
        assert copies[role].metric("meterflow_ready") == 0
    for copy in copies.values():
        copy.stop()


def test_what_a_person_has_to_put_right_is_said(services: Services, tmp_path: Path) -> None:
    """A wrong token of InfluxDB, a broker that is away: readiness has it, and work goes on afterwards."""
    right = (tmp_path / "token").read_text()
    (tmp_path / "token").write_text("4-wrong-one")
    sink = services.copy("sink")
    sink.launch()
    sink.says("InfluxDB refuses")
    assert "4-wrong-one" not in sink.said
    sink.stop()
    (tmp_path / "token").write_text(right)
    sink.start()
    services.broker.stop()
    ingest = services.copy("ingest")
    ingest.launch()
    ingest.says("the broker")
    services.broker.start()
    eventually(ingest.ready, 40, "ready")
    ingest.stop()


def test_ingest_without_a_source_says_what_it_wants(services: Services) -> None:
    """Wrong settings."""
    lines = services.settings.read_text().splitlines(keepends=True)
    services.settings.write_text("".join(line for line in lines if not line.startswith("mqtt:")))
    ingest = services.copy("ingest")
    ingest.launch()
    assert ingest.ended() == 2
    assert "there is nothing to take readings from" in ingest.said


def test_meters_connect_to_ingest_without_a_broker(services: Services, tmp_path: Path) -> None:
    """The endpoint in front of Kafka; what is not of the site is told by the page as rejected."""
    port = free_port()
    text = services.settings.read_text()
    services.settings.write_text(
        re.sub(r"^mqtt: .*$", f"endpoint: {{port: {port}}}", text, flags=re.MULTILINE)
    )
    recording = tmp_path / "works.ndjson"
    readings = recorded(recording, 30)
    ingest, *_ = services.start("ingest", "process", "sink")
    done("replay", recording, "--mqtt", f"mqtt://127.0.0.1:{port}", "--speed", "max")
    publish(port, "meterflow/v1/steel-a/nobody", json.dumps({"time": BEGIN_MS, "value": 1}))
    services.stored(readings)
    eventually(lambda: len(export(services.settings, "rejected")) == 1, 20, "rejected")
    hop = 'meterflow_readings_{}_total{{hop="ingest"}}'
    assert ingest.metric(hop.format("received")) == ingest.metric(hop.format("accepted")) + 1
    assert ingest.metric('meterflow_rejected_total{reason="unknown_point"}') == 1
    for copy in services.copies:
        copy.stop()


@pytest.mark.parametrize(("role", "part"), [("process", "worker"), ("sink", "sink")])
def test_a_copy_that_was_frozen_spoils_nothing(
    services: Services, tmp_path: Path, role: str, part: str
) -> None:
    """Another one has gone on in its place; woken up, it finds that out and hands over quietly."""
    recording = tmp_path / "works.ndjson"
    readings = recorded(recording, 300)
    copies = services.start("ingest", "process", "sink")
    frozen = next(copy for copy in copies if copy.role == role)
    player = threading.Thread(
        target=done, args=("replay", recording, "--mqtt", services.broker.url, "--speed", "900")
    )
    player.start()
    services.stored(1)
    frozen.signal(signal.SIGSTOP)
    (other,) = services.start(role)
    eventually(lambda: other.partitions(part) == {0, 1, 2}, 60, "taken over")
    player.join()
    services.stored(readings, 90)
    frozen.signal(signal.SIGCONT)
    services.have(computed(recording, services.site), 60)
    eventually(lambda: frozen.partitions(part) | other.partitions(part) == {0, 1, 2}, 30)
    publish(services.broker.port, "meterflow/v1/dye-c/main", json.dumps({"time": BEGIN_MS + 5, "value": "9"}))
    services.stored(readings + 1, 60)
    for copy in services.copies:
        copy.stop()
