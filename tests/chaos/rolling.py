"""A rolling change of version and back, while everything else goes on: T29.

Copy by copy is stopped and started again from another tree, so that both versions work side by side on the
same topics, states and stores for a while.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.faults import stopped

if TYPE_CHECKING:
    from tests.chaos.run import Run
    from tests.chaos.stack import One

READY_S = 120.0


async def other_versions(run: Run) -> None:
    """After a third of the run the earlier version, after two thirds this one again."""
    earlier = run.asked.earlier
    if earlier is None:
        return
    for part, code in ((1 / 3, earlier), (2 / 3, None)):
        await asyncio.sleep(max(0.0, run.began_s + part * run.asked.seconds - time.monotonic()))
        for one in [one for one in run.stack.copies if one.wanted]:
            await _changed(run, one, code)
        run.note(f"all copies are of {'this version' if code is None else 'the earlier version'}")
        run.counts["other version (all)"] += 1


async def _changed(run: Run, one: One, code: Path | None) -> None:
    while one.busy or not one.pid:
        if not one.wanted:
            return
        await asyncio.sleep(0.1)
    one.busy = True
    try:
        run.wrong += await asyncio.to_thread(stopped, one)
        one.code = code
        one.launch()
        until_s = time.monotonic() + READY_S
        while one.pid and await asyncio.to_thread(one.copy.status, "/readyz") != 200:
            if time.monotonic() > until_s:  # whatever it waits for: the next one is not kept from its turn
                run.note(f"{one.name} is not ready yet: {one.copy.reasons()}")
                break
            await asyncio.sleep(0.2)
    finally:
        one.busy = False
