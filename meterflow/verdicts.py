"""``meterflow verdicts``: the register events that wait for a person, and what people say of them."""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import click

from meterflow.given import instant_ms
from meterflow.verdicts_source import Source
from metering.decisions import CONFLICT, WORDS
from metering.doubts import HELD, Doubt, decision_topic, doubts, limits_too_small
from metering.errors import MeterflowError, UsageError
from metering.instants import rfc3339
from metering.query import Query

WAIT_S, LOOK_S = 30.0, 0.2


@dataclass(frozen=True, slots=True)
class Said:
    """What a person says. ``verdict``: empty for the event's own word. ``value``, ``start_ms``: of a
    conflict.
    """

    verdict: str
    by: str
    value: str = ""
    start_ms: int | None = None

    @classmethod
    def of(cls, verdict: str, by: str | None, user: str | None, value: str | None, start: str | None) -> Said:
        """``by``: default the login, else the system's user. ``start``: RFC 3339."""
        name = (by or user or getpass.getuser()).strip()
        if not name:
            raise UsageError("nobody is named who decides", where="--by", hint="Give your name.")
        return cls(verdict, name, value or "", None if start is None else instant_ms(start))


def show(source: Source, status: Sequence[str], plants: Sequence[str], as_json: bool) -> None:
    """Lists events of these states, none for all of them, newest first."""
    equal = {name: tuple(words) for name, words in (("status", status), ("plant", plants)) if words}
    found = doubts(source.rows(Query("verdict", equal=equal, newest_first=True)))
    if as_json:
        click.echo(json.dumps([_plain(one) for one in found], indent=1, ensure_ascii=False))
        return
    for one in found:
        click.echo(_told(one, source.zone(one.plant)) + "\n")
    held = sum(one.status == HELD for one in found)
    count = f"{len(found)} event{'s' if len(found) != 1 else ''}, {held} waiting for a person"
    click.echo(f"{count}. Amounts are the register's, before its multiplier.", err=True)
    for small in limits_too_small(found):
        click.echo(small.words, err=True)
    if held:
        click.echo("Decide with: meterflow verdicts confirm ID, refuse ID, or confirm ID --as WORD", err=True)


def _plain(one: Doubt) -> dict[str, Any]:
    installed = None if one.installed_ms is None else rfc3339(one.installed_ms)
    return one.plain_values() | {
        "from": rfc3339(one.from_ms),
        "to": rfc3339(one.to_ms),
        "installed": installed,
    }


def _told(one: Doubt, zone: str) -> str:
    """An event as lines: what, when, by which evidence, and what each word would do."""
    by = f" by {one.by}" if one.status != HELD and one.by else ""
    serial = f" ({one.serial})" if one.serial else ""
    lines = [
        f"{one.id}  {one.plant}/{one.point}{serial}  {one.verdict}, {one.status}{by}",
        f"  between  {_local(one.from_ms, zone)} and {_local(one.to_ms, zone)} ({zone})",
    ]
    if one.seen:
        lines.append(f"  evidence {one.seen}")
    named = {one.own: "confirm", one.refusal: "refuse"}
    for choice in one.choices:
        verb = named.get(choice.verdict, f"--as {choice.verdict}")
        lines.append(f"  {verb:16} {choice.effect}")
    if not one.choices:
        lines.append("  settled by readings of a higher revision, or by the site file, not by a decision")
    return "\n".join(lines)


def decide(
    source: Source,
    event: str,
    span: tuple[str | None, str | None],
    said: Said,
    *,
    refuse: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Publishes a decision on one event, and says what it did."""
    one = _found(source, event, span)
    word = said.verdict or _word(one, refuse)
    _check(one, word, said)
    topic, message = (
        decision_topic(one.plant, one.point),
        one.message(word, said.by, said.value, said.start_ms),
    )
    refused = set(_refusals(source, one)) if wait else set[int]()
    source.publish(topic, json.dumps(message, ensure_ascii=False).encode())
    if wait:
        one = _awaited(source, one, said.by, refused)
    if as_json:
        click.echo(
            json.dumps({"topic": topic, "decision": message, "event": _plain(one)}, ensure_ascii=False)
        )
        return
    click.echo(f"{one.id} {one.plant}/{one.point}: {word}, by {said.by}: acknowledged", err=True)
    if wait:
        click.echo(_told(one, source.zone(one.plant)))
    else:
        click.echo("--wait waits until the results show it", err=True)


def _found(source: Source, event: str, span: tuple[str | None, str | None]) -> Doubt:
    """The event of an id (or its beginning), or of PLANT/POINT with the times of its ends."""
    plant, slash, point = event.partition("/")
    equal = {"plant": (plant,), "point": (point,)} if slash else {}
    found = doubts(source.rows(Query("verdict", equal=equal, newest_first=True)))
    if slash:
        ends = [None if text is None else instant_ms(text) for text in span]
        pairs = ((one, (one.from_ms, one.to_ms)) for one in found)
        found = [one for one, own in pairs if all(w in (None, o) for w, o in zip(ends, own, strict=True))]
    else:
        found = [one for one in found if one.id.startswith(event)]
    if len(found) == 1:
        return found[0]
    hint = "meterflow verdicts list shows what waits, and --status all everything."
    if not found:
        raise UsageError("there is no such event", where=event, hint=hint)
    some = ", ".join(one.id for one in found[:5])
    raise UsageError(f"{len(found)} events fit: {some}", where=event, hint="Give the id, or --from and --to.")


def _word(one: Doubt, refuse: bool) -> str:
    """What confirms or refuses an event. Raises UsageError where that says nothing."""
    word = one.refusal if refuse else one.own
    if one.effect(word) and word:
        return word
    words = ", ".join(choice.verdict for choice in one.choices)
    what = "it cannot be booked as it is" if refuse else f"{one.verdict!r} says nothing of what happened"
    what = what if one.refusal or not refuse else "refusing 'plain' does not say what happened"
    hint = (
        f"Say what it was: --as with one of {words}." if words else "No decision settles it: send readings."
    )
    raise UsageError(what if words else "no decision settles this event", where=one.id, hint=hint)


def _check(one: Doubt, word: str, said: Said) -> None:
    if word not in WORDS:
        raise UsageError(f"{word!r} is no verdict", where="--as", hint=f"One of {', '.join(WORDS)}.")
    if (word == CONFLICT) != (one.verdict == CONFLICT):
        raise UsageError(f"{word!r} cannot be said of this event", where=one.id)
    if said.start_ms is not None and word != CONFLICT:
        raise UsageError("only a conflict of interval reads has a start", where="--start")
    if (word == CONFLICT) != bool(said.value):
        wrong = "a conflict is decided by a value" if word == CONFLICT else "only a conflict has a value"
        raise UsageError(wrong, where="--value", hint="The value that counts, as the meter shows it.")


def _awaited(source: Source, one: Doubt, by: str, refused: set[int]) -> Doubt:
    """The event as it stands when the decision has come through. Raises MeterflowError when it does not."""
    until_s = time.monotonic() + WAIT_S
    equal = {"plant": (one.plant,), "point": (one.point,)}
    while time.monotonic() < until_s:
        found = doubts(source.rows(Query("verdict", equal=equal, newest_first=True)))
        mine = [other for other in found if _same(one, other) and other.revision > one.revision]
        if mine:
            return mine[0]
        if new := _refusals(source, one).keys() - refused:
            raise MeterflowError(
                f"the decision was refused: {_refusals(source, one)[max(new)]}", where=one.id
            )
        time.sleep(LOOK_S)
    hint = "It is acknowledged: look again later, or whether the processors run."
    raise MeterflowError(
        f"the results do not show the decision of {by} within {WAIT_S:.0f} s", where=one.id, hint=hint
    )


def _same(one: Doubt, other: Doubt) -> bool:
    """Whether two rows are of one event; a decided conflict of interval reads has its end for both."""
    places = ((a.plant, a.point, a.serial, a.to_ms, a.verdict) for a in (one, other))
    return other.id == one.id or (one.verdict == CONFLICT and len(set(places)) == 1)


def _refusals(source: Source, one: Doubt) -> Mapping[int, str]:
    """Why decisions on this event were refused, by when they were received."""
    rows = source.rows(Query("rejected", equal={"point": (one.point,)}, newest_first=True, limit=50))
    mine = [row for row in rows if row["time"] == one.to_ms and one.plant in str(row["topic"]).split("/")]
    return {int(row["received"]): str(row["detail"] or row["reason"]) for row in mine}


def _local(instant: int, zone: str) -> str:
    at = datetime.fromtimestamp(instant / 1000, ZoneInfo(zone))
    return at.isoformat(" ", "milliseconds" if instant % 1000 else "seconds")
