"""Where a batch's readings came from: topic, user and SHA-256 of the raw bytes of the message of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.columns import Texts, numbered, used
from ingest.digests import digests
from ingest.kafka_values import Values
from metering.readings import Dictionary, Evidence, dictionary

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Senders:
    """Of each message of a batch: the number of its topic, and its user; ``topic_of``: the topic's name."""

    topic: Ints
    topic_of: Callable[[int], str]
    user: Texts
    site: str


class Origin:
    """Of the messages of a batch; ``order``: the number of each accepted reading's message.

    ``keep``: whether it has the messages' raw bytes themselves, too.
    """

    def __init__(self, senders: Senders, payloads: Values, order: Ints, *, keep: bool = False) -> None:
        there = np.zeros(len(payloads), np.bool_)
        there[order] = True
        self._senders = senders
        self._digest: NDArray[np.uint8] = digests(payloads, np.flatnonzero(there))
        self._row = np.cumsum(there) - 1
        self._payloads = payloads if keep else None

    def of(self, order: Ints) -> Evidence:
        """That of some readings, by their messages' numbers."""
        senders, first = self._senders, np.append(True, order[1:] != order[:-1])
        topics, codes = numbered(senders.topic[order])
        user = None if senders.user is None else Dictionary(senders.user.words, senders.user.codes[order])
        return Evidence(
            topic=Dictionary(tuple(map(senders.topic_of, topics.tolist())), codes.astype(np.int32)),
            user=used(user, len(order)),
            digest=self._digest.take(self._row[order[first]], axis=0),
            message=np.cumsum(first, dtype=np.int32) - 1,
            site=senders.site,
            payload=None if self._payloads is None else tuple(self._payloads.some(order[first].tolist())),
        )


def users(logins: Sequence[str], counts: Sequence[int]) -> Texts:
    """Of messages that came under these names, so many under each; no name: nobody had logged in."""
    if not any(logins):
        return None
    found = dictionary([login or None for login in logins])
    return Dictionary(found.words, np.repeat(found.codes, counts))
