"""deploy/kubernetes against what the project really has: checks of files, as no cluster runs it here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from bus.kafka_settings import INPUTS, KafkaSettings
from meterflow.cli import main
from meterflow.roles import NEEDS
from meterflow.settings import load_settings
from meterflow.settings_environment import SETTINGS, variables
from meterflow.settings_models import EndpointSection, HttpSection, KafkaSection
from web.health_routes import create_health_app
from web.status import Status

if TYPE_CHECKING:
    from tests.project.conftest import Project

FOLDER = "deploy/kubernetes"
ROLES = tuple(NEEDS)
Object = dict[str, Any]


@pytest.fixture(scope="module")
def objects(project: Project) -> list[Object]:
    """All objects of all files."""
    files = sorted((project.root / FOLDER).glob("*.yaml"))
    assert {file.stem for file in files} == {*ROLES, "settings"}
    return [one for file in files for one in YAML(typ="safe").load_all(file.read_text(encoding="utf-8"))]


def of_kind(objects: list[Object], *kinds: str) -> dict[str, Object]:
    """Name -> object."""
    return {one["metadata"]["name"]: one for one in objects if one["kind"] in kinds}


def pods(objects: list[Object]) -> dict[str, Object]:
    """Role -> what its pods are made of."""
    work = of_kind(objects, "Deployment", "StatefulSet")
    return {name.removeprefix("meterflow-"): one["spec"]["template"] for name, one in work.items()}


def container(pod: Object) -> Object:
    """Its only one."""
    (one,) = pod["spec"]["containers"]
    found: Object = one
    return found


def environment(pod: Object) -> dict[str, str]:
    """Variable -> value; of what only a cluster knows, a name."""
    return {one["name"]: one.get("value", "meterflow-0") for one in container(pod)["env"]}


def test_every_role_is_run_by_its_verb(project: Project, objects: list[Object]) -> None:
    """The image is the one of docker-compose.yml, its entry point meterflow."""
    image = re.search(r"METERFLOW_IMAGE:-([^}]+)}", project.text("docker-compose.yml"))
    assert image
    assert 'ENTRYPOINT ["meterflow"]' in project.text("Dockerfile")
    assert set(pods(objects)) == set(ROLES)
    for role, pod in pods(objects).items():
        assert container(pod)["args"] == [role]
        assert role in main.commands
        assert container(pod)["image"] == image[1]


def test_every_variable_is_known(objects: list[Object]) -> None:
    """To the settings of the roles; each copy has its own name."""
    for pod in pods(objects).values():
        assert set(environment(pod)) - {SETTINGS} <= set(variables())
        (name,) = (one for one in container(pod)["env"] if one["name"] == "METERFLOW_NAME")
        assert name["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"


@pytest.mark.parametrize("role", ROLES)
def test_each_role_takes_its_settings(
    project: Project, objects: list[Object], tmp_path: Path, role: str
) -> None:
    """As its pod sees them: the ConfigMap, the variables, and the secrets that it is given."""
    pod = pods(objects)[role]
    text = of_kind(objects, "ConfigMap")["meterflow-settings"]["data"]["settings.yaml"]
    secrets = tmp_path / "run" / "secrets"
    secrets.mkdir(parents=True)
    for item in next(v["secret"] for v in pod["spec"]["volumes"] if "secret" in v)["items"]:
        (secrets / item["path"]).write_text("a-long-one-5c1f0e77b2\n")
        (secrets / item["path"]).chmod(0o440)
    (tmp_path / "settings.yaml").write_text(
        text.replace("/run/secrets", str(secrets)).replace("/etc/meterflow", str(tmp_path))
    )
    given = {name: value.replace("/run/secrets", str(secrets)) for name, value in environment(pod).items()}
    (tmp_path / "site.yaml").write_text(project.text("examples/park/site.yaml"))
    settings = load_settings(tmp_path / "settings.yaml", NEEDS[role], given)
    assert settings.warnings == ()
    assert (settings.values.endpoint is not None) == (role == "ingest")


def test_ports_and_probes_are_those_of_the_roles(objects: list[Object]) -> None:
    """Liveness asks only whether the process answers: it is not killed for what it waits for."""
    app = create_health_app(Status, token="token")
    paths = {getattr(route, "path", "") for route in app.routes}
    http = HttpSection()
    ports = {role: http.port if role == "web" else getattr(http, f"{role}_port") for role in ROLES}
    for role, pod in pods(objects).items():
        one = container(pod)
        opened = {port["name"]: port["containerPort"] for port in one["ports"]}
        assert opened.pop("health") == ports[role]
        assert opened == ({"mqtt": EndpointSection().port} if role == "ingest" else {})
        for probe in ("startupProbe", "livenessProbe"):
            assert one[probe]["httpGet"] == {"path": "/livez", "port": "health"}
        assert one["readinessProbe"]["exec"]["command"] == ["python3", "/etc/meterflow/ready.py"]
    assert {"/livez", "/readyz"} <= paths


def test_the_readiness_check_is_that_of_the_containers(project: Project, objects: list[Object]) -> None:
    """The same program, over all ports."""
    data = of_kind(objects, "ConfigMap")["meterflow-settings"]["data"]
    assert data["ready.py"] == project.text("services/meterflow/ready.py")


def test_what_is_mounted_is_there(project: Project, objects: list[Object]) -> None:
    """ConfigMaps and secrets are defined, or made by a command that docs/operations.md has."""
    documented = project.documents["docs/operations.md"]
    maps = set(of_kind(objects, "ConfigMap"))
    assert "create configmap meterflow-site --from-file=site.yaml" in documented
    for pod in pods(objects).values():
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        assert {mount["name"] for mount in container(pod)["volumeMounts"]} == set(volumes)
        sources = volumes["settings"]["projected"]["sources"]
        assert {source["configMap"]["name"] for source in sources} <= maps | {"meterflow-site"}
        assert volumes["secrets"]["secret"]["secretName"] == "meterflow"
        for item in volumes["secrets"]["secret"]["items"]:
            assert f"--from-file={item['key']}" in documented
    for trigger in of_kind(objects, "TriggerAuthentication").values():
        for one in trigger["spec"]["secretTargetRef"]:
            assert one["name"] == "meterflow"
            assert f"--from-file={one['key']}" in documented


def test_every_pod_is_restrained(project: Project, objects: list[Object]) -> None:
    """No rights, no root that can be written, bounds; the user is the image's."""
    for role, pod in pods(objects).items():
        spec, one = pod["spec"], container(pod)
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert f"--uid {spec['securityContext']['runAsUser']} " in project.text("Dockerfile")
        assert one["securityContext"]["readOnlyRootFilesystem"] is True
        assert one["securityContext"]["allowPrivilegeEscalation"] is False
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert set(one["resources"]["requests"]) == {"cpu", "memory"}, role
        assert one["resources"]["limits"]["memory"]
        written = {m["mountPath"] for m in one["volumeMounts"] if not m.get("readOnly")}
        assert written == {"/tmp"} | ({"/scratch"} if role == "process" else set())
    assert environment(pods(objects)["process"])["METERFLOW_PROCESS_SCRATCH"] == "/scratch"


def test_whatever_selects_pods_finds_them(objects: list[Object]) -> None:
    """Budgets, services, what spreads and what scales."""
    labels = {role: pod["metadata"]["labels"] for role, pod in pods(objects).items()}
    for role in ROLES:
        name = f"meterflow-{role}"
        wanted = {"app.kubernetes.io/name": name}
        assert wanted.items() <= labels[role].items()
        work = of_kind(objects, "Deployment", "StatefulSet")[name]["spec"]
        budget = of_kind(objects, "PodDisruptionBudget")[name]["spec"]
        (spread,) = pods(objects)[role]["spec"]["topologySpreadConstraints"]
        for found in (work, budget, spread | {"selector": spread["labelSelector"]}):
            assert found["selector"] == {"matchLabels": wanted}
    for name, service in of_kind(objects, "Service").items():
        assert service["spec"]["selector"] == {"app.kubernetes.io/name": name}
        opened = {port["name"] for port in container(pods(objects)[name[len("meterflow-") :]])["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= opened


def test_copies_follow_the_lag_of_their_group(objects: list[Object]) -> None:
    """Kafka's names are those that the settings give; partitions bound the copies."""
    text = of_kind(objects, "ConfigMap")["meterflow-settings"]["data"]["settings.yaml"]
    section = KafkaSection.model_validate(YAML(typ="safe").load(text)["kafka"])
    kafka = KafkaSettings(section.bootstrap, section.prefix, section.partitions)
    scaled = of_kind(objects, "ScaledObject")
    assert set(scaled) == {"meterflow-process", "meterflow-sink"}
    for name, one in scaled.items():
        role, spec = name.removeprefix("meterflow-"), one["spec"]
        assert spec["scaleTargetRef"]["name"] in of_kind(objects, "Deployment")
        assert "replicas" not in of_kind(objects, "Deployment")[name]["spec"]
        assert spec["maxReplicaCount"] == section.partitions
        (trigger,) = spec["triggers"]
        assert trigger["metadata"]["bootstrapServers"] == section.bootstrap
        assert trigger["metadata"]["consumerGroup"] == kafka.group(role)
        assert trigger["metadata"]["topic"] == kafka.topic(INPUTS[role])
        assert trigger["metadata"]["sasl"] == section.mechanism.replace("-", "_").lower().replace(
            "sha_", "sha"
        )
        assert trigger["authenticationRef"]["name"] in of_kind(objects, "TriggerAuthentication")
