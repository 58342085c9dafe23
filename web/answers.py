"""JSON answers: exact decimals as numbers, instants in RFC 3339, compressed when it pays."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from metering.instants import rfc3339
from metering.tables import TABLES, Kind
from web.params import BadParameter

GZIP_BYTES_MIN = 1_000
_ENCODER = msgspec.json.Encoder(decimal_format="number")


def readable(table: str, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with their instants as texts."""
    times = [column.name for column in TABLES[table].columns if column.kind is Kind.TIME]
    return [{**row, **{name: rfc3339(row[name]) for name in times if name in row}} for row in rows]


def encoded(value: object) -> bytes:
    """JSON; amounts keep every digit, what is not a number (NaN) is null."""
    return _ENCODER.encode(value)


def packed(
    request: Request, body: bytes, media_type: str = "application/json", status: int = 200
) -> Response:
    """An answer, compressed if the client takes it. Costs time: call it off the event loop."""
    headers = {"vary": "accept-encoding"}
    if len(body) >= GZIP_BYTES_MIN and "gzip" in request.headers.get("accept-encoding", ""):
        body = gzip.compress(body, 5, mtime=0)
        headers["content-encoding"] = "gzip"
    return Response(body, status, headers, media_type)


def failure(what: str, hint: str = "", status: int = 400) -> Response:
    """What was wrong, and what to do about it, as JSON."""
    body = {"error": what, "hint": hint} if hint else {"error": what}
    return Response(encoded(body), status, media_type="application/json")


def foreign(request: Request, what: str) -> Response | None:
    """Why ``what`` is not taken from whoever sends this request, None where it is.

    A page of another site can have a browser send requests here, but neither with our Origin nor, without
    asking first, as JSON.
    """
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        return failure(f"the {what} was sent from another page", "open this service's own page", 403)
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return failure(f"a {what} is sent as application/json", status=415)
    return None


async def posted(request: Request, bytes_max: int, what: str, shape: str) -> dict[str, Any]:
    """The posted object. Raises BadParameter: ``what`` is too long, or no object, as ``shape`` says."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > bytes_max:
            raise BadParameter(f"{what} has at most {bytes_max} bytes", status=413)
    try:
        given = json.loads(body)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise BadParameter(f"{what} {shape}")
    return given
