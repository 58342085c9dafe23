"""The page's own files, held in memory: a few hundred kilobytes, compressed once."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from web.answers import failure

FOLDER = Path(__file__).parent / "static"
_MEDIA_TYPES = {
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
_TEXTS = ("text/", "image/svg", "application/manifest")


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: plain, compressed (the same object where that does not pay), and its identity."""

    body: bytes
    packed: bytes
    media_type: str
    etag: str


def load(folder: Path = FOLDER) -> dict[str, Asset]:
    """Every file of the folder by its path below it."""
    return {str(p.relative_to(folder)): _asset(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def _asset(path: Path) -> Asset:
    body = path.read_bytes()
    media_type = _MEDIA_TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "text/plain"
    packed = gzip.compress(body, 9, mtime=0) if media_type.startswith(_TEXTS) else body
    return Asset(body, packed, media_type, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def answer(request: Request, asset: Asset | None) -> Response:
    """The file, or 304 when the client has it already; it asks each time, so a new version shows."""
    if asset is None:
        return failure("there is no such page", status=404)
    headers = {"etag": asset.etag, "cache-control": "no-cache", "vary": "accept-encoding"}
    if asset.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if asset.packed is not asset.body and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(
            asset.packed, headers={**headers, "content-encoding": "gzip"}, media_type=asset.media_type
        )
    return Response(asset.body, headers=headers, media_type=asset.media_type)
