"""What browser tests look at: the first card, and what its chart has drawn."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page

from tests.web.web_site import MINUTE_MS, Served

Serving = Callable[..., Served]
Opening = Callable[..., Page]
FIRST = ".card[data-scope='plant:steel-1'] .figure[data-id='kwh-per-t']"


def now_ms() -> int:
    return int(time.time() * 1000) // MINUTE_MS * MINUTE_MS


def drawn(page: Page, where: str = FIRST) -> dict[str, Any]:
    """What the chart library was given to draw, and the stretches marked as empty."""
    page.wait_for_selector(f"{where} .chart canvas")
    return page.eval_on_selector(  # type: ignore[no-any-return]
        f"{where} .chart", "e => ({data: e.plot.data.map(c => [...c]), gaps: Number(e.dataset.gaps)})"
    )


def ink(page: Page, from_ms: int, to_ms: int, where: str = FIRST) -> int:
    """How many pixels of the line's colour lie between two instants."""
    script = """(e, [from, to]) => {
        const u = e.plot, [left, right] = [from, to].map(t => u.valToPos(t / 1000, 'x', true));
        const pen = document.createElement('canvas').getContext('2d');
        pen.fillStyle = getComputedStyle(e).getPropertyValue('--series'); pen.fillRect(0, 0, 1, 1);
        const [r, g, b] = pen.getImageData(0, 0, 1, 1).data;
        const copy = document.createElement('canvas');
        [copy.width, copy.height] = [right - left, u.bbox.height];
        const into = copy.getContext('2d', {willReadFrequently: true});
        into.drawImage(u.ctx.canvas, -left, -u.bbox.top);
        const {data} = into.getImageData(0, 0, right - left, u.bbox.height);
        let count = 0;
        for (let i = 0; i < data.length; i += 4)
            if (Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b) < 60) count++;
        return count; }"""
    return page.eval_on_selector(f"{where} .chart", script, [from_ms, to_ms])  # type: ignore[no-any-return]
