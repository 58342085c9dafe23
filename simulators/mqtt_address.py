"""Addresses of MQTT brokers and endpoints, as a person writes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from metering.errors import UsageError

PORTS = {"mqtt": 1883, "mqtts": 8883}
_HINT = "write mqtt://HOST:PORT, or mqtts://HOST:PORT with TLS"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect to. As text it has no user and no password, so it may be shown and logged."""

    host: str
    port: int
    tls: bool = False
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


def parse_address(url: str, user: str | None = None, password: str | None = None) -> Address:
    """The address of a URL; ``user`` and ``password`` go before what the URL holds.

    Raises UsageError, without showing what may be a password.
    """
    try:
        parts = urlsplit(url if "://" in url else f"mqtt://{url}")
        port = parts.port
    except ValueError as error:
        raise UsageError("not an MQTT address: its host or port cannot be read", hint=_HINT) from error
    if parts.scheme not in PORTS:
        raise UsageError(f"'{parts.scheme}://' is not spoken here", hint=_HINT)
    if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise UsageError("not an MQTT address: it needs a host, and has no path", hint=_HINT)
    return Address(
        parts.hostname,
        PORTS[parts.scheme] if port is None else port,
        parts.scheme == "mqtts",
        user if user is not None else _unquoted(parts.username),
        password if password is not None else _unquoted(parts.password),
    )


def _unquoted(text: str | None) -> str | None:
    return None if text is None else unquote(text)
