"""The provisioning files are those of the code, and are of the form that Grafana reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from metering.tables import TABLES
from tests.meterflow.conftest import WORKS
from web.grafana.__main__ import PLACE, main
from web.grafana.files import FOLDER, files
from web.grafana.queries import QUERIES

DASHBOARDS = ("dashboards/plants.json", "dashboards/point.json")
ENVIRONMENT = {"GRAFANA_INFLUXDB_" + name for name in ("URL", "ORG", "BUCKET", "TOKEN")}
PANELS = {"timeseries", "table"}
COLUMNS = 24


def read(name: str) -> Any:
    text = files()[name]
    return json.loads(text) if name.endswith(".json") else YAML(typ="safe").load(text)


def walk(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a file."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(inner)


def test_the_files_are_up_to_date() -> None:
    """Run `python -m web.grafana` when this fails."""
    stored = {
        path.relative_to(PLACE).as_posix(): path.read_text(encoding="utf-8")
        for path in PLACE.rglob("*")
        if path.is_file()
    }
    assert stored == files()


def test_every_data_source_that_is_used_is_provisioned() -> None:
    """By its uid and type; expressions of alert rules are Grafana's own."""
    sources = read("datasources/meterflow.yaml")["datasources"]
    there = {(source["type"], source["uid"]) for source in sources} | {("__expr__", "__expr__")}
    used = [
        (its["datasource"]["type"], its["datasource"]["uid"])
        for name in (*DASHBOARDS, "alerting/meterflow.yaml")
        for its in walk(read(name))
        if "datasource" in its
    ]
    assert used
    assert set(used) == there


def test_the_data_source_is_flux_and_takes_its_secrets_from_the_environment() -> None:
    """Nothing of a site stands in the files."""
    (source,) = read("datasources/meterflow.yaml")["datasources"]
    assert (source["type"], source["access"], source["jsonData"]["version"]) == ("influxdb", "proxy", "Flux")
    assert re.fullmatch(r"\$\{\w+\}", source["secureJsonData"]["token"])
    assert set(re.findall(r"\$\{(\w+)\}", files()["datasources/meterflow.yaml"])) == ENVIRONMENT


def test_only_the_data_source_has_a_dollar_that_grafana_would_replace() -> None:
    """In provisioning files a dollar begins an environment variable; dashboards are no such files."""
    for name in ("alerting/meterflow.yaml", "dashboards/meterflow.yaml"):
        assert "$" not in files()[name]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_has_what_grafana_needs(name: str) -> None:
    """uid, title, a schema version of Grafana 11 or 12, panels with numbers of their own and room."""
    dashboard = read(name)
    assert re.fullmatch(r"[a-z-]{1,40}", dashboard["uid"])
    assert dashboard["title"]
    assert dashboard["schemaVersion"] in {39, 40, 41}
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)
    for panel in dashboard["panels"]:
        assert panel["type"] in PANELS
        assert panel["title"]
        assert panel["description"]
        assert panel["targets"]
        assert {"defaults", "overrides"} <= panel["fieldConfig"].keys()


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_do_not_overlap(name: str) -> None:
    """Grafana would move them."""
    taken: set[tuple[int, int]] = set()
    for panel in read(name)["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= COLUMNS
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken
        taken |= cells


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_query_is_one_of_the_named_ones(name: str) -> None:
    """Which are tested against InfluxDB; so are those of variables."""
    dashboard = read(name)
    asked = [its["query"] for panel in dashboard["panels"] for its in panel["targets"]]
    asked += [its["query"]["query"] for its in dashboard["templating"]["list"]]
    assert asked
    assert set(asked) <= set(QUERIES.values())


def test_every_named_query_is_used() -> None:
    """No query is there for nobody."""
    used = [its.get("query") for name in (*DASHBOARDS, "alerting/meterflow.yaml") for its in walk(read(name))]
    assert set(QUERIES.values()) <= {query for query in used if isinstance(query, str)}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_variable_that_is_used_is_there(name: str) -> None:
    """In queries and titles. ``__`` are Grafana's own."""
    dashboard = read(name)
    there = {variable["name"] for variable in dashboard["templating"]["list"]}
    text = json.dumps([dashboard["panels"], dashboard["templating"]])
    used = {a or b for a, b in re.findall(r"\$(?:\{(\w+)[:.}]|([a-z]\w*))", text)}
    assert there == {name for name in used if not name.startswith("__")}


def test_links_lead_to_dashboards_that_there_are_with_variables_that_they_have() -> None:
    """From a plant to its points, and back."""
    dashboards = {its["uid"]: its for its in map(read, DASHBOARDS)}
    urls = [
        its["url"]
        for its in map(json.loads, (files()[n] for n in DASHBOARDS))
        for its in walk(its)
        if "url" in its
    ]
    assert len(urls) >= 5
    for url in urls:
        uid, *names = re.findall(r"/d/([\w-]+)|[?&]var-(\w+)", url)
        target = dashboards[uid[0]]
        assert {name for _, name in names} <= {v["name"] for v in target["templating"]["list"]}


def test_links_name_columns_of_their_table() -> None:
    """A cell's link takes plant and point from its row."""
    for panel in (its for name in DASHBOARDS for its in read(name)["panels"]):
        used = set(re.findall(r"__data\.fields\.(\w+)", json.dumps(panel)))
        for column in used:
            assert f'"{column}"' in panel["targets"][0]["query"]


def test_the_rules_have_what_grafana_needs() -> None:
    """Three steps, the last one decides; they lead to a panel that there is."""
    (group,) = read("alerting/meterflow.yaml")["groups"]
    assert {"orgId", "name", "folder", "interval", "rules"} == group.keys()
    plants = read("dashboards/plants.json")
    for rule in group["rules"]:
        assert [step["refId"] for step in rule["data"]] == ["A", "B", "C"]
        assert all(step["model"]["refId"] == step["refId"] for step in rule["data"])
        assert rule["condition"] == "C"
        assert rule["dashboardUid"] == plants["uid"]
        assert rule["panelId"] in {panel["id"] for panel in plants["panels"]}
    uids = [rule["uid"] for rule in group["rules"]]
    assert len(set(uids)) == len(uids)


def test_the_dashboards_are_where_the_provider_looks() -> None:
    """Beside the provider's own file, so that one folder is all that has to be mounted."""
    (provider,) = read("dashboards/meterflow.yaml")["providers"]
    assert provider["options"]["path"] == f"{FOLDER}/dashboards"


def test_nobody_is_told_until_somebody_says_who() -> None:
    """Grafana reads only files of these endings: the contact point is an example until it is copied."""
    read_by_grafana = [name for name in files() if name.endswith((".yaml", ".yml", ".json"))]
    assert not any("contact" in name for name in read_by_grafana)
    example = YAML(typ="safe").load(files()["alerting/contact-points.yaml.example"])
    assert example["policies"][0]["receiver"] == example["contactPoints"][0]["name"]


def test_queries_name_only_columns_that_results_have() -> None:
    """Whatever is kept of a row is a column of a table, or Flux's own."""
    columns = {name for table in TABLES.values() for name in table.names}
    kept = {
        name
        for query in QUERIES.values()
        for listed in re.findall(r"(?:keep|group)\(columns: \[([^\]]*)\]", query)
        for name in re.findall(r'"(\w+)"', listed)
    }
    assert kept - columns <= {"_time", "_value", "_field", "length", "seen", "may_s"}


def test_a_site_file_gives_the_rule_its_points(tmp_path: Path) -> None:
    """`--site`: each point with a rhythm, three times of it; `--out`: anywhere."""
    site = tmp_path / "site.yaml"
    site.write_text(WORKS)
    assert main(["--out", str(tmp_path / "out"), "--site", str(site)]) == 0
    text = (tmp_path / "out" / "alerting" / "meterflow.yaml").read_text()
    assert set(re.findall(r'point: "(\w+)", may_s: ([\d.]+)', text)) == {
        ("main", "180.0"),
        ("intake", "180.0"),
        ("count", "180.0"),
    }
    assert "$" not in text


def test_a_wrong_site_file_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and the fault, no traceback."""
    site = tmp_path / "site.yaml"
    site.write_text("meterflow: 1\nplants: 7\n")
    assert main(["--out", str(tmp_path), "--site", str(site)]) == 2
    assert "site.yaml" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 and the place."""
    (tmp_path / "file").write_text("")
    assert main(["--out", str(tmp_path / "file")]) == 1
    assert "cannot write" in capsys.readouterr().err
