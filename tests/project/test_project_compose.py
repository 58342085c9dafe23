"""docker-compose.yml and what belongs to it, as files; ``make compose-test`` runs it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

if TYPE_CHECKING:
    from tests.project.conftest import Project

SECRET = re.compile(r"(?i)password|token|secret")


@pytest.fixture(scope="module")
def composed(project: Project) -> dict[str, Any]:
    """The file, with its anchors merged."""
    loaded: dict[str, Any] = YAML(typ="safe").load(project.text("docker-compose.yml"))
    return loaded


def services(composed: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Service -> its settings."""
    found: dict[str, dict[str, Any]] = composed["services"]
    return found


def test_every_service_is_restrained(composed: dict[str, Any]) -> None:
    """A root that cannot be written, no capabilities, no way to more rights, a bound on memory."""
    for name, service in services(composed).items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name


def test_every_image_has_a_version(composed: dict[str, Any]) -> None:
    """Never the newest one of the day."""
    images = {name: service["image"] for name, service in services(composed).items()}
    assert [name for name, image in images.items() if not re.search(r":-[^:]+:[\w.-]+\}$", image)] == []
    assert [name for name, image in images.items() if "latest" in image] == []


def test_ports_are_open_to_this_machine_only(composed: dict[str, Any]) -> None:
    """Unless the administrator says otherwise."""
    ports = [port for service in services(composed).values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("${METERFLOW_ADDRESS:-127.0.0.1}:")] == []


def test_there_is_no_default_password(composed: dict[str, Any]) -> None:
    """Every variable that names a secret names its file, and every secret comes from one."""
    for service in services(composed).values():
        for key, value in service.get("environment", {}).items():
            assert not SECRET.search(key) or key.upper().endswith("_FILE"), f"{key}={value}"
    assert all(set(secret) == {"file"} for secret in composed["secrets"].values())


def test_the_files_that_compose_mounts_exist(project: Project, composed: dict[str, Any]) -> None:
    """A missing one would become a folder."""
    files = [config["file"] for config in composed["configs"].values()]
    paths = [re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", file) for file in files]
    assert [path for path in paths if not (project.root / path).is_file()] == []


def test_kafka_is_of_the_version_that_the_tests_run(project: Project, composed: dict[str, Any]) -> None:
    """As is InfluxDB."""
    kafka = re.search(r"<kafka\.version>(.+)</", project.text("services/kafka/pom.xml"))
    influxd = re.search(r"influxdb/v2 v(\S+)", project.text("services/influxd/go.mod"))
    assert kafka
    assert influxd
    assert services(composed)["kafka"]["image"].endswith(f"apache/kafka:{kafka[1]}}}")
    assert services(composed)["influxdb"]["image"].endswith(f"influxdb:{influxd[1]}}}")


def make_secrets(project: Project, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs scripts/compose-secrets."""
    command = [str(project.root / "scripts" / "compose-secrets"), *words]
    environment = {**os.environ, "METERFLOW_SECRETS": str(folder)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_secrets_are_made_once(project: Project, composed: dict[str, Any], tmp_path: Path) -> None:
    """All that the file names, in a folder nobody else may enter; a second run only adds."""
    folder = tmp_path / "secrets"
    assert make_secrets(project, folder, "--simulator").returncode == 0
    assert folder.stat().st_mode & 0o777 == 0o700
    first = {path.name: path.read_text() for path in folder.iterdir()}
    assert first.keys() == composed["secrets"].keys()
    assert make_secrets(project, folder, "plant-9").returncode == 0
    second = {path.name: path.read_text() for path in folder.iterdir()}
    assert second.pop("mqtt-users").startswith(first.pop("mqtt-users"))
    assert second == first
    assert "\nplant-9:" in (folder / "mqtt-users").read_text()


def test_every_secret_is_another(project: Project, tmp_path: Path) -> None:
    """Two machines share none."""
    texts = []
    for name in ("one", "two"):
        assert make_secrets(project, tmp_path / name, "plant-1").returncode == 0
        texts += [path.read_text() for path in (tmp_path / name).iterdir() if path.name != "mqtt-collector"]
    assert len(set(texts)) == len(texts)
    assert all(len(text.strip()) >= 32 for text in texts)


@pytest.mark.parametrize("word", ["--nonsense", "collector", "a:b", ""])
def test_a_wrong_word_makes_no_secret(project: Project, tmp_path: Path, word: str) -> None:
    """It says why, and makes nothing."""
    done = make_secrets(project, tmp_path / "secrets", word)
    assert done.returncode == 2
    assert done.stderr
    assert not (tmp_path / "secrets").exists()
