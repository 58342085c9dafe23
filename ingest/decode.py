"""Messages in, readings, decisions and refusals out (interface.md, "Topics and payloads").

A batch goes through decode_plain.py, what that leaves through decode_fast.py, and what neither takes is
read by decode_exact.py, which names every fault. Nothing leaves without a trace: received = accepted +
rejected, counted in readings and decisions; a message refused as a whole counts one.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ingest.columns import Columns, by_plant, from_readings, joined
from ingest.decide import read_decisions
from ingest.decode_exact import Refusal, read_message
from ingest.decode_fast import decode_fast
from ingest.decode_plain import decode_plain
from ingest.directory import Directory, Route, plant_of_topic
from ingest.evidence import Origin, Senders, users
from ingest.judge import Reading
from ingest.kafka_values import Values
from ingest.numbers import Fault
from ingest.reasons import Reason
from metering.decisions import Decision
from metering.readings import Readings
from metering.roster import Roster

T = TypeVar("T")
Ints = NDArray[np.int64]
NO_DECIDER = (
    "who sent it may not decide: a user needs 'decide: true' in the file of users, a broker the section"
    " 'decisions' in the settings"
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """Messages that one client sent at one time; ``topics`` and ``payloads`` have one length.

    ``plants``: those the client may publish for, None: all. ``decides``: whether it may send people's
    decisions. ``login``: its user name, where it had to give one.
    """

    topics: Sequence[str]
    payloads: Sequence[bytes]
    received_ms: int
    plants: frozenset[str] | None = None
    decides: bool = True
    login: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row of the table ``rejected``; ``plant``: the one its topic names, if it is known."""

    plant: str
    row: dict[str, object]


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of a batch. ``readings``, ``decisions``: one for each plant. ``received``: at entry."""

    readings: list[Readings]
    rejected: list[Rejected]
    received: int
    decisions: Mapping[str, list[Decision]] = field(default_factory=dict)


@dataclass(slots=True)
class _Exact:
    """What the exact reading of messages gave."""

    taken: list[Reading] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    rejected: list[tuple[int, Rejected]] = field(default_factory=list)
    decisions: dict[str, list[Decision]] = field(default_factory=dict)
    received: int = 0


class Batch:
    """Messages one after the other; ``codes``: where their topics lead, ``received``: UTC ms of each."""

    def __init__(self, codes: list[int], payloads: list[bytes], received: Ints) -> None:
        self.codes, self.payloads, self.received = codes, payloads, received
        self.leads, self.values = np.array(codes, np.int64), Values.of(payloads)


class Decoder:
    """Knows the roster; ``roster`` may be replaced between two batches.

    ``evidence``: whether readings get it; what is only computed does without. ``payloads``: whether the raw
    bytes of messages are a part of it; may be assigned.
    """

    def __init__(self, roster: Roster, *, evidence: bool = True) -> None:
        self._directory = Directory(roster)
        self._evidence = evidence
        self.payloads = False

    @property
    def roster(self) -> Roster:
        return self._directory.roster

    @roster.setter
    def roster(self, roster: Roster) -> None:
        if roster is not self._directory.roster:
            self._directory = Directory(roster)

    def know(self, directory: Directory) -> None:
        """As assigning its roster, at once: the directory may have been made in another thread."""
        self._directory = directory

    def decode(self, deliveries: Sequence[Delivery]) -> Decoded:
        """Takes what can be taken; rejections are in the order of receipt."""
        topics = [topic for delivery in deliveries for topic in delivery.topics]
        payloads = [payload for delivery in deliveries for payload in delivery.payloads]
        counts = [len(delivery.topics) for delivery in deliveries]
        stamps = np.array([delivery.received_ms for delivery in deliveries], np.int64)
        batch = Batch(self._codes(deliveries, topics), payloads, np.repeat(stamps, counts))
        columns, others = self._quickly(batch)
        exact = _Exact(received=len(columns))
        if others:
            senders = [delivery for delivery in deliveries for _ in delivery.topics]
            for i in others:
                self._exactly(exact, i, topics[i], payloads[i], senders[i])
            columns = joined(columns, from_readings(exact.taken, exact.order))
        origin = None
        if self._evidence:
            user = users([delivery.login for delivery in deliveries], counts)
            where = Senders(batch.leads, self._directory.topic_of_code, user, self.roster.version)
            origin = Origin(where, batch.values, columns.order, keep=self.payloads)
        readings = by_plant(self._directory, columns, batch.received, origin)
        rejected = [one for _, one in exact.rejected]
        return Decoded(readings, rejected, exact.received, exact.decisions)

    def _quickly(self, batch: Batch) -> tuple[Columns, Sequence[int]]:
        """The quick ways; should one fail by a mistake of ours, there is the exact one."""
        try:
            return quickly(self._directory, batch)
        except Exception:  # noqa: BLE001
            _log.exception("a batch of %d messages could not be decoded at once", len(batch.codes))
            return from_readings((), ()), range(len(batch.codes))

    def _codes(self, deliveries: Sequence[Delivery], topics: list[str]) -> list[int]:
        """Where each topic leads; where its client may not publish: nowhere."""
        get, unknown = self._directory.codes.get, Directory.UNKNOWN
        codes = [get(topic, unknown) for topic in topics]
        start = 0
        for delivery in deliveries:
            if delivery.plants is not None:
                for i in range(start, start + len(delivery.topics)):
                    if codes[i] != unknown and self._directory.plant_of_code(codes[i]) not in delivery.plants:
                        codes[i] = unknown
            start += len(delivery.topics)
        return codes

    def _exactly(self, exact: _Exact, i: int, topic: str, payload: bytes, sender: Delivery) -> None:
        route = self._route(topic, sender)
        taken: list[Reading] = []
        decided: list[Decision] = []
        if isinstance(route, Fault):
            refused = [Refusal(None, None, route.reason, route.detail, None)]
        elif route.decision:
            decided, refused = self._read(read_decisions, route, payload, sender.received_ms, sender.login)
            if decided:
                exact.decisions.setdefault(route.plant, []).extend(decided)
        else:
            taken, refused = self._read(read_message, route, payload, sender.received_ms)
        exact.received += len(taken) + len(decided) + len(refused)
        exact.taken += taken
        exact.order += [i] * len(taken)
        exact.rejected += [(i, self.rejected(topic, payload, sender.received_ms, one)) for one in refused]

    def _route(self, topic: str, sender: Delivery) -> Route | Fault:
        """Where a topic leads for who sent it."""
        plant = plant_of_topic(topic)
        if sender.plants is not None and plant is not None and plant not in sender.plants:
            return Fault(Reason.NOT_PERMITTED, "the user may not publish for this plant")
        route = self._directory.route(topic)
        if isinstance(route, Route) and route.decision and not sender.decides:
            return Fault(Reason.NOT_PERMITTED, NO_DECIDER)
        return route

    def _read(
        self, read: Callable[..., tuple[list[T], list[Refusal]]], route: Route, payload: bytes, *more: object
    ) -> tuple[list[T], list[Refusal]]:
        """A mistake of ours must cost its message, not the service: meters would send it for ever."""
        try:
            return read(self._directory, route, payload, *more)
        except Exception as error:  # noqa: BLE001
            _log.exception(
                "a message of %d bytes for plant %s could not be decoded", len(payload), route.plant
            )
            return [], [Refusal(None, None, Reason.NOT_DECODED, type(error).__name__, None)]

    def rejected(self, topic: str, payload: bytes, received_ms: int, refusal: Refusal) -> Rejected:
        """The row that tells of a refusal."""
        plant = plant_of_topic(topic)
        row: dict[str, object] = {
            "received": received_ms,
            "topic": topic,
            "point": refusal.point,
            "time": refusal.time,
            "reason": refusal.reason.value,
            "detail": refusal.detail,
            "payload": payload_text(payload) if refusal.payload is None else refusal.payload,
        }
        return Rejected(plant if plant is not None and plant in self._directory.names else "", row)


def quickly(directory: Directory, batch: Batch) -> tuple[Columns, list[int]]:
    """What is plain, many messages at once, and the numbers of the messages that are not."""
    columns, left = decode_plain(directory, batch.leads, batch.values, batch.received)
    if not len(left):
        return columns, []
    if len(left) == len(batch.codes):
        return decode_fast(directory, batch.codes, batch.payloads, batch.received)
    numbers = left.tolist()
    codes, payloads = [batch.codes[i] for i in numbers], [batch.payloads[i] for i in numbers]
    more, others = decode_fast(directory, codes, payloads, batch.received[left])
    return joined(columns, replace(more, order=left[more.order])), left[others].tolist()


def payload_text(payload: bytes) -> str:
    """A payload for a text column: itself when it is text that every store takes, else base64."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        text = "\0"
    return text if "\0" not in text else "base64:" + base64.b64encode(payload).decode()
