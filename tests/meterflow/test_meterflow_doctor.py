"""``meterflow doctor``: what it looks at, and what it says to do."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.meterflow.helper import free_port, meterflow, mistake
from tests.meterflow.roles import Services


def examined(file: Path, **environ: str) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and findings."""
    ended = meterflow("doctor", "--settings", file, "--json", **environ)
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.returncode, json.loads(ended.stdout)


def found(findings: list[dict[str, Any]], of: str, what: str = "") -> dict[str, Any]:
    """The one finding on that."""
    (one,) = (f for f in findings if f["of"] == of and what in f["what"])
    return one


@pytest.fixture
def ports() -> str:
    """A section http with ports that are free now."""
    names = ("port", "ingest_port", "process_port", "sink_port")
    return "http: {" + ", ".join(f"{name}: {free_port()}" for name in names) + "}\n"


@pytest.fixture
def file(tmp_path: Path, site: Path, ports: str) -> Path:
    """Settings of an endpoint and a site, without services."""
    path = tmp_path / "settings.yaml"
    path.write_text(f"site: {site.name}\nendpoint: {{port: {free_port()}}}\n{ports}")
    return path


def test_what_is_well_is_said_and_ends_with_0(file: Path) -> None:
    """Settings, site, ports; that anybody may publish is a warning."""
    code, findings = examined(file)
    assert code == 0
    assert found(findings, "site")["verdict"] == "good"
    assert found(findings, "endpoint", "MQTT address")["verdict"] == "good"
    users = found(findings, "endpoint", "users")
    assert (users["verdict"], "passwd" in users["hint"]) == ("warning", True)
    assert {f["verdict"] for f in findings if f["of"] == "http"} == {"good"}


def test_every_fault_of_the_settings_is_a_finding(file: Path) -> None:
    """With its line; connections are not looked at before the settings are right."""
    file.write_text(file.read_text() + "kafka: {bootstrp: a}\n")
    code, findings = examined(file)
    assert code == 1
    bad = [f for f in findings if f["verdict"] == "bad"]
    assert [":4:" in f["detail"] for f in bad] == [True, True]
    assert "Did you mean 'bootstrap'?" in {f["hint"] for f in bad}
    assert not any(f["of"] == "http" for f in findings)


def test_a_fault_of_the_site_file_is_a_finding(file: Path, site: Path) -> None:
    """As meterflow check names it."""
    site.write_text(site.read_text().replace("unit: kWh", "unit: kWhh"))
    code, findings = examined(file)
    assert code == 1
    assert "kWhh" in found(findings, "site")["detail"]


def test_a_port_in_use_is_a_finding(file: Path) -> None:
    """And what to do about it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, findings = examined(file, METERFLOW_ENDPOINT_PORT=str(taken.getsockname()[1]))
    assert code == 1
    address = found(findings, "endpoint", "MQTT address")
    assert "in use" in address["detail"].lower()
    assert address["hint"]


def test_two_roles_on_one_port_are_warned_about(file: Path) -> None:
    """They cannot run on one machine then."""
    port = str(free_port())
    code, findings = examined(file, METERFLOW_HTTP_SINK_PORT=port, METERFLOW_HTTP_PROCESS_PORT=port)
    assert code == 0
    assert found(findings, "http", "sink's address")["verdict"] == "warning"


def test_people_get_lines_and_a_summary(file: Path) -> None:
    """One line a check, where there is no terminal."""
    ended = meterflow("doctor", "--settings", file)
    assert ended.returncode == 0, ended.stderr
    assert "ok site: site file: " in ended.stdout
    assert "WARNING endpoint: users: anybody who can connect may publish\n    " in ended.stdout
    assert "checks passed" in ended.stderr


def test_without_settings_doctor_says_what_it_wants() -> None:
    """Wrong usage."""
    mistake(meterflow("doctor"), 2, "--settings", "METERFLOW_SETTINGS")


def test_services_that_are_well_are_said_to_be(services: Services) -> None:
    """Kafka, its topics, InfluxDB, its bucket, clocks; what the roles will make is no failure."""
    code, findings = examined(services.settings)
    assert [f for f in findings if f["verdict"] == "bad"] == []
    assert code == 0
    assert found(findings, "kafka", "reachable")["verdict"] == "good"
    assert {f["verdict"] for f in findings if f["of"] == "mqtt"} == {"good"}
    assert found(findings, "mqtt", "subscription")["detail"]
    assert found(findings, "influxdb", "right to write")["verdict"] == "good"
    assert found(findings, "influxdb", "clocks")["verdict"] == "good"
    assert "none yet" in found(findings, "influxdb", "results")["detail"]


def test_services_that_are_away_are_said_to_be(services: Services) -> None:
    """Each once, with what to do; the others are looked at all the same."""
    nowhere = f"127.0.0.1:{free_port()}"
    code, findings = examined(
        services.settings,
        METERFLOW_KAFKA_BOOTSTRAP=nowhere,
        METERFLOW_INFLUXDB_URL=f"http://{nowhere}",
        METERFLOW_MQTT_URL=f"mqtt://{nowhere}",
    )
    assert code == 1
    bad = [f for f in findings if f["verdict"] == "bad"]
    assert sorted(f["of"] for f in bad) == ["influxdb", "kafka", "mqtt"]
    assert all(f["hint"] for f in bad)


def test_a_topic_of_json_readings_is_looked_at(services: Services) -> None:
    """When the settings name one: another name than the writer's is a finding."""
    code, findings = examined(services.settings, METERFLOW_JSON_TOPIC_TOPIC="nowhere")
    assert code == 1
    assert found(findings, "json_topic", "nowhere")["detail"] == "is not there"


def test_a_bucket_without_rights_or_of_others_is_a_finding(services: Services) -> None:
    """No such bucket; a token of another one; results of another log."""
    code, findings = examined(services.settings, METERFLOW_INFLUXDB_BUCKET="nowhere")
    assert code == 1
    assert found(findings, "influxdb", "right to write")["verdict"] == "bad"
    services.start("sink")
    code, findings = examined(services.settings, METERFLOW_KAFKA_RESULTS="others")
    assert code == 1
    assert "other results" in found(findings, "influxdb", "results")["detail"]
    assert examined(services.settings)[0] == 0


def test_the_ports_of_running_roles_are_theirs(services: Services) -> None:
    """Doctor can be asked while everything runs."""
    (web,) = services.start("web")
    code, findings = examined(services.settings, METERFLOW_HTTP_PORT=str(web.port))
    assert code == 0
    assert "in use by a running meterflow" in found(findings, "http", "web's address")["detail"]
