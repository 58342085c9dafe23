"""Publishes the recordings of a world by their doors, over whatever happens to the other side."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from simulators.recording import write_recording
from simulators.replay import ReplayProgress, replay
from tests.chaos.world import messages_between

PATIENCE_S = 600.0
WINDOW = 200


@dataclass(slots=True)
class Door:
    """One recording on its way; ``told``: when how many messages from the first on were acknowledged."""

    name: str
    recording: Path
    url: str
    told: list[tuple[float, int]] = field(default_factory=list)
    acknowledged: int = 0
    resent: int = 0
    reconnects: int = 0

    async def publish(self) -> None:
        """Until every message is acknowledged."""
        report = await replay(
            [self.recording],
            self.url,
            1,
            window_messages=WINDOW,
            patience_s=PATIENCE_S,
            progress=self._note,
        )
        self.acknowledged = report.acknowledged
        self.resent, self.reconnects = report.resent, report.reconnects
        if report.refused:
            raise AssertionError(f"{self.name} refused messages: {report.refused}")

    def _note(self, progress: ReplayProgress) -> None:
        self.told.append((time.monotonic(), progress.done))

    def done_at(self, at_s: float) -> int:
        """How many messages were surely acknowledged at an instant."""
        return max((done for told_s, done in self.told if told_s <= at_s), default=0)

    async def again(self, from_s: float, to_s: float) -> int:
        """Publishes once more what was acknowledged between two instants; how many messages."""
        first = self.done_at(from_s)
        until = max((done for told_s, done in self.told if told_s <= to_s), default=0) + WINDOW
        part = self.recording.with_name(f"{self.name}-again.ndjson")
        with write_recording(part) as recording:
            recording.write_all(messages_between(self.recording, first, until))
        report = await replay([part], self.url, None, window_messages=WINDOW, patience_s=PATIENCE_S)
        return report.acknowledged


async def publish_all(doors: list[Door]) -> None:
    """All of them side by side."""
    await asyncio.gather(*(door.publish() for door in doors))
