"""People's decisions, judged by form: what a message on ``meterflow/v1/PLANT/POINT/decision`` says.

What a decision does is the processors' affair (``docs/books.md``); whether its sender may decide is looked at
before (``decode.py``).
"""

from __future__ import annotations

from collections.abc import Mapping

from ingest.decode_exact import Refusal, json_values
from ingest.directory import Directory, Route
from ingest.judge import (
    REVISION_MAX,
    TEXT_SIZE_MAX,
    Json,
    NotFinite,
    Number,
    Object,
    Refused,
    instant,
    kind,
    read_text,
    time_of,
    value_of,
    whole,
)
from ingest.numbers import Fault, shown
from ingest.reasons import Reason
from metering.decisions import CONFLICT, OF_AN_INSTANT, WORDS, Decision


def read_decisions(
    directory: Directory, route: Route, payload: bytes, received_ms: int, login: str = ""
) -> tuple[list[Decision], list[Refusal]]:
    """The decisions of one message, and a refusal for each that is not taken.

    ``login``: whose connection it came on; it stands beside ``by`` where that is another name.
    """
    point = directory.points[route.point].id
    values = json_values(payload)
    if isinstance(values, Fault):
        return [], [Refusal(point, None, values.reason, values.detail, None)]
    alone = not payload.lstrip().startswith(b"[")
    taken: list[Decision] = []
    refused: list[Refusal] = []
    for text, value in values:
        found = _judged(point, value, received_ms, login)
        if isinstance(found, Decision):
            taken.append(found)
        else:
            stated = time_of(value.get("to")) if isinstance(value, Object) else None
            time = stated if isinstance(stated, int) else None
            refused.append(Refusal(point, time, found.reason, found.detail, None if alone else text))
    return taken, refused


def _judged(point: str, fields: Json | Fault, received_ms: int, login: str) -> Decision | Fault:
    if isinstance(fields, Fault):
        return fields
    if not isinstance(fields, Object):
        return Fault(Reason.WRONG_SHAPE, f"expected an object, got {kind(fields)}")
    if fields.duplicate is not None:
        return Fault(Reason.DUPLICATE_KEY, f"{shown(fields.duplicate)!r} is given twice")
    try:
        return _decision(point, fields, received_ms, login)
    except Refused as refused:
        return refused.fault


def _decision(point: str, fields: Mapping[str, Json], received_ms: int, login: str) -> Decision:
    """The first fault in the order of the code counts. Raises Refused."""
    if fields.get("point", point) != point:
        raise Refused(Reason.WRONG_SHAPE, f"names another point on the topic of {point!r}")
    from_ms, to_ms = (_end(fields, name, received_ms) for name in ("from", "to"))
    verdict = _verdict(fields.get("verdict"))
    if from_ms > to_ms:
        raise Refused(Reason.DECISION_INVALID, "from lies behind to")
    if from_ms == to_ms and verdict not in OF_AN_INSTANT:
        raise Refused(Reason.DECISION_INVALID, f"{verdict}: from and to are not one instant")
    return Decision(
        point=point,
        serial=read_text(fields, "serial"),
        from_ms=from_ms,
        to_ms=to_ms,
        verdict=verdict,
        by=_by(fields, login),
        revision=whole(fields, "revision", 0, REVISION_MAX, Reason.REVISION_INVALID),
        value=_value(fields, verdict),
        received_ms=received_ms,
    )


def _end(fields: Mapping[str, Json], name: str, received_ms: int) -> int:
    if fields.get(name) is None:
        raise Refused(Reason.TIME_MISSING, f"the decision has no {name}")
    return instant(fields[name], f"{name}: ", received_ms)


def _verdict(value: Json) -> str:
    if isinstance(value, str) and not isinstance(value, (Number, NotFinite)) and value in WORDS:
        return str(value)
    raise Refused(Reason.DECISION_INVALID, f"verdict: {shown(value)} is none of {', '.join(WORDS)}")


def _by(fields: Mapping[str, Json], login: str) -> str:
    name = (read_text(fields, "by") or "").strip()
    if not name:
        wanted = f"a text of up to {TEXT_SIZE_MAX} characters"
        raise Refused(Reason.DECISION_INVALID, f"by: whoever decides has a name, {wanted}")
    return f"{name} ({login})" if login and login != name else name


def _value(fields: Mapping[str, Json], verdict: str) -> str:
    """What counts where two values stand against each other, as it was written; else nothing."""
    stated = fields.get("value") is not None
    if stated != (verdict == CONFLICT):
        what = f"only a {CONFLICT} has one" if stated else f"a {CONFLICT} needs the one that counts"
        raise Refused(Reason.DECISION_INVALID, f"value: {what}")
    if stated:
        value_of(fields)
    return str(fields["value"]) if stated else ""
