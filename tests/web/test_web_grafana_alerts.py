"""What Grafana's alert rules come to: query, reduction and threshold as the files describe them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from bus.frames import decode_table, encode_rows
from metering.tables import TABLES
from sinks.influx_store import InfluxStore
from tests.real.influxd import Influx
from tests.sinks.influx_filled import settings_for
from tests.web.grafana_site import Row, alert, ask, filled_in, intervals, load
from tests.web.web_site import HOUR_MS, MINUTE_MS, STEEL, site
from web.grafana.files import files

ALERTING = "Alerting"
State = dict[tuple[tuple[str, str], ...], bool]


def rule(name: str, text: str = "") -> Mapping[str, Any]:
    """A rule of the provisioning file."""
    read = YAML(typ="safe").load(text or files()["alerting/meterflow.yaml"])
    return next(its for its in read["groups"][0]["rules"] if its["uid"] == f"meterflow-{name}")


def states(influxdb: Influx, bucket: str, its: Mapping[str, Any]) -> State | str:
    """Whether each series alerts, by its labels, or the state that a rule without an answer has."""
    query, reduce, threshold = (step["model"] for step in its["data"])
    assert (its["condition"], reduce["expression"], threshold["expression"]) == ("C", "A", "B")
    assert (reduce["type"], reduce["reducer"], threshold["type"]) == ("reduce", "last", "threshold")
    evaluator = threshold["conditions"][0]["evaluator"]
    assert evaluator["type"] == "gt"
    found = ask(influxdb, filled_in(query["query"], bucket))
    if not found:
        return str(its["noDataState"])
    last = {tuple(sorted(series.labels.items())): series.rows[-1]["_value"] for series in found}
    assert len(last) == len(found), "two series with the same labels"
    return {labels: value > evaluator["params"][0] for labels, value in last.items()}


def hot(scope: str = "plant:steel-1") -> tuple[tuple[str, str], ...]:
    return (("id", "hot"), ("scope", scope))


def of(point: str, plant: str = "steel-1") -> tuple[tuple[str, str], ...]:
    return (("plant", plant), ("point", point))


@pytest.fixture
def now_ms() -> int:
    return time.time_ns() // 1_000_000 // MINUTE_MS * MINUTE_MS


def firing(influxdb: Influx, folder: Path, alerts: Sequence[Row], now_ms: int) -> State | str:
    tables = {"alert": list(alerts), "interval": list(intervals("steel-1", "main", now_ms, 3))}
    bucket = load(influxdb, folder, {name: rows for name, rows in tables.items() if rows})
    return states(influxdb, bucket, rule("firing"))


def test_an_alert_that_fires_alerts_however_long_ago_it_began(
    influxdb: Influx, tmp_path: Path, now_ms: int
) -> None:
    """Its change may be months old; the alert holds until meterflow says that it is over."""
    began = alert(now_ms - 90 * 24 * HOUR_MS, "firing", "plant:steel-1")
    assert firing(influxdb, tmp_path, [began], now_ms) == {(): False, hot(): True}


def test_an_alert_that_is_over_does_not(influxdb: Influx, tmp_path: Path, now_ms: int) -> None:
    """The newest change counts, and another scope's alert is another series."""
    changes = [
        alert(now_ms - 2 * HOUR_MS, "firing", "plant:steel-1"),
        alert(now_ms - HOUR_MS, "ok", "plant:steel-1"),
        alert(now_ms - HOUR_MS, "firing", "group:park"),
    ]
    wanted = {(): False, hot(): False, hot("group:park"): True}
    assert firing(influxdb, tmp_path, changes, now_ms) == wanted


def test_a_withdrawn_change_is_as_if_it_had_never_been(influxdb: Influx, now_ms: int) -> None:
    """A late reading may take a change back: the sink removes its row, and the one before counts again."""
    bucket = influxdb.bucket()
    store = InfluxStore(settings_for(influxdb, bucket))
    over, fires = (
        alert(now_ms - back * HOUR_MS, to, "plant:steel-1") for back, to in ((2, "ok"), (1, "firing"))
    )
    store.store([decode_table(encode_rows("interval", list(intervals("steel-1", "main", now_ms, 3)), 1))])
    store.store([decode_table(encode_rows("alert", [over, fires], 1))])
    assert states(influxdb, bucket, rule("firing")) == {(): False, hot(): True}
    store.store([decode_table(encode_rows("alert", [fires], -3))])
    assert states(influxdb, bucket, rule("firing")) == {(): False, hot(): False}
    store.close()


def test_results_without_any_alert_are_well(influxdb: Influx, tmp_path: Path, now_ms: int) -> None:
    """A plant that never had an alert is no missing answer."""
    assert firing(influxdb, tmp_path, [], now_ms) == {(): False}


def test_no_results_alert_by_both_rules(influxdb: Influx) -> None:
    """An empty bucket has no answer, and a rule without an answer alerts."""
    bucket = influxdb.bucket()
    for name in ("firing", "silent"):
        assert states(influxdb, bucket, rule(name)) == ALERTING


def test_results_that_stopped_long_ago_alert(influxdb: Influx, tmp_path: Path, now_ms: int) -> None:
    """Nothing of the last day: whether anything fires is not known."""
    old = {"interval": list(intervals("steel-1", "main", now_ms - 30 * HOUR_MS, 3))}
    assert states(influxdb, load(influxdb, tmp_path, old), rule("firing")) == ALERTING


def test_a_query_that_fails_alerts() -> None:
    """Both rules say so for no answer and for an error."""
    for name in ("firing", "silent"):
        assert (rule(name)["noDataState"], rule(name)["execErrState"]) == (ALERTING, ALERTING)


def test_a_silent_point_alerts_and_stays(influxdb: Influx, tmp_path: Path, now_ms: int) -> None:
    """Seen a year ago is still a series of the answer, so Grafana does not take it for resolved.

    Intervals of a silent point go on being reported, as missing: they do not count.
    """
    gone = [row | {"amount": None, "quality": "missing"} for row in intervals("steel-1", "quiet", now_ms, 60)]
    tables = {
        "interval": [
            *intervals("steel-1", "main", now_ms, 5),
            *intervals("steel-1", "old", now_ms - 365 * 24 * HOUR_MS, 5),
            *gone[:-1],
            gone[-1] | {"amount": 1, "quality": "valid"},
        ]
    }
    wanted = {of("main"): False, of("old"): True, of("quiet"): True}
    assert states(influxdb, load(influxdb, tmp_path, tables), rule("silent")) == wanted


def test_a_point_with_long_spans_may_be_silent_for_longer(
    influxdb: Influx, tmp_path: Path, now_ms: int
) -> None:
    """Three of its own spans, at least ten minutes."""
    day = next(intervals("steel-1", "books", now_ms - 30 * HOUR_MS, 1))
    day |= {"start": day["end"] - 24 * HOUR_MS}
    brief = intervals("steel-1", "main", now_ms - 8 * MINUTE_MS, 1)
    bucket = load(influxdb, tmp_path, {"interval": [day, *brief]})
    assert states(influxdb, bucket, rule("silent")) == {of("books"): False, of("main"): False}


def test_with_a_site_file_points_never_seen_are_silent_and_others_do_not_count(
    influxdb: Influx, tmp_path: Path, now_ms: int
) -> None:
    """Silence is three times expect_every there; a point that is expected no longer is left out."""
    roster = site(STEEL)
    slow, ended = (
        replace(roster.points[1], expect_ms=HOUR_MS),
        replace(roster.points[2], expected_to_ms=now_ms),
    )
    roster = replace(roster, points=(roster.points[0], slow, ended))
    tables = {
        "interval": [
            *intervals("steel-1", "intake", now_ms - 2 * HOUR_MS, 2),
            *intervals("steel-1", "count", now_ms - 2 * HOUR_MS, 2),
            *intervals("nobody", "knows", now_ms - 2 * HOUR_MS, 2),
        ]
    }
    its = rule("silent", files(roster)["alerting/meterflow.yaml"])
    wanted = {of("main"): True, of("intake"): False}
    assert states(influxdb, load(influxdb, tmp_path, tables), its) == wanted
    assert states(influxdb, influxdb.bucket(), its) == {of("main"): True, of("intake"): True}


def test_the_rules_read_tables_that_there_are() -> None:
    """The measurements that they name are result tables."""
    for name in ("firing", "silent"):
        text = rule(name)["data"][0]["model"]["query"]
        named = {part.split('"')[0] for part in text.split('r._measurement == "')[1:]}
        assert named
        assert named <= TABLES.keys()
