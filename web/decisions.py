"""Register events that wait for a person, and what people decide: ``/api/doubts`` and ``/api/decisions``."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metering.doubts import DECIDED_BY_PEOPLE, HELD, Doubt, decision_topic, doubts, limits_too_small
from metering.instants import rfc3339
from metering.query import Query, Results
from metering.roster import Roster
from web.answers import encoded, failure, foreign, packed, posted

DOUBTS_MAX = 200
SETTLED_MAX = 20
BODY_BYTES_MAX = 4_096
THREADS = 2
"""Calls into the store at once."""

Publish = Callable[[str, bytes], Awaitable[str]]
"""Puts a client's message on the log: topic, payload -> empty when it is durable, else why it is refused."""


@dataclass(frozen=True, slots=True)
class Deciding:
    """Whether people may decide on this page. ``publish`` None: they may not, ``hint`` says what to do."""

    publish: Publish | None = None
    hint: str = "decide with: meterflow verdicts"


class Decisions:
    """The two routes. What is posted is judged by ingest, like any message; here only who may post it."""

    def __init__(self, results: Results, roster: Roster, deciding: Deciding) -> None:
        self._results, self._deciding = results, deciding
        self._threads = anyio.CapacityLimiter(THREADS)
        self._plants = {plant.id: plant for plant in roster.plants}
        self._names = roster.names

    def routes(self) -> list[Route]:
        return [
            Route("/api/doubts", self.doubts),
            Route("/api/decisions", self.decide, methods=["POST"]),
        ]

    async def doubts(self, request: Request) -> Response:
        """What waits, newest first, and what people decided last."""
        call = partial(self._answered, request)
        return await anyio.to_thread.run_sync(call, limiter=self._threads)

    def _answered(self, request: Request) -> Response:
        held, more = self._rows((HELD,), DOUBTS_MAX)
        settled, _ = self._rows(DECIDED_BY_PEOPLE, SETTLED_MAX)
        may = self._deciding.publish is not None
        body = {"may": may, "hint": "" if may else self._deciding.hint, "more": more}
        body |= {"limits": [small.words for small in limits_too_small(held)]}
        shown = {"held": [*map(_readable, held)], "settled": [*map(_readable, settled)]}
        return packed(request, encoded(body | shown))

    def _rows(self, status: tuple[str, ...], count: int) -> tuple[list[Doubt], bool]:
        query = Query("verdict", equal={"status": status}, newest_first=True, limit=count + 1)
        found = doubts(self._results.rows(query))
        return found[:count], len(found) > count

    async def decide(self, request: Request) -> Response:
        """Publishes a decision; answers when it is durable."""
        if self._deciding.publish is None:
            return failure("decisions are not taken here", self._deciding.hint, 403)
        refusal = foreign(request, "decision")
        if refusal is not None:
            return refusal
        given = await posted(request, BODY_BYTES_MAX, "a decision", "is a JSON object")
        plant, point = given.pop("plant", None), given.pop("point", None)
        if (
            not isinstance(plant, str)
            or not isinstance(point, str)
            or point not in self._names.get(plant, {})
        ):
            return failure("plant and point name nothing in the site file", status=404)
        why = await self._deciding.publish(decision_topic(plant, point), json.dumps(given).encode())
        return failure(why) if why else Response(encoded({"decided": True}), media_type="application/json")


def _readable(one: Doubt) -> dict[str, Any]:
    """With the instants as texts, and as they are to be sent back."""
    row = one.plain_values()
    return row | {name: rfc3339(row[f"{name}_ms"]) for name in ("from", "to", "installed")}
