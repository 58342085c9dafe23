"""The SHA-256 of many messages: exactly hashlib's."""

from __future__ import annotations

import random
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

from ingest.digests import _LOOP, _one_by_one, digests
from ingest.kafka_values import Values


def _plain(values: Values, which: Any) -> Any:
    """Without what only some processors have."""
    assert _LOOP is not None
    out = np.empty((len(which), 32), np.uint8)
    _LOOP(len(which), values.text, values.starts[which], values.ends[which], True, out)
    return out


WAYS = [digests, _one_by_one, *([_plain] if _LOOP is not None else [])]


@pytest.mark.parametrize("way", WAYS, ids=["as used", "one by one", "plain"][: len(WAYS)])
def test_digests_are_those_of_the_standard(way: Callable[..., Any]) -> None:
    """Of messages of every length up to 300, of long ones and of none at all."""
    rng = random.Random(7)
    sizes = [*range(301), *(rng.randrange(100_000) for _ in range(50)), 1 << 20]
    messages = [rng.randbytes(size) for size in sizes]
    found = way(Values.of(messages), np.arange(len(messages)))
    assert found.dtype == np.uint8
    assert found.shape == (len(messages), 32)
    assert [bytes(one) for one in found] == [sha256(message).digest() for message in messages]
    assert way(Values.of([]), np.arange(0)).shape == (0, 32)


@pytest.mark.parametrize("way", WAYS, ids=["as used", "one by one", "plain"][: len(WAYS)])
def test_only_those_asked_for_are_made(way: Callable[..., Any]) -> None:
    """In the order asked for."""
    found = way(Values.of([b"a", b"b", b"abc"]), np.array([2, 0]))
    assert [bytes(one).hex()[:8] for one in found] == ["ba7816bf", "ca978112"]
