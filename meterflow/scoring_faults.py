"""What results make of each fault of a simulated world: right, wrong, missing, held or unobservable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb

from metering.instants import rfc3339

RIGHT, WRONG, MISSING, HELD, UNOBSERVABLE = "right", "wrong", "missing", "held", "unobservable"
OUTCOMES = (RIGHT, WRONG, MISSING, HELD, UNOBSERVABLE)
OF_SPANS, REJECTED = ("valid", "estimated", "missing"), "rejected"
LATER = ("balance", "intensity")
"""Found by checks of more than one point, so that the books have nothing to say."""
NONE = "none"
TIMES = 'epoch_ms("from") AS "from", epoch_ms("to") AS "to"'


@dataclass(frozen=True, slots=True)
class Judged:
    """One fault, or a verdict where there was none (``kind`` none), and what was said of it."""

    kind: str
    plant: str
    point: str
    at: str
    to: str
    expected: str
    said: str
    outcome: str

    def text(self) -> str:
        place = f"{self.kind} at {self.plant}/{self.point}, {self.at} to {self.to}"
        return f"{place}: expected {self.expected or 'nothing'}, found {self.said or 'nothing'}"


Row = dict[str, Any]


def judged(base: duckdb.DuckDBPyConnection) -> list[Judged]:
    """Every fault with its outcome, then every verdict that belongs to none."""
    faults = _rows(base, f'SELECT * REPLACE ({TIMES}) FROM fault ORDER BY "from", plant, point')
    verdicts = _rows(
        base, f'SELECT plant, point, {TIMES}, verdict, status FROM verdict ORDER BY "from", plant, point'
    )
    of_points, beside = _by_point(verdicts), _by_point(faults)
    out, used = [], set()
    for fault in faults:
        point = fault["plant"], fault["point"]
        near = [row for row in of_points.get(point, []) if _meet(row, fault)]
        near = [row for row in near if not _is_of_another(row, fault, beside[point])]
        used |= {id(row) for row in near}
        out.append(_judge(base, fault, near))
    return out + [_invented(row) for row in verdicts if id(row) not in used]


def _judge(base: duckdb.DuckDBPyConnection, fault: Row, near: list[Row]) -> Judged:
    said = ", ".join(sorted({f"{row['verdict']} {row['status']}" for row in near}))
    wanted = f"{fault['concludes']} {fault['status']}".strip()
    if fault["found_by"] in LATER and near:
        outcome = WRONG
    elif fault["found_by"] != "books":
        outcome = UNOBSERVABLE
    elif fault["concludes"] in OF_SPANS:
        outcome, of_spans = (WRONG, said) if near else _of_spans(base, fault)
        said = said or of_spans
    elif fault["concludes"] == REJECTED:
        outcome, said = _of_rejected(base, fault)
    elif not near:
        outcome = MISSING
    elif any(row["verdict"] != fault["concludes"] for row in near):
        outcome = WRONG
    elif all(row["status"] == fault["status"] for row in near):
        outcome = RIGHT
    else:
        outcome = HELD if fault["status"] == "decided" else WRONG
    return _judged(fault, wanted, said, outcome, fault["kind"])


def _of_spans(base: duckdb.DuckDBPyConnection, fault: Row) -> tuple[str, str]:
    """Without a verdict: every base span it touches is valid; or every one in it an estimate, or unknown."""
    low, high = 'epoch_ms("end")', "epoch_ms(start)"
    touches = f"{low} > ? AND {high} < ?" if fault["to"] > fault["from"] else f"{low} >= ? AND {high} <= ?"
    inside = f"{high} >= ? AND {low} <= ?"
    where = touches if fault["concludes"] == "valid" else inside
    rows = base.execute(
        "SELECT quality = 'valid' AND measured_share = 1 AND state <> 'open', amount IS NOT NULL, quality"
        f" FROM interval WHERE plant = ? AND point = ? AND {where}",
        [fault["plant"], fault["point"], fault["from"], fault["to"]],
    ).fetchall()
    said = ", ".join(sorted({row[2] for row in rows}))
    if fault["concludes"] == "missing":
        return (WRONG if any(known for _, known, _ in rows) else RIGHT), said
    if not rows:
        return MISSING, said
    if fault["concludes"] == "valid":
        good = all(measured for measured, _, _ in rows)
    else:
        good = all(known and not measured for measured, known, _ in rows)
    return (RIGHT if good else WRONG), said


def _of_rejected(base: duckdb.DuckDBPyConnection, fault: Row) -> tuple[str, str]:
    """A message has to be among those not taken, with its reason; of a stretch of time each of them."""
    topic = f"meterflow/v1/{fault['plant']}/{fault['point']}"
    rows = base.execute(
        "SELECT reason FROM rejected WHERE topic = ? AND epoch_ms(received) BETWEEN ? AND ?",
        [topic, fault["from"], fault["to"]],
    ).fetchall()
    reasons = sorted(reason for (reason,) in rows)
    once = len(reasons) == 1 or fault["from"] < fault["to"]
    right = once and set(reasons) == {fault["status"]}
    return (RIGHT if right else WRONG if rows else MISSING), ", ".join(sorted(set(reasons)))


def _invented(row: Row) -> Judged:
    return _judged(row, "", f"{row['verdict']} {row['status']}", WRONG, NONE)


def _judged(row: Row, expected: str, said: str, outcome: str, kind: str) -> Judged:
    return Judged(
        kind, row["plant"], row["point"], rfc3339(row["from"]), rfc3339(row["to"]), expected, said, outcome
    )


def _by_point(rows: list[Row]) -> dict[tuple[str, str], list[Row]]:
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["plant"], row["point"]), []).append(row)
    return found


def _is_of_another(row: Row, fault: Row, beside: list[Row]) -> bool:
    """Whether a verdict is what another fault concludes, not this one: a rollover within an outage."""
    return row["verdict"] != fault["concludes"] and any(
        row["verdict"] == other["concludes"] and other["from"] <= row["from"] and row["to"] <= other["to"]
        for other in beside
    )


def _meet(row: Row, fault: Row) -> bool:
    return bool(row["from"] <= fault["to"] and row["to"] >= fault["from"])


def _rows(base: duckdb.DuckDBPyConnection, sql: str) -> list[Row]:
    found = base.execute(sql)
    names = [column[0] for column in found.description or []]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
