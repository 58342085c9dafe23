"""The page and its API as one Starlette app over the port of the result tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from metering.errors import MeterflowError, UsageError
from metering.query import Results
from metering.roster import Roster
from web import assets
from web.answers import failure
from web.api import Api
from web.decisions import Deciding, Decisions
from web.live import LiveFeed
from web.login import TokenWall, remember
from web.metrics import Metrics
from web.params import BadParameter
from web.security import COOKIE, Guard, HostCheck, SecurityHeaders, with_headers
from web.server import Server, serve
from web.site_changes import Applying, SiteChanges
from web.status import Status

__all__ = [
    "NOBODY",
    "Applying",
    "Deciding",
    "LiveFeed",
    "Server",
    "Status",
    "change_site",
    "create_app",
    "serve",
]

NOBODY, NOT_HERE = Deciding(), Applying()


def create_app(
    results: Results,
    roster: Roster,
    *,
    status: Callable[[], Status],
    token: str | None,
    live: LiveFeed,
    hosts: Iterable[str] = (),
    deciding: Deciding = NOBODY,
    applying: Applying = NOT_HERE,
) -> Starlette:
    """Wires the app; ``serve`` runs it.

    ``status`` is called on the event loop and must not block. With a ``token`` every route but
    /livez asks for it; without one only this machine's names, and ``hosts``, are answered.
    ``deciding``: whether people may decide on register events here; ``applying``: whether a changed site file
    is taken here.
    Raises UsageError for an empty token.
    """
    guard, metrics = Guard(token), Metrics(status, live)
    page = _Page(guard)

    def routes(roster: Roster) -> list[Route]:
        return [
            Route("/", page.index),
            Route("/logout", page.logout, methods=["POST"]),
            Route("/static/{path:path}", page.static),
            *Api(results, roster, status, live, metrics).routes(),
            *Decisions(results, roster, deciding).routes(),
            *SiteChanges(applying).routes(),
        ]

    app = Starlette(
        routes=routes(roster),
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(HostCheck, allowed=None if guard.required else hosts),
            Middleware(TokenWall, guard=guard),
        ],
        exception_handlers={
            BadParameter: _bad_parameter,
            MeterflowError: _outside_wrong,
            HTTPException: _http_error,
            Exception: _failed,
        },
    )
    app.state.guard, app.state.metrics, app.state.live = guard, metrics, live
    app.state.routes = routes
    return app


def change_site(app: Starlette, roster: Roster) -> None:
    """From now on the page is of another site file; whoever has it open asks for it again."""
    app.router.routes[:] = app.state.routes(roster)


class _Page:
    """The page's files; opening the page prolongs the session."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._assets = assets.load()

    async def index(self, request: Request) -> Response:
        answer = assets.answer(request, self._assets["index.html"])
        if self._guard.required and COOKIE in request.cookies:
            remember(answer, request, self._guard)
        return answer

    async def static(self, request: Request) -> Response:
        return assets.answer(request, self._assets.get(request.path_params["path"]))

    async def logout(self, _: Request) -> Response:
        answer = RedirectResponse("/", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer


async def _bad_parameter(_: Request, error: Exception) -> Response:
    assert isinstance(error, BadParameter)
    return failure(error.what, error.hint, error.status)


async def _outside_wrong(_: Request, error: Exception) -> Response:
    assert isinstance(error, MeterflowError)
    status = 503 if error.retry else 400 if isinstance(error, UsageError) else 500
    answer = failure(error.what, error.hint, status)
    if error.retry:
        answer.headers["retry-after"] = "5"
    return answer


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = failure(error.detail, status=error.status_code)
    answer.headers.update(error.headers or {})
    return answer


async def _failed(_: Request, _error: Exception) -> Response:
    """A fault of ours; sent from outside the middleware, so it adds the headers itself."""
    answer = failure("something went wrong here", "the service's log has the details", 500)
    with_headers(answer.headers)
    return answer
