"""Readings as columns: parts of them, and where they came from."""

from __future__ import annotations

import hashlib

import numpy as np

from metering.readings import Evidence, Readings, absent, dictionary

PAYLOADS = (b"first", b"second", b"third")
MESSAGE = np.array([2, 0, 0, 1, 2, 1], np.int32)
TOPICS: list[str | None] = ["a", "b", "b", "c", "a", "c"]
USERS: list[str | None] = [None, "meter", "meter", None, None, None]


def readings() -> Readings:
    """Six readings of three messages."""
    n = len(MESSAGE)
    digest = [np.frombuffer(hashlib.sha256(payload).digest(), np.uint8) for payload in PAYLOADS]
    long, byte = np.arange(n, dtype=np.int64), np.zeros(n, np.uint8)
    return Readings(
        plant="steel-1",
        point=dictionary([f"point-{i}" for i in range(n)]),
        time=long,
        start=long,
        mantissa=long,
        exponent=np.zeros(n, np.int8),
        unit=absent(n),
        serial=absent(n),
        product=absent(n),
        revision=np.zeros(n, np.int32),
        seq=long,
        quality=byte,
        flags=byte,
        received=long,
        evidence=Evidence(dictionary(TOPICS), dictionary(USERS), np.array(digest), MESSAGE, "5e" * 32),
    )


def test_a_part_has_the_evidence_of_its_readings() -> None:
    """The same topic, user and digest of each, and no digest of a message that is not in it."""
    for rows in (slice(0, 2), slice(1, 4), slice(3, 6), slice(0, 6), slice(2, 2)):
        part = readings().part(rows)
        evidence = part.evidence
        assert evidence is not None
        assert evidence.site == "5e" * 32
        assert part.time.tolist() == list(range(6))[rows]
        assert [evidence.topic.text(i) for i in range(len(part))] == TOPICS[rows]
        assert [evidence.user.text(i) for i in range(len(part))] == USERS[rows]
        found = [bytes(evidence.digest[i]) for i in evidence.message]
        assert found == [hashlib.sha256(PAYLOADS[i]).digest() for i in MESSAGE[rows]]
        assert evidence.digest.shape == (len(set(MESSAGE[rows].tolist())), 32)
        assert evidence.digest.dtype == np.uint8
        assert evidence.message.dtype == np.int32
