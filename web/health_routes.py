"""Liveness, readiness and metrics: the same of the page and of a role without one."""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from web.answers import encoded
from web.health import not_ready
from web.live import LiveFeed
from web.login import TokenWall
from web.metrics import Metrics
from web.security import Guard, HostCheck, SecurityHeaders
from web.status import Status


class Health:
    """The three routes of a part that says how it is; ``status`` is called on the event loop."""

    def __init__(self, status: Callable[[], Status], metrics: Metrics) -> None:
        self._status, self._metrics = status, metrics

    def routes(self) -> list[Route]:
        return [
            Route("/livez", self.livez),
            Route("/readyz", self.readyz),
            Route("/metrics", self.metrics),
        ]

    async def livez(self, _: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def readyz(self, _: Request) -> Response:
        reasons = not_ready(self._status())
        body = encoded({"ready": not reasons, "reasons": reasons})
        return Response(body, 503 if reasons else 200, media_type="application/json")

    async def metrics(self, _: Request) -> Response:
        body, media_type = self._metrics.exposition()
        return Response(body, headers={"content-type": media_type})


def create_health_app(status: Callable[[], Status], *, token: str | None) -> Starlette:
    """An app of these routes alone, for ``web.server.serve``; guarded like the page."""
    guard, live = Guard(token), LiveFeed()
    metrics = Metrics(status, live)
    app = Starlette(
        routes=[*Health(status, metrics).routes()],
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(HostCheck, allowed=None if guard.required else ()),
            Middleware(TokenWall, guard=guard),
        ],
    )
    app.state.guard, app.state.metrics, app.state.live = guard, metrics, live
    return app
