"""Who may read, and what every answer carries."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metering.errors import UsageError
from metering.roster import Roster
from tests.web.web_site import STEEL, Served, Site, site
from web.app import create_app, serve
from web.security import COOKIE, Guard, is_loopback

Serving = Callable[..., Served]
NewSite = Callable[[Roster], Site]
TOKEN = "correct horse battery staple 17"
PATHS = (
    "/",
    "/static/app.js",
    "/static/vendor/uPlot.esm.js",
    "/static/nothing",
    "/api/site",
    "/api/overview",
    "/api/rows/intensity",
    "/api/rows/nothing",
    "/api/series",
    "/api/plant/steel-1",
    "/api/export/intensity",
    "/readyz",
    "/metrics",
    "/nowhere",
    "/login",
    "/logout",
    "/docs",
    "//api/site",
    "/LIVEZ",
    "/livez/../api/site",
)
POLICY = ("default-src 'self'", "object-src 'none'", "frame-ancestors 'none'", "base-uri 'none'")


def app_of(one: Site, token: str | None = None) -> Starlette:
    return create_app(one.store, one.roster, status=lambda: one.state, token=token, live=one.live)


def assert_secured(answer: httpx.Response) -> None:
    policy = answer.headers["content-security-policy"]
    assert all(part in policy for part in POLICY)
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize("path", [*PATHS, "/livez"])
def test_every_answer_carries_the_security_headers(standing: Serving, path: str) -> None:
    """Good answers, errors and unknown pages alike, with any method."""
    client = standing().client
    for method in ("GET", "HEAD", "POST", "OPTIONS", "TRACE"):
        assert_secured(client.request(method, path))


def test_a_fault_of_ours_carries_the_headers_and_no_trace(new_site: NewSite) -> None:
    """An exception gives a plain 500, nothing of the code in it."""
    one = new_site(site(STEEL))
    app = app_of(one)

    async def broken(_: Request) -> Response:
        raise ZeroDivisionError

    app.router.routes.append(Route("/broken", broken))

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/broken")

    answer = asyncio.run(ask())
    assert answer.status_code == 500
    assert "ZeroDivision" not in answer.text
    assert_secured(answer)


@pytest.mark.parametrize("path", [*PATHS, "/events"])
def test_with_a_token_nothing_is_given_without_it(standing: Serving, path: str) -> None:
    """Every route but /livez answers 401, with every method and with wrong tokens of every kind."""
    client = standing(TOKEN).client
    for method in ("GET", "HEAD", "OPTIONS", "PUT"):
        assert client.request(method, path).status_code == 401
    for wrong in ("", "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer \xff"):
        answer = client.get(path, headers=[(b"authorization", wrong.encode("latin-1"))])
        assert answer.status_code == 401
        assert_secured(answer)


def test_liveness_asks_for_no_token(standing: Serving) -> None:
    """A supervisor can tell that the process lives."""
    assert standing(TOKEN).client.get("/livez").text == "alive\n"


def test_a_bearer_token_opens_everything(standing: Serving) -> None:
    """Scripts and Prometheus send it in the header."""
    client = standing(TOKEN).client
    for path in ("/", "/api/site", "/metrics", "/readyz", "/static/app.js"):
        assert client.get(path, headers={"authorization": f"bearer {TOKEN}"}).status_code == 200


def test_a_browser_logs_in_by_a_form_and_stays_logged_in(standing: Serving) -> None:
    """The cookie is out of reach of scripts and other sites, and does not hold the token."""
    client = standing(TOKEN).client
    page = client.get("/", headers={"accept": "text/html"})
    assert page.status_code == 401
    assert "<form" in page.text
    answer = client.post("/login", data={"token": TOKEN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert client.get("/api/site").status_code == 200
    client.post("/logout")
    assert client.get("/api/site").status_code == 401


def test_a_wrong_token_in_the_form_is_refused_and_said(standing: Serving) -> None:
    """The form comes again with the reason; no cookie is set."""
    answer = standing(TOKEN).client.post("/login", data={"token": "guess"})
    assert answer.status_code == 401
    assert "not the token" in answer.text
    assert "set-cookie" not in answer.headers


def test_guessing_is_slowed_down(served: Serving) -> None:
    """After ten failures a minute even the right token has to wait."""
    client = served(token=TOKEN).client
    statuses = [client.post("/login", data={"token": f"guess {i}"}).status_code for i in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    assert client.post("/login", data={"token": TOKEN}).status_code == 429
    assert client.get("/api/site", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_a_form_of_another_site_logs_nobody_in(standing: Serving) -> None:
    """A login forced by a foreign page is refused by its origin."""
    headers = {"origin": "http://evil.example"}
    answer = standing(TOKEN).client.post("/login", data={"token": TOKEN}, headers=headers)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_an_endless_login_form_is_not_read_to_its_end(standing: Serving) -> None:
    """Ten megabytes in the form are a wrong token."""
    answer = standing(TOKEN).client.post("/login", content=b"token=" + b"x" * 10_000_000)
    assert answer.status_code == 401


def test_another_token_ends_every_session() -> None:
    """The cookie is derived from the token."""
    assert Guard(TOKEN).cookie() == Guard(TOKEN).cookie() != Guard(TOKEN + "2").cookie()


def test_a_forged_cookie_opens_nothing(standing: Serving) -> None:
    """Not even the token itself in the cookie does."""
    client = standing(TOKEN).client
    for value in ("", TOKEN.replace(" ", ""), "0" * 64):
        assert client.get("/api/site", headers={"cookie": f"{COOKIE}={value}"}).status_code == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "[::2]"]
)
def test_without_a_token_foreign_host_names_are_refused(standing: Serving, host: str) -> None:
    """A page whose name was rebound to 127.0.0.1 gets nothing."""
    answer = standing().client.get("/api/site", headers={"host": host})
    assert answer.status_code in (400, 421)
    assert "plants" not in answer.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:18080", "[::1]:18080", "127.8.8.8"])
def test_without_a_token_this_machines_names_are_answered(standing: Serving, host: str) -> None:
    """By whatever name and port it was reached."""
    assert standing().client.get("/api/site", headers={"host": host}).status_code == 200


def test_without_a_token_nothing_is_served_beyond_this_machine(new_site: NewSite) -> None:
    """The refusal says what to do, and nothing listens."""
    app = app_of(new_site(site(STEEL)))
    for host in ("0.0.0.0", "::", "192.0.2.1", "plant.example"):
        with pytest.raises(UsageError, match="without a token") as caught:
            asyncio.run(serve(app, host, 0))
        assert "configure a token" in caught.value.hint


def test_with_a_token_it_is_served_beyond_this_machine(new_site: NewSite) -> None:
    """The wall screen's browser may be elsewhere."""

    async def run() -> int:
        server = await serve(app_of(new_site(site(STEEL)), TOKEN), "0.0.0.0", 0)
        try:
            async with httpx.AsyncClient() as client:
                return (
                    await client.get(f"http://127.0.0.1:{server.port}/", headers={"host": "wall"})
                ).status_code
        finally:
            await server.stop()

    assert asyncio.run(run()) == 401


def test_an_empty_token_is_refused(new_site: NewSite) -> None:
    """A setting that was left blank must not open the page to everybody."""
    for token in ("", "  "):
        with pytest.raises(UsageError, match="token is empty"):
            app_of(new_site(site(STEEL)), token)


def test_a_port_in_use_is_a_usage_error_with_a_hint(new_site: NewSite) -> None:
    """Exit code 2, with where and what to do."""
    app = app_of(new_site(site(STEEL)))
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UsageError) as caught:
        asyncio.run(serve(app, "127.0.0.1", taken.getsockname()[1]))
    assert "in use" in caught.value.what
    assert "--http-port" in caught.value.hint


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70_000), ("127.0.0.1", -1)])
def test_an_address_that_cannot_be_is_a_usage_error(new_site: NewSite, host: str, port: int) -> None:
    """No traceback for a wrong number."""
    with pytest.raises(UsageError, match="cannot listen"):
        asyncio.run(serve(app_of(new_site(site(STEEL))), host, port))


def test_loopback_addresses_are_told_from_others() -> None:
    """Only what no other machine can reach counts."""
    assert all(map(is_loopback, ("127.0.0.1", "127.3.2.1", "::1", "[::1]", "localhost")))
    assert not any(
        map(is_loopback, ("0.0.0.0", "::", "", "10.0.0.1", "localhost.example", "127.0.0.1.example"))
    )
