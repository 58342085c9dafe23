"""Every Flux query that Grafana is given, by name. They read result rows; no figure is worked out anew.

Grafana fills in ``v.timeRangeStart``, ``v.timeRangeStop``, ``v.windowPeriod`` and ``v.defaultBucket``,
and a dashboard's variables. ``${plant:doublequote}`` puts quotes around a value and a backslash before
the quotes in it, so that Chinese names, blanks and quotes are no trouble; a plant or point whose id has
a backslash or ``${`` in it cannot be chosen in Grafana.

A field that became unknown keeps its old value in the bucket: ``unknown`` names those of a row that do not
count, and is ``*`` where the key has no row any more; rows of earlier versions have no such field.
InfluxDB 2.7 may show rows of a past week as they were before they were revised, for some minutes
(``flux.EACH_TIME_ONCE``).

Columns of the answer's group become labels in Grafana, the others fields. Rows are kept apart by labels
in what is drawn, and put into one table (``group()``) in what is listed.
"""

from __future__ import annotations

from collections.abc import Iterable

from metering import flux
from metering.roster import Roster
from metering.tables import TABLES, Kind

LISTED_MAX = 500
"""Rows of a table in Grafana."""
DRAWN_MAX = 5_000
"""Newest rows of one drawn series: Grafana refuses an answer with ten times as many as it has pixels."""
OPEN_MAX = 200
"""Rows at the end of a series among which a complete one is looked for."""
SILENT_SPANS, SILENT_LEAST_S = 3, 600
"""A point is silent when it has not been seen for so many of its spans, or expected readings, and so long."""
BUCKET = "v.defaultBucket"

_IN_RANGE = f"from(bucket: {BUCKET})\n  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)"
_EVER = f"from(bucket: {BUCKET})\n  |> range(start: 0)"
_LAST_DAY = f"from(bucket: {BUCKET})\n  |> range(start: -1d)"
_PIVOT = '|> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
_STANDS = '|> filter(fn: (r) => not exists r.unknown or r.unknown != "*")'
_COMPLETE = '|> filter(fn: (r) => r.state == "final" or r.state == "revised")'
_PLANT = "plant = ${plant:doublequote}"
_POINT = "point = ${point:doublequote}"
_PLANT_SCOPE = 'scope = "plant:" + ${plant:doublequote}'
_POINT_SCOPE = 'scope = "point:" + ${plant:doublequote} + "/" + ${point:doublequote}'
_THIS_POINT = "r.plant == plant and r.point == point"
_THIS_FIGURE = "r.scope == scope and r.id == ${intensity:doublequote} and r.window == ${window:doublequote}"


def _query(*steps: str) -> str:
    """Steps one below the other; pipes indented."""
    return "\n".join(f"  {step}" if step.startswith("|>") else step for step in steps if step)


def _where(measurement: str, *and_also: str) -> str:
    return f"|> filter(fn: (r) => {' and '.join((f'r._measurement == {flux.text(measurement)}', *and_also))})"


def _fields(*names: str) -> str:
    return f"({' or '.join(f'r._field == {flux.text(name)}' for name in names)})"


def _keep(*names: str) -> str:
    return f"|> keep(columns: {flux.texts(names)})"


def _known(measurement: str, *fields: str) -> str:
    """Nothing in place of what the row says to be unknown. Texts are always there, and so is the key.

    Flux has no word for nothing: a column that no row has is nothing, of one type.
    """
    table = TABLES[measurement]
    texts = {*table.key, *(column.name for column in table.columns if column.kind is Kind.TEXT)}
    values = (
        rf"{name}: if exists r.unknown and r.unknown =~ /\b{name}\b/ then r.no_{name} else r.{name}"
        for name in fields
        if name not in texts
    )
    return f"|> map(fn: (r) => ({{r with {', '.join(values)}}}))"


def _listed(measurement: str, where: tuple[str, ...], columns: tuple[str, ...]) -> tuple[str, ...]:
    """Rows as one table, the newest first."""
    return (
        _where(measurement, *where),
        '|> drop(columns: ["_start", "_stop"])',
        _PIVOT,
        _STANDS,
        "|> group()",
        '|> sort(columns: ["_time"], desc: true)',
        f"|> limit(n: {LISTED_MAX})",
        _known(measurement, *columns),
        _keep("_time", *columns),
    )


def _values_of(tag: str, measurement: str, *and_also: str) -> tuple[str, ...]:
    """The values of a tag among the rows of the time that is shown, for a dashboard's variable."""
    return (
        _IN_RANGE,
        _where(measurement, 'r._field == "position"', "r._value >= 0", *and_also),
        "|> last()",
        f"|> keep(columns: [{flux.text(tag)}])",
        "|> group()",
        f"|> distinct(column: {flux.text(tag)})",
        '|> sort(columns: ["_value"])',
    )


def _drawn(measurement: str, where: tuple[str, ...], tags: tuple[str, ...], *fields: str) -> str:
    """The newest complete row of each period, with nothing where a field of it is unknown.

    One row stands for a period of the picture; nothing is averaged. ``position`` is in every row, so
    a row with an unknown value stays, and the line has a gap there. Rows of several lengths (``interval``)
    may end at the same time: they are kept apart until those that are no more are left out.
    """
    return _query(
        _IN_RANGE,
        _where(measurement, *where, _fields("position", "state", "unknown", *fields)),
        "|> window(every: v.windowPeriod)",
        "|> last()",
        f"|> group(columns: {flux.texts((*tags, 'length', '_field'))})",
        _PIVOT,
        "|> filter(fn: (r) => exists r.position)",
        _STANDS,
        f"|> group(columns: {flux.texts(tags)})",
        _COMPLETE,
        '|> sort(columns: ["_time"])',
        f"|> tail(n: {DRAWN_MAX})",
        _known(measurement, *fields),
        _keep("_time", *tags, *fields),
    )


def _newest_of(measurement: str, tags: tuple[str, ...], *fields: str) -> str:
    """The newest complete row of each combination of tags, as one table."""
    return _query(
        _IN_RANGE,
        _where(measurement, _fields("position", "state", "unknown", *fields)),
        f"|> tail(n: {OPEN_MAX})",
        '|> drop(columns: ["_start", "_stop"])',
        _PIVOT,
        _STANDS,
        _COMPLETE,
        f"|> group(columns: {flux.texts(tags)})",
        '|> sort(columns: ["_time"])',
        '|> last(column: "position")',
        "|> group()",
        _known(measurement, *fields),
        _keep("_time", *tags, *fields),
        f"|> sort(columns: {flux.texts(tags)})",
    )


def _newest_changes(*fields: str) -> tuple[str, ...]:
    """The newest change of each alert that there is, whenever that was."""
    return (
        _EVER,
        _where("alert", _fields("to", "unknown", *fields)),
        '|> drop(columns: ["_start", "_stop"])',
        _PIVOT,
        _STANDS,
        '|> group(columns: ["id", "scope"])',
        '|> sort(columns: ["_time"])',
        '|> last(column: "to")',
    )


FIRING = _query(
    *_newest_changes("value", "threshold"),
    '|> filter(fn: (r) => r.to == "firing")',
    "|> group()",
    _known("alert", "value", "threshold"),
    _keep("_time", "id", "scope", "value", "threshold"),
    '|> sort(columns: ["_time"], desc: true)',
)
"""The alerts whose newest change is to firing, whenever that was."""

_SEEN = (r'r._field == "unknown"', r"r._value !~ /\bamount\b|[*]/")
"""Which values say that a row has an amount: a single field is read many times faster than rows are."""

LAST_SEEN = _query(
    _EVER,
    _where("interval", *_SEEN),
    '|> group(columns: ["plant", "point"])',
    "|> last()",
    '|> rename(columns: {_time: "seen"})',
    "|> group()",
    _keep("plant", "point", "seen"),
    '|> sort(columns: ["seen"])',
)
"""The end of the newest interval with an amount, point by point, the longest silent first."""

ALERT_FIRING = _query(
    "changes =",
    *_newest_changes(),
    '|> map(fn: (r) => ({r with _value: if r.to == "firing" then 1.0 else 0.0}))',
    _keep("id", "scope", "_time", "_value"),
    "alive =",
    _LAST_DAY,
    _where("interval", 'r._field == "position"'),
    "|> group()",
    "|> last()",
    '|> map(fn: (r) => ({_time: r._time, _value: 0.0, id: "", scope: ""}))',
    '|> group(columns: ["id", "scope"])',
    "union(tables: [changes, alive])",
)
"""1 for each alert that fires, 0 for one that is over; and a 0 without labels while results come at all.

A plant that never had an alert answers 0. No answer means that there are no results of the last day.
"""


def silent(roster: Roster | None = None) -> str:
    """For each point, how long it has not been seen over how long it may be: above 1 it is silent.

    Without a roster the points are those that have ever been seen, and each may be silent for
    ``SILENT_SPANS`` of its own spans. With one they are those that the site file expects now, also
    if never seen, and each may be silent for ``SILENT_SPANS`` times ``expect_every`` or its span,
    whichever is longer. At least ``SILENT_LEAST_S`` in both.
    """
    seen = (
        "seen =",
        _EVER,
        _where("interval", *_SEEN),
        '|> group(columns: ["plant", "point"])',
        "|> last()",
    )
    if roster is None:
        return _query(
            *seen,
            f"|> map(fn: (r) => ({{r with may_s: float(v: r.length) * {SILENT_SPANS}.0}}))",
            _keep("plant", "point", "_time", "may_s"),
            "seen",
            *_overdue(),
        )
    return _query(
        'import "array"',
        *seen,
        "|> map(fn: (r) => ({plant: r.plant, point: r.point, at: int(v: r._time), may_s: 0.0}))",
        '|> group(columns: ["plant", "point"])',
        "expected =",
        f"array.from(rows: [{', '.join(_expected(roster))}])",
        "|> filter(fn: (r) => r.since <= now() and r.until > now())",
        "|> map(fn: (r) => ({plant: r.plant, point: r.point, at: 0, may_s: r.may_s}))",
        '|> group(columns: ["plant", "point"])',
        "union(tables: [expected, seen])",
        "|> reduce(identity: {at: 0, may_s: 0.0}, fn: (r, accumulator) => ({",
        "    at: if r.at > accumulator.at then r.at else accumulator.at,",
        "    may_s: if r.may_s > accumulator.may_s then r.may_s else accumulator.may_s}))",
        "|> filter(fn: (r) => r.may_s > 0.0)",
        "|> map(fn: (r) => ({plant: r.plant, point: r.point, _time: time(v: r.at), may_s: r.may_s}))",
        *_overdue(),
    )


def _overdue() -> tuple[str, ...]:
    least = f"{SILENT_LEAST_S}.0"
    return (
        f"|> map(fn: (r) => ({{r with may_s: if r.may_s < {least} then {least} else r.may_s}}))",
        "|> map(fn: (r) => ({plant: r.plant, point: r.point, _time: r._time,",
        "    _value: (float(v: int(v: now())) - float(v: int(v: r._time))) / 1000000000.0 / r.may_s}))",
        '|> group(columns: ["plant", "point"])',
    )


def _expected(roster: Roster) -> Iterable[str]:
    """Flux records of the points with a rhythm. Times within what InfluxDB can write."""
    for point in roster.points:
        rhythm_ms = max(point.expect_ms, point.base_ms)
        if not point.expect_ms:
            continue
        since_ms = min(max(point.expected_from_ms, 0), _LATEST_MS)
        until_ms = min(max(point.expected_to_ms, 0), _LATEST_MS)
        yield (
            f"{{plant: {flux.text(roster.plants[point.plant].id)}, point: {flux.text(point.id)},"
            f" may_s: {rhythm_ms * SILENT_SPANS / 1000!r}, since: {flux.instant(since_ms)},"
            f" until: {flux.instant(until_ms)}}}"
        )


_LATEST_MS = 9_223_372_036_000

QUERIES: dict[str, str] = {
    "variable_plants": _query(*_values_of("plant", "interval")),
    "variable_points": _query(_PLANT, *_values_of("point", "interval", "r.plant == plant")),
    "variable_lines": _query(
        'import "strings"',
        'before = "line:" + ${plant:doublequote} + "/"',
        *_values_of("scope", "rollup"),
        "|> filter(fn: (r) => strings.hasPrefix(v: r._value, prefix: before))",
    ),
    "variable_intensities": _query(_PLANT_SCOPE, *_values_of("id", "intensity", "r.scope == scope")),
    "variable_windows": _query(_PLANT_SCOPE, *_values_of("window", "intensity", "r.scope == scope")),
    "firing": FIRING,
    "newest_figures": _newest_of(
        "intensity",
        ("scope", "id", "product", "window"),
        *("value", "unit", "target", "measured_share", "covers", "reason", "state"),
    ),
    "intensity": _query(
        _PLANT_SCOPE,
        _drawn("intensity", (_THIS_FIGURE,), ("id", "product", "scope", "window"), "value", "target"),
    ),
    "completeness": _drawn("intensity", (), ("id", "product", "scope", "window"), "measured_share"),
    "last_seen": LAST_SEEN,
    "plant_points": _query(
        _PLANT,
        LAST_SEEN.replace(_SEEN[0], f"{_SEEN[0]} and r.plant == plant"),
    ),
    "line_hours": _query(
        "scope = ${line:doublequote}",
        _drawn(
            "rollup", ('r.scope == scope and r.span == "hour"',), ("measures", "product", "scope"), "amount"
        ),
    ),
    "point_intervals": _query(
        _PLANT,
        _POINT,
        _drawn("interval", (_THIS_POINT,), ("plant", "point"), "amount"),
    ),
    "point_share": _query(
        _PLANT, _POINT, _drawn("interval", (_THIS_POINT,), ("plant", "point"), "measured_share")
    ),
    "point_rows": _query(
        _PLANT,
        _POINT,
        _IN_RANGE,
        *_listed(
            "interval",
            (_THIS_POINT,),
            ("amount", "unit", "quality", "flags", "measured_share", "state", "revision", "cause"),
        ),
    ),
    "point_hours": _query(
        _POINT_SCOPE,
        _drawn("rollup", ('r.scope == scope and r.span == "hour"',), ("measures", "product"), "amount"),
    ),
    "point_verdicts": _query(
        _PLANT,
        _POINT,
        _IN_RANGE,
        *_listed(
            "verdict",
            (_THIS_POINT,),
            ("serial", "installed", "verdict", "status", "by", "evidence", "revision"),
        ),
    ),
    "point_ledger": _query(
        _PLANT,
        _POINT,
        _EVER,
        *_listed(
            "ledger",
            (_THIS_POINT,),
            ("serial", "installed", "to", "first", "last", "booked", "held", "written_off", "balance"),
        ),
        # a row of how things stand has no time of its own: that of its last reading says more than 1970
        "|> map(fn: (r) => ({r with _time: if exists r.to then time(v: r.to * 1000000) else r._time}))",
        '|> drop(columns: ["to"])',
        '|> sort(columns: ["_time"], desc: true)',
    ),
    "point_rejected": _query(
        'name = ${plant:doublequote} + "/" + ${point:doublequote}',
        _IN_RANGE,
        _where("rejected"),
        '|> drop(columns: ["_start", "_stop"])',
        _PIVOT,
        "|> group()",
        "|> filter(fn: (r) => r.point == name)",
        _keep("_time", "topic", "reason", "detail", "payload"),
        '|> sort(columns: ["_time"], desc: true)',
        f"|> limit(n: {LISTED_MAX})",
    ),
    "alert_firing": ALERT_FIRING,
    "alert_silent": silent(),
}
"""What the provisioning files hold; ``alert_silent`` may be made for a site instead."""
