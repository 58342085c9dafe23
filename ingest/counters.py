"""What ingest counts. Plain integers, written by the event loop that runs the endpoint."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ingest.decode import Decoded


@dataclass(slots=True)
class Hop:
    """One plant's books of the hop into the log: received = accepted + rejected, readings and decisions."""

    received: int = 0
    accepted: int = 0
    rejected: int = 0


@dataclass(slots=True)
class Counters:
    """Since the endpoint was made. Readings count once they are durable, acknowledged or not.

    ``connections``: open now; ``refusals``: clients not let in, by reason code; ``violations``:
    connections ended for a breach of the protocol, by reason code; ``append_error``: why the log
    does not take anything now, empty when it does; ``by_plant``: plant '' is none of the site's.
    """

    connections: int = 0
    connected: int = 0
    bytes: int = 0
    messages: int = 0
    acknowledged: int = 0
    batches: int = 0
    received: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    append_errors: int = 0
    append_error: str = ""
    by_plant: dict[str, Hop] = field(default_factory=dict)

    def add(self, decoded: Decoded) -> None:
        """Books a batch that the log has."""
        self.batches += 1
        self.received += decoded.received
        accepted = [(readings.plant, len(readings)) for readings in decoded.readings]
        accepted += [(plant, len(decided)) for plant, decided in decoded.decisions.items()]
        for plant, count in accepted:
            self.accepted += count
            hop = self._hop(plant)
            hop.received += count
            hop.accepted += count
        for rejected in decoded.rejected:
            self.rejected[str(rejected.row["reason"])] += 1
            hop = self._hop(rejected.plant)
            hop.received += 1
            hop.rejected += 1

    def _hop(self, plant: str) -> Hop:
        return self.by_plant.setdefault(plant, Hop())
