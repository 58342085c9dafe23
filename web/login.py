"""The login form, shown instead of any page while a token is wanted and not given."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from web.security import CONTENT_POLICY, COOKIE, COOKIE_AGE_S, OPEN_PATHS, Guard

BODY_BYTES_MAX = 4_096
_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:1.1rem/1.5 system-ui,sans-serif;display:grid;place-content:center;min-height:90vh;margin:1rem}"
    "form{display:grid;gap:.75rem;width:min(22rem,88vw)}"
    "input,button{font:inherit;padding:.6rem .8rem;border-radius:.5rem;border:1px solid #888}"
    "button{background:#0b5394;color:#fff;border:0}h1{font-size:1.4rem;margin:0}p{margin:0}"
    "[role=alert]{color:#c62828;font-weight:600}"
    "@media(prefers-color-scheme:dark){[role=alert]{color:#ff8a80}}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"{CONTENT_POLICY}; style-src 'self' 'sha256-{_STYLE_HASH}'"


def form(message: str = "", status: int = 401) -> Response:
    """The form as a page of its own: its style is inside, since nothing else is given unasked."""
    alert = f'<p role="alert">{escape(message)}</p>' if message else ""
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>meterflow: log in</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><main><form method=post action=/login><h1>meterflow</h1>"
        f"<p>This page asks for its token.</p>{alert}<label for=token>Token</label>"
        "<input id=token name=token type=password autocomplete=current-password required autofocus>"
        "<button>Log in</button></form></main></body></html>"
    )
    headers = {"content-security-policy": _POLICY, "www-authenticate": 'Bearer realm="meterflow"'}
    return HTMLResponse(page, status, headers if status == 401 else {**headers, "retry-after": "60"})


class TokenWall:
    """Lets a request with the token through; answers all others itself."""

    def __init__(self, app: ASGIApp, *, guard: Guard) -> None:
        self.app = app
        self.guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or not self.guard.required:
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        if request.url.path == "/login" and request.method == "POST":
            await (await self._log_in(request))(scope, receive, send)
        elif self.guard.admits(request):
            await self.app(scope, receive, send)
        else:
            await _refusal(request)(scope, receive, send)

    async def _log_in(self, request: Request) -> Response:
        address = request.client.host if request.client else ""
        if self.guard.blocked(address):
            return form("Too many wrong tokens. Wait a minute.", 429)
        if not _own_origin(request):
            return form("The form was sent from another page.")
        if not self.guard.accepts(await _posted_token(request)):
            self.guard.failed(address)
            return form("That is not the token.")
        answer = RedirectResponse("/", 303)
        remember(answer, request, self.guard)
        return answer


def remember(answer: Response, request: Request, guard: Guard) -> None:
    """Sets the session cookie, which scripts cannot read and other sites cannot send."""
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, guard.cookie(), COOKIE_AGE_S, httponly=True, samesite="strict", secure=secure)


def _own_origin(request: Request) -> bool:
    """Browsers name the page a form was sent from; other clients name none."""
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


async def _posted_token(request: Request) -> str:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            return ""
    return parse_qs(body.decode(errors="replace")).get("token", [""])[0]


def _refusal(request: Request) -> Response:
    if "text/html" in request.headers.get("accept", ""):
        return form()
    error = {"error": "a token is needed", "hint": "send it as 'Authorization: Bearer TOKEN', or log in at /"}
    return JSONResponse(error, 401, {"www-authenticate": 'Bearer realm="meterflow"'})
