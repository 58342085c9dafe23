"""Sites with a store of their own, really served; and Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from metering.roster import Roster
from sinks.store_duckdb import DuckStore, open_store
from tests.web.web_browser import Opening
from tests.web.web_site import DYE, STEEL, Served, Site, site
from web.app import NOBODY, Deciding

CHROMIUM = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture
def new_site(tmp_path: Path) -> Iterator[Callable[[Roster], Site]]:
    """Makes sites with a store of their own."""
    stores: list[DuckStore] = []

    def make(roster: Roster) -> Site:
        store, _ = open_store(tmp_path / f"results-{len(stores)}.duckdb")
        stores.append(store)
        return Site(roster, store)

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def served(new_site: Callable[[Roster], Site]) -> Iterator[Callable[..., Served]]:
    """Serves sites; the default one has two plants and no rows."""
    running: list[Served] = []

    def start(roster: Roster | None = None, token: str | None = None, deciding: Deciding = NOBODY) -> Served:
        running.append(Served(new_site(roster or site(STEEL, DYE)), token, deciding))
        return running[-1]

    yield start
    for one in running:
        one.stop()


@pytest.fixture(scope="session")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str | None], Served]]:
    """Empty services that several tests only ask: one for each token, started once."""
    running: dict[str | None, Served] = {}
    stores: list[DuckStore] = []

    def ask(token: str | None = None) -> Served:
        if token not in running:
            store, _ = open_store(tmp_path_factory.mktemp("standing") / "results.duckdb")
            stores.append(store)
            running[token] = Served(Site(site(STEEL, DYE), store), token)
        running[token].client.cookies.clear()
        return running[token]

    yield ask
    for one in running.values():
        one.stop()
    for store in stores:
        store.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium; in CI it must be there.

    Not for longer than a module: playwright keeps an event loop in the main thread, in which no
    other test could start one.
    """
    path = shutil.which("chromium")
    if path is None and os.environ.get("CI"):
        pytest.fail("Chromium is missing: apt-get install chromium")
    if path is None:
        pytest.skip("Chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM))
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Browser) -> Iterator[Opening]:
    """Opens pages that must stay free of errors and must ask nobody but their own service."""
    contexts, complaints, foreign = [], list[str](), list[str]()

    def open_page(one: Served, path: str = "/", **options: Any) -> Page:
        settings = {
            "viewport": ViewportSize(width=1366, height=900),
            "timezone_id": "America/New_York",
            "locale": "en-US",
            **options,
        }
        context = chromium.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on(
            "request", lambda r: foreign.append(r.url) if urlsplit(r.url).hostname != "127.0.0.1" else None
        )
        page.goto(one.address + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert (complaints, foreign) == ([], [])
