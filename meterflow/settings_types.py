"""The small words of a settings file: addresses, ports, URLs, paths."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, Strict, WithJsonSchema

from metering.site_types import wrong

_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
PORT_MAX: Final = 65_535


def _text(value: Any, example: str) -> str:
    if isinstance(value, str) and value.strip():
        return value.strip()
    raise wrong("a text belongs here", f"Write it like {example}.")


def _servers(value: Any) -> str:
    """``host:port`` of one or several servers, separated by commas; a list of them is taken too."""
    example = "kafka-1:9092,kafka-2:9092"
    text = (
        ",".join(_text(one, example) for one in value) if isinstance(value, list) else _text(value, example)
    )
    servers = [one.strip() for one in text.split(",")]
    for server in servers:
        found = _HOST_PORT.fullmatch(server)
        if not found or not 0 < int(found[2]) <= PORT_MAX:
            raise wrong(f"'{_shown(server)}' is no server", f"Write HOST:PORT, several as {example}.")
    return ",".join(servers)


def _name(value: Any) -> str:
    text = _text(value, "meterflow")
    if not _NAME.fullmatch(text):
        raise wrong(f"'{_shown(text)}' is no name here", "Use letters, digits, '.', '-', '_'.")
    return text


def _url(value: Any, schemes: tuple[str, ...], example: str) -> str:
    text = _text(value, example)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise wrong("this is no URL", f"Write it like {example}.") from None
    if parts.username is not None or parts.password is not None:
        raise wrong("a user and a password do not belong into a URL", "Use the keys 'user', '…_file'.")
    if parts.scheme not in schemes or not parts.hostname or port == 0:
        raise wrong(f"'{_shown(text)}' is no URL of {' or '.join(schemes)}", f"Write it like {example}.")
    return text.rstrip("/")


def _http(value: Any) -> str:
    return _url(value, ("http", "https"), "http://127.0.0.1:8086")


def _mqtt(value: Any) -> str:
    text = _url(value, ("mqtt", "mqtts"), "mqtt://127.0.0.1:1883")
    if urlsplit(text).path:
        raise wrong("a broker's URL has no path", "Give topics with the key 'filters'.")
    return text


def _path(value: Any) -> Path:
    return Path(_text(value, "secrets/token"))


def pairs(value: Any) -> Any:
    """``point=meter, time=ts`` as a mapping: the form for a variable."""
    if not isinstance(value, str) or "=" not in value:
        return value
    parts = (part.partition("=") for part in value.split(","))
    return {key.strip(): name.strip() for key, _, name in parts}


def _shown(text: str) -> str:
    """What a message may repeat: what may be a secret in the wrong place is not shown."""
    return text if "@" not in text else "…@" + text.rpartition("@")[2]


_TEXT_SCHEMA = WithJsonSchema({"type": "string"})
Servers = Annotated[str, BeforeValidator(_servers), _TEXT_SCHEMA]
Name = Annotated[str, BeforeValidator(_name), _TEXT_SCHEMA]
HttpUrl = Annotated[str, BeforeValidator(_http), _TEXT_SCHEMA]
MqttUrl = Annotated[str, BeforeValidator(_mqtt), _TEXT_SCHEMA]
FilePath = Annotated[Path, BeforeValidator(_path), _TEXT_SCHEMA]
Port = Annotated[int, Strict(), Field(ge=0, le=PORT_MAX)]
"""0: any free one."""
Flag = Annotated[bool, Strict()]
