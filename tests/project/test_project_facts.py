"""What documents say of the code's names is what the code has: schema, reasons, keys, metrics, routes."""

from __future__ import annotations

import ast
import asyncio
import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel

from bus.log_sqlite import open_log
from ingest.mqtt_events import Limits
from ingest.reasons import Reason
from metering import policy_models, site_models
from processors.admission import CAUSES
from processors.columns import FLAGS, QUALITIES, STATES
from processors.doubt import Verdict
from processors.windows import REASONS
from web.api import Api
from web.decisions import Decisions
from web.live import LiveFeed
from web.metrics import Metrics
from web.site_changes import SiteChanges
from web.status import Hop, Progress, Status

if TYPE_CHECKING:
    from tests.project.conftest import Project

SECTIONS = {
    "SiteFile": "The file",
    "MultiplierStep": "Multiplier step",
    "TargetBase": "Target base",
    "Register": "Installation",
}
"""Models of the site file whose section in docs/site-file.md has another name than they."""


def test_the_log_file_is_described_as_it_is_made(project: Project, tmp_path: Path) -> None:
    """docs/formats.md has the very statements that the tables of log.sqlite are made with."""
    asyncio.run(make_log(tmp_path))
    with sqlite3.connect(tmp_path / "log.sqlite") as connection:
        made = {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
    text = project.documents["docs/formats.md"]
    assert made == set(re.findall(r"^CREATE TABLE .*$", text, re.MULTILINE))


async def make_log(folder: Path) -> None:
    """Makes an empty log and closes it."""
    log = await open_log(folder)
    await log.close()


def words_of_processors(project: Project) -> set[str]:
    """The reasons for which the processors refuse readings: the first text given to each refusal."""
    calls = (
        node
        for source in project.sources
        if source.package == "processors"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id.lstrip("_") in {"refuse", "refusal"}
    )
    texts = ([a.value for a in call.args if isinstance(a, ast.Constant)] for call in calls)
    return {str(found[0]) for found in texts if found and isinstance(found[0], str)}


def test_every_reason_for_rejection_is_described(project: Project) -> None:
    """docs/formats.md has each reason of ingest with its meaning, and those of the processors."""
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|$", project.documents["docs/formats.md"], re.MULTILINE))
    assert {r.value: rows.get(r.value) for r in Reason} == {r.value: r.meaning for r in Reason}
    assert words_of_processors(project) - rows.keys() == set()


def models() -> list[type[BaseModel]]:
    """The parts of a site file."""
    found = [m for m in vars(site_models).values() if isinstance(m, type) and issubclass(m, BaseModel)]
    return [m for m in found if m.__module__ == site_models.__name__ and m.model_fields]


@pytest.mark.parametrize("model", models(), ids=lambda model: model.__name__)
def test_every_key_of_the_site_file_is_described(project: Project, model: type[BaseModel]) -> None:
    """docs/site-file.md has a row for every key of every part, and none for keys that are not there."""
    title = SECTIONS.get(model.__name__, model.__name__)
    text = project.documents["docs/site-file.md"]
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, title
    rows = " ".join(re.findall(r"^\| (`.*?) \|", section[1], re.MULTILINE))
    described = set(re.findall(r"`(\w+)`", rows))
    keys = {field.alias or name for name, field in model.model_fields.items()}
    assert described >= keys
    assert described == keys or model.__name__ == "Register"


def test_every_key_of_a_policy_pack_is_described(project: Project) -> None:
    """docs/formats.md has every key of every part of a policy pack."""
    text = project.documents["docs/formats.md"]
    section = re.search(r"^## Policy pack\n(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL)
    assert section
    parts = [m for m in vars(policy_models).values() if isinstance(m, type) and issubclass(m, BaseModel)]
    ours = [part for part in parts if part.__module__ == policy_models.__name__]
    keys = {field.alias or name for part in ours for name, field in part.model_fields.items()}
    assert keys - set(re.findall(r"`(\w+)`", section[1])) == set()


def test_every_word_of_results_is_described(project: Project) -> None:
    """docs/formats.md has each reason of an empty ratio, verdict, quality, flag, state and cause."""
    code = set(project.code_of(project.documents["docs/formats.md"]))
    flags = {word for text in FLAGS.texts for word in text.split("+")}
    words = {*REASONS, *QUALITIES.texts, *flags, *STATES, *CAUSES, *(v.name.lower() for v in Verdict)}
    assert words - code - {"", "plain"} == set()


def test_every_metric_is_described(project: Project) -> None:
    """docs/operations.md names the metrics that a scrape gives, and no others."""
    status = Status(
        archive=Progress(),
        hops={"ingest": Hop()},
        rejected={"empty": 1},
        log_ends={"readings": 0},
        partitions={"worker": {0: Progress()}},
        events={"mqtt_sessions_lost": 1},
    )
    text, _ = Metrics(lambda: status, LiveFeed()).exposition()
    given = set(re.findall(r"^(meterflow_\w+?)(?:\{.*\})? ", text.decode(), re.MULTILINE))
    described = set(re.findall(r"`(meterflow_\w+)`", project.documents["docs/operations.md"]))
    assert described == {name for name in given if not name.endswith("_created")}


def test_the_limits_of_the_endpoint_are_described(project: Project) -> None:
    """docs/operations.md has the endpoint's limits as they are."""
    limits = Limits()
    text = project.documents["docs/operations.md"]
    assert f"| packet | {limits.packet_bytes >> 20} MiB; a CONNECT {limits.connect_bytes >> 10} KiB |" in text
    assert f"their PUBACK | {limits.receive:,} (receive maximum) |" in text
    assert f"| connections | {limits.connections:,} |" in text
    assert f"together | {limits.gathered_bytes >> 20} MiB;" in text
    assert f"to CONNECT | {limits.connect_timeout_s:g} s |" in text


def test_every_route_is_described(project: Project) -> None:
    """docs/operations.md names every path that the API answers."""
    decisions, changes = object.__new__(Decisions), object.__new__(SiteChanges)
    parts = (Api.routes(object.__new__(Api)), decisions.routes(), changes.routes())
    routes = {route.path for part in parts for route in part}
    described = set(re.findall(r"^\| `(/[^`]+)` \|", project.documents["docs/operations.md"], re.MULTILINE))
    assert described == routes
