"""How many messages wait for their acknowledgement, and where the broker seems to stop."""

from __future__ import annotations

_TURNS = 100
_QUICK_S = 0.05


class Window:
    """QoS 1 messages received and not acknowledged, of one connection.

    ``limit``: how many the broker has under way at most, 0 while that is not known. No packet says
    it. It is taken for known when a hundred acknowledgements in a row found as many waiting as
    ever, and others came at once instead of each lot that was acknowledged.
    """

    def __init__(self) -> None:
        self.waiting = 0
        self.peak = 0
        self.limit = 0
        self._turns = 0
        self._acknowledged_s = 0.0

    def came(self, count: int, now_s: float) -> None:
        """Messages have come in."""
        if now_s - self._acknowledged_s > _QUICK_S:
            self._turns = 0
        self.waiting += count
        if self.waiting > self.peak:
            self.peak, self.limit, self._turns = self.waiting, 0, 0

    def acknowledged(self, count: int, now_s: float) -> None:
        """Their acknowledgements go out."""
        self._turns = self._turns + 1 if self.waiting == self.peak else 0
        self._acknowledged_s = now_s
        self.waiting -= count
        if self._turns >= _TURNS:
            self.limit = self.peak
