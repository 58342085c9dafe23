"""The broker that a collector subscribes to: section ``mqtt`` of the settings file, and its checks."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from ingest.mqtt_events import V3, V5
from metering.errors import UsageError

PORTS = {"mqtt": 1883, "mqtts": 8883}
WEEK_S = 7 * 86_400
_WHERE = "settings, section mqtt"
_NUMBERS = {
    "session_expiry_s": (1, 0xFFFFFFFF),
    "receive_maximum": (1, 65_535),
    "packet_bytes": (1_024, 0xFFFFFFFF),
    "keep_alive_s": (1, 65_535),
}
"""What fits the fields of a CONNECT; a session of 0 s would be none."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where and how a collector subscribes. Made of wrong values, it raises UsageError.

    ``client_id``: the session's identity, fixed, another one for each collector; ``filters``: what it
    subscribes to, disjoint between collectors; ``session_expiry_s``: how long the broker keeps the
    session while the collector is away (MQTT 3.1.1: the broker's own setting decides);
    ``receive_maximum``: QoS 1 messages that may wait for their PUBACK, which is also what may come
    twice after a kill; ``packet_bytes``: an MQTT 5 broker drops what is larger; ``protocol``: 5, or
    4 for MQTT 3.1.1; ``client``: which client is used, ours ("native") or paho-mqtt ("paho");
    ``decisions``: whether people's decisions are taken, from whomever the broker lets publish them;
    ``watch_drops``: subscribe, too, to Mosquitto's count of messages it had no room for;
    ``retry_s``, ``retry_s_max``: the first and the longest pause before the next try to connect.
    """

    url: str
    client_id: str = "meterflow-collector"
    filters: tuple[str, ...] = ("meterflow/v1/#",)
    user: str = ""
    password: str = field(default="", repr=False)
    session_expiry_s: int = WEEK_S
    receive_maximum: int = 1_000
    packet_bytes: int = 1 << 20
    keep_alive_s: int = 30
    protocol: int = V5
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    client: Literal["native", "paho"] = "native"
    decisions: bool = False
    watch_drops: bool = True
    retry_s: float = 0.5
    retry_s_max: float = 30.0

    def __post_init__(self) -> None:
        _check_url(self.url)
        _check_identity(self)
        _check_filters(self.filters)
        _check_numbers(self)
        if (self.cert_file is None) != (self.key_file is None):
            raise UsageError("cert_file and key_file belong together", where=_WHERE)
        if self.client not in ("native", "paho"):
            raise UsageError(f"there is no client {self.client!r}", where=_WHERE, hint="native or paho")

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def tls(self) -> bool:
        return urlsplit(self.url).scheme == "mqtts"

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or PORTS[urlsplit(self.url).scheme]


def tls_context(broker: Broker) -> ssl.SSLContext | None:
    """TLS 1.2 or later with the broker's name checked; None without TLS. Raises UsageError."""
    if not broker.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=broker.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise _bad_file("ca_file", broker.ca_file, error) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if broker.cert_file is not None and broker.key_file is not None:
        try:
            context.load_cert_chain(broker.cert_file, broker.key_file)
        except (OSError, ssl.SSLError) as error:
            raise _bad_file("cert_file or key_file", broker.cert_file, error) from error
    return context


def _bad_file(key: str, path: Path | None, error: Exception) -> UsageError:
    why = getattr(error, "strerror", None) or str(error)
    return UsageError(f"{key} cannot be used: {why}", where=f"{_WHERE}: {path}", hint="A PEM file is needed.")


def _check_url(url: str) -> None:
    hint = "Write mqtt://HOST:PORT, or mqtts://HOST:PORT with TLS; user and password have keys of their own."
    try:
        parts = urlsplit(url)
        good = parts.scheme in PORTS and bool(parts.hostname) and parts.port != 0
        good = good and parts.path in ("", "/") and not (parts.query or parts.fragment or "@" in parts.netloc)
    except ValueError:
        good = False
    if not good:
        raise UsageError("url is no address of an MQTT broker", where=_WHERE, hint=hint)


def _check_identity(broker: Broker) -> None:
    if not broker.client_id or len(broker.client_id.encode()) > 65_535 or "\0" in broker.client_id:
        hint = "A session needs a name that stays: give each collector one of its own."
        raise UsageError("client_id is empty or no MQTT client id", where=_WHERE, hint=hint)
    if broker.protocol not in (V3, V5):
        raise UsageError("protocol is neither 5 nor 4", where=_WHERE, hint="4 is MQTT 3.1.1.")
    if broker.password and not broker.user:
        raise UsageError("there is a password, but no user", where=_WHERE, hint="Give user, too.")


def _check_filters(filters: tuple[str, ...]) -> None:
    if not filters:
        raise UsageError("filters is empty", where=_WHERE, hint='Usually it is ["meterflow/v1/#"].')
    for topic_filter in filters:
        levels = topic_filter.split("/")
        if levels[0] == "$share":
            hint = "Give each collector a client_id and filters of its own, such as meterflow/v1/PLANT/#."
            raise UsageError(
                "shared subscriptions are not used: what is left to a member that is gone may be lost",
                where=f"{_WHERE}: filters: {topic_filter}",
                hint=hint,
            )
        misplaced = "#" in levels[:-1] or any(len(level) > 1 and set(level) & {"+", "#"} for level in levels)
        if not topic_filter or "\0" in topic_filter or misplaced or len(topic_filter.encode()) > 65_535:
            raise UsageError("not an MQTT topic filter", where=f"{_WHERE}: filters: {topic_filter!r}")


def _check_numbers(broker: Broker) -> None:
    for name, (least, most) in _NUMBERS.items():
        if not least <= getattr(broker, name) <= most:
            raise UsageError(f"{name} must be from {least} to {most}", where=_WHERE)
    if not 0 < broker.retry_s <= broker.retry_s_max:
        raise UsageError("retry_s must be above 0 and at most retry_s_max", where=_WHERE)
