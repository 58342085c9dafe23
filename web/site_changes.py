"""A changed site file for the running service: ``/api/site/change``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from web.answers import encoded, failure, foreign, posted
from web.params import BadParameter

BODY_BYTES_MAX = 512 << 20
"""A site of a million points has some 150 MB."""
BUSY = 409


class Changes(Protocol):
    """Who applies site files. Its answers say how far it is."""

    def picture(self) -> dict[str, Any]: ...

    async def begin(self, files: Mapping[str, bytes]) -> dict[str, Any]:
        """``site.yaml`` and its policy pack. Raises UsageError for files that cannot be right."""

    async def stop(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Applying:
    """Whether a site file is taken here. ``changes`` None: not, ``hint`` says what to do."""

    changes: Changes | None = None
    hint: str = "start the service again with the changed site file"


class SiteChanges:
    """The routes: how far a change is, begin one, stop it."""

    def __init__(self, applying: Applying) -> None:
        self._changes, self._hint = applying.changes, applying.hint

    def routes(self) -> list[Route]:
        return [
            Route("/api/site/change", self.picture),
            Route("/api/site/change", self.begin, methods=["POST"]),
            Route("/api/site/change", self.stop, methods=["DELETE"]),
        ]

    async def picture(self, _: Request) -> Response:
        """The newest change since the service was started."""
        if self._changes is None:
            return self._nowhere()
        return _told(self._changes.picture())

    async def begin(self, request: Request) -> Response:
        """Takes the files, all or nothing; answers when work has begun."""
        if self._changes is None:
            return self._nowhere()
        return foreign(request, "site file") or _told(await self._changes.begin(await _files(request)))

    async def stop(self, request: Request) -> Response:
        """Ends the change that is being worked out; the site file before stays in force."""
        if self._changes is None:
            return self._nowhere()
        return foreign(request, "stop") or _told(await self._changes.stop())

    def _nowhere(self) -> Response:
        return failure("a site file is not taken here", self._hint, 403)


def _told(picture: dict[str, Any]) -> Response:
    return Response(encoded(picture), media_type="application/json")


async def _files(request: Request) -> dict[str, bytes]:
    """The posted files: name -> text. Raises BadParameter."""
    shape = "is sent as a JSON object: file name -> text"
    given = await posted(request, BODY_BYTES_MAX, "a site file", shape)
    if not all(isinstance(text, str) for text in given.values()):
        raise BadParameter(f"a site file {shape}")
    if "site.yaml" not in given or any(name != name.strip("./") or "/" in name for name in given):
        raise BadParameter("files are site.yaml and policy packs, without folders")
    return {name: text.encode() for name, text in given.items()}
