"""Topic names as bytes and as text (MQTT 3.1.1 and 5, 4.7)."""

from __future__ import annotations

_CACHED_MAX = 20_000
_CACHED_BYTES_MAX = 200


def valid_topic(raw: bytes) -> str | None:
    """The text of a topic name that a PUBLISH may have; else None."""
    try:
        topic = raw.decode()
    except UnicodeDecodeError:
        return None
    return None if not topic or "+" in topic or "#" in topic or "\0" in topic else topic


def printable_topic(raw: bytes) -> str:
    """An invalid topic name for people: what is no text is escaped."""
    return raw.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


class TopicNames(dict[bytes, str]):
    """Topic names already checked, shared by all connections; begins again when it is full.

    Devices use the same few topics for ever, so that checking and decoding them each time would
    be most of the work; a flood of made-up ones costs time but no memory.
    """

    def learn(self, raw: bytes) -> str | None:
        """Checks a topic that is not here yet."""
        topic = valid_topic(raw)
        if topic is not None and len(raw) <= _CACHED_BYTES_MAX:
            if len(self) >= _CACHED_MAX:
                self.clear()
            self[raw] = topic
        return topic
