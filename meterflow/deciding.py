"""Publishes a decision over MQTT: of ``meterflow verdicts``, and of the page of the role ``web``."""

from __future__ import annotations

from metering.errors import MeterflowError, Unavailable
from simulators.mqtt_address import parse_address
from simulators.mqtt_sender import Sender
from simulators.recording import Message

PATIENCE_S = 10.0


def publish(url: str, user: str | None, password: str | None, topic: str, payload: bytes) -> None:
    """Returns when the message is acknowledged; blocks.

    Raises UsageError for a wrong address, MeterflowError when access is refused, Unavailable when nobody
    answers in time.
    """
    sender = Sender(parse_address(url, user, password), patience_s=PATIENCE_S)
    try:
        sender.send(Message(0, topic, 1, payload))
        if not sender.drain(2 * PATIENCE_S):
            hint = "Look whether the decision is listed before you send it again."
            raise Unavailable("the decision was not acknowledged in time", where=url, hint=hint)
        refused = next(iter(sender.counts.refused), "")
        if refused:
            hint = f"The login needs the right to write {topic}."
            raise MeterflowError(f"the decision was refused: {refused}", where=url, hint=hint)
    finally:
        sender.close()
