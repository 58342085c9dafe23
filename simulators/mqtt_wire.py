"""What the clients of the simulators share: a socket, the greeting, where a packet ends."""

from __future__ import annotations

import socket
import ssl

from ingest.mqtt_encode import packet, text, varint
from ingest.mqtt_events import V5
from metering.errors import MeterflowError, Unavailable
from simulators.mqtt_address import Address

PINGREQ, DISCONNECT = b"\xc0\x00", b"\xe0\x00"
CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, PINGRESP, END = 2, 3, 4, 5, 6, 7, 9, 13, 14
BAD_CODES = 0x80
HINT = "check that the service or broker is running"


def open_socket(address: Address, timeout_s: float) -> socket.socket:
    """A connected socket. Raises Unavailable, MeterflowError for a certificate that is not trusted."""
    raw: socket.socket | None = None
    try:
        raw = socket.create_connection((address.host, address.port), timeout_s)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not address.tls:
            return raw
        return ssl.create_default_context().wrap_socket(raw, server_hostname=address.host)
    except ssl.SSLCertVerificationError as error:
        _close(raw)
        raise MeterflowError(
            f"its certificate is not trusted: {error.verify_message}",
            where=str(address),
            hint="add its issuer to the system's certificates, or name it in SSL_CERT_FILE",
        ) from error
    except (OSError, ValueError) as error:
        _close(raw)
        reason = getattr(error, "strerror", None) or str(error)
        raise Unavailable(f"no connection: {reason}", where=str(address), hint=HINT) from error


def _close(sock: socket.socket | None) -> None:
    if sock is not None:
        sock.close()


def hello(
    address: Address, client_id: str, version: int, *, clean: bool, keep_alive_s: int, asked: bytes = b""
) -> bytes:
    """A CONNECT; ``asked``: its properties, for MQTT 5."""
    user, password = address.user, address.password
    flags = (0x80 if user is not None else 0) | (0x40 if password is not None else 0) | (0x02 if clean else 0)
    head = text("MQTT") + bytes((version, flags)) + keep_alive_s.to_bytes(2, "big")
    if version == V5:
        head += varint(len(asked)) + asked
    fields = [one for one in (client_id, user, password) if one is not None]
    return packet(0x10, head + b"".join(map(text, fields)))


def body_of(data: bytes, position: int) -> tuple[int, int] | None:
    """Where the body of the packet at a position begins, and how long it is; None: not there yet.

    Raises ValueError for what is no packet.
    """
    value = 0
    for i in range(1, 5):
        if position + i >= len(data):
            return None
        byte = data[position + i]
        value |= (byte & 0x7F) << 7 * (i - 1)
        if byte < 0x80:
            return position + i + 1, value
    raise ValueError("it sends what is not MQTT")
