"""The collector's port to a broker: one connection, from its CONNECT to its end, never used twice.

Two clients stand behind it: our own codec (collector_codec.py) and paho-mqtt (collector_paho.py).
An acknowledgement given to a link that has ended is discarded: after a reconnect its packet id may
belong to another message.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Protocol

from ingest.broker_settings import Broker
from ingest.mqtt_client import BAD_CODES
from ingest.mqtt_events import Code, Publishes, Welcome
from ingest.mqtt_fields import QOS_MAX, REASON
from ingest.reasons import Reason
from metering.errors import Unavailable

CONNECT_S, ANSWER_S = 10.0, 10.0
"""How long a connection, and an answer on it, is waited for while nothing comes."""
BEHIND_S = 120.0
"""How long an answer is waited for while messages come: a broker puts it behind all that it sends again, and
sends all of that anew to whoever gives up and connects again."""
HANG_UP_S = 0.4
"""How long a broker is given to hang up first. To hang up with messages unread makes TCP take back what the
broker has not read yet: acknowledgements, and all of their messages would come again."""
_WHERE = "section mqtt of the settings"
_HINTS = {
    Code.BAD_USER_OR_PASSWORD: f"Check user and password_file in {_WHERE}.",
    Code.NOT_AUTHORIZED: f"Check user and password_file in {_WHERE}, and what the broker allows that user.",
    Code.CLIENT_ID_NOT_VALID: f"The broker does not like client_id in {_WHERE}: choose another.",
    Code.UNSUPPORTED_VERSION: f"An old broker: set protocol to 4 (MQTT 3.1.1) in {_WHERE}.",
    Code.SESSION_TAKEN_OVER: f"Another collector uses this client_id: give each its own in {_WHERE}.",
    Code.BANNED: "The broker has banned this client: ask its administrator.",
}
_WORDS = {
    Code.BAD_USER_OR_PASSWORD: "wrong user name or password",
    Code.NOT_AUTHORIZED: "not authorized",
    Code.CLIENT_ID_NOT_VALID: "client id not valid",
    Code.UNSUPPORTED_VERSION: "protocol version not supported",
    Code.SESSION_TAKEN_OVER: "another connection has taken over the session",
}


class Refused(Unavailable):
    """The broker does not take this client as it is set up: tried again, but slowly."""


class Taker(Protocol):
    """Who takes what a link receives; called in the event loop."""

    def published(self, link: Link, run: Publishes) -> None:
        """Messages, to be acknowledged by ``link.acknowledge`` in their order."""

    def refused(
        self, link: Link, topic: str, payload: bytes, packet_id: bytes, reason: Reason, detail: str
    ) -> None:
        """A message that cannot be read at all, to be acknowledged like the others."""


class Link(Protocol):
    """One connection. Its coroutines raise Unavailable when it ends meanwhile."""

    async def connect(self) -> Welcome:
        """Connects and takes up the session. Raises Unavailable, or Refused by the broker."""

    async def subscribe(self, filters: Sequence[str]) -> tuple[int, ...]:
        """The broker's reason code for each filter: the QoS granted, or from 0x80 on a refusal."""

    async def unsubscribe(self, filters: Sequence[str]) -> tuple[int, ...]:
        """The broker's reason code for each filter; none in MQTT 3.1.1."""

    def acknowledge(self, ids: Sequence[bytes]) -> bool:
        """Sends PUBACKs in this order; false when the connection has ended, and nothing was sent."""

    def hold(self, held: bool) -> None:
        """Stops reading from the broker, or goes on."""

    async def ended(self) -> Unavailable:
        """Waits for the end of the connection: why it ended."""

    async def close(self) -> None:
        """Says goodbye and waits a moment for the broker to hang up; the session stays with it."""


def check_welcome(broker: Broker, welcome: Welcome) -> None:
    """Raises Refused unless the broker takes us, with what readings need."""
    if welcome.code >= BAD_CODES:
        raise refusal(broker, welcome.code, str(welcome.given.get(REASON, "")))
    if welcome.given.get(QOS_MAX) == 0:
        hint = "A broker that keeps messages until they are acknowledged is needed."
        raise Refused("the broker does not do QoS 1", where=broker.url, hint=hint)


def refusal(broker: Broker, code: int, reason: str = "") -> Refused:
    """Why the broker did not let us in, or sent us away."""
    return Refused(
        f"the broker refuses the collector: {words(code, reason)}",
        where=broker.url,
        hint=_HINTS.get(_known(code), "The broker's own log says more."),
    )


def no_connection(broker: Broker, error: Exception) -> Unavailable:
    """Why there is no connection; Refused when it is a matter of certificates."""
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = f"Give its authority as ca_file in {_WHERE}, and the name that it is made for in url."
        what = f"the broker's certificate is not trusted: {error.verify_message}"
        return Refused(what, where=broker.url, hint=hint)
    if isinstance(error, ssl.SSLError):
        hint = f"Is it a TLS port? Does the broker ask for cert_file and key_file ({_WHERE})?"
        return Refused(f"no TLS with the broker: {error.reason or error}", where=broker.url, hint=hint)
    why = "it did not answer" if isinstance(error, TimeoutError) else getattr(error, "strerror", "")
    hint = f"Is it running? Check url in {_WHERE}. The collector keeps trying."
    return Unavailable(f"the broker cannot be reached: {why or error}", where=broker.url, hint=hint)


def words(code: int, reason: str = "") -> str:
    """A reason code for people, with what the broker adds to it."""
    known = _known(code)
    name = _WORDS.get(known) or known.name.lower().replace("_", " ")
    return f"{name} (0x{code:02x})" + (f", {reason}" if reason else "")


def _known(code: int) -> Code:
    try:
        return Code(code)
    except ValueError:
        return Code.UNSPECIFIED


def unanswered(now_s: float, asked_s: float, heard_s: float) -> bool:
    """Whether to wait no longer for an answer: nothing has come for long, or other things for very long."""
    return now_s - heard_s >= ANSWER_S or now_s - asked_s >= BEHIND_S
