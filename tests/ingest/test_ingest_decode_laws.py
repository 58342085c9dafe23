"""The decoder's laws: nothing lost, nothing crashed, quick and exact the same."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.columns import by_plant, from_readings
from ingest.decode import Batch, Decoded, Decoder, Delivery, quickly
from ingest.decode_exact import read_message
from ingest.decode_fast import decode_fast
from ingest.directory import Directory, Route
from ingest.judge import Reading
from tests.ingest.ingest_builders import NOW, NOW_MS, TOPIC, reading, reasons, roster, rows, sources

PLANT = "meterflow/v1/steel"
BOOKS = "meterflow/v1/steel/books"

SCALARS = st.sampled_from(
    [
        *("1", "-0", "-0.5", ".5", "7.0", "1e3", "1E400", "9" * 30, str(NOW_MS), str(NOW_MS - 1), "NaN"),
        *('"12.50"', '"007"', '"-.5"', '"5."', '"-"', '"1-2"', '"1.2.3"', '"1,2"', "null", "true", '""'),
        *('"kWh"', '"m3"', '"good"', '"main"', '"\\u0041"', '"\\ud800"', '"é"', '"a\\"b"', "[]", '{"a":"b"}'),
        *(f'"{NOW}"', '"2026-11-22T08:00:00"', '"2026-11-22T07:59:59.1239+08:00"', '"2026-02-29T00:00:00Z"'),
    ]
)
KEYS = st.sampled_from("time value start unit serial seq revision product quality point x tim\\u0065".split())
LIKELY = st.lists(st.tuples(KEYS, SCALARS), max_size=4)
OBJECTS = st.builds(
    lambda time, value, more: (
        "{" + ", ".join(f'"{k}": {v}' for k, v in [*time, *value, *more]) + "}"
    ),
    st.just([("time", str(NOW_MS))]) | st.just([("time", f'"{NOW}"')]) | st.just([]),
    SCALARS.map(lambda text: [("value", text)]) | st.just([("value", "1.5")]),
    LIKELY | st.just([]),
)  # fmt: skip
GATEWAYS = st.builds(
    lambda values, more: "{" + ", ".join(
        [f'"time": {NOW_MS}', *(f'"{k}": {v}' for k, v in more),
         '"values": {' + ", ".join(f'"{k}": {v}' for k, v in values) + "}"]) + "}",
    st.lists(st.tuples(st.sampled_from(["main", "intake", "books", "rolls"]), SCALARS), max_size=4),
    st.lists(st.tuples(st.sampled_from(["start", "seq", "gateway", "sent", "x", "x"]), SCALARS), max_size=2),
)  # fmt: skip
TEXTS = OBJECTS | st.lists(OBJECTS, max_size=4).map(lambda found: f"[{', '.join(found)}]") | GATEWAYS


def spoiled(text: str, at: int, by: bytes) -> bytes:
    """A payload with a byte replaced."""
    raw = text.encode()
    return raw[:at] + by + raw[at + 1 :]


PAYLOADS = (
    TEXTS.map(str.encode)
    | st.binary(max_size=60)
    | st.builds(spoiled, TEXTS, st.integers(0, 60), st.binary(max_size=2))
)
ROUTES = {TOPIC: Route("steel", 0), BOOKS: Route("steel", 2), PLANT: Route("steel", -1)}
BATCHES = st.lists(
    st.tuples(st.sampled_from([*ROUTES, "meterflow/v1/paper/main", "a/b"]), PAYLOADS), max_size=6
)


@given(BATCHES)
@settings(max_examples=250, deadline=None)
def test_nothing_crashes_the_decoder_and_everything_is_accounted_for(batch: list[tuple[str, bytes]]) -> None:
    """received = accepted + rejected, at least one for each message; a batch is the sum of its messages."""
    decoder = Decoder(roster())
    whole = decoder.decode([Delivery([t for t, _ in batch], [p for _, p in batch], NOW_MS)])
    alone = [decoder.decode([Delivery([topic], [payload], NOW_MS)]) for topic, payload in batch]
    assert whole.received == sum(map(len, whole.readings)) + len(whole.rejected)
    assert all(decoded.received >= 1 for decoded in alone)
    assert "not_decoded" not in reasons(whole)
    assert whole.rejected == [rejected for decoded in alone for rejected in decoded.rejected]
    by_message = [row for decoded in alone for row in rows(decoded)]
    assert rows(whole) == sorted(by_message, key=lambda row: row["plant"] == "paper")


@given(BATCHES, st.sampled_from([1, 2, 10]))
@settings(max_examples=150, deadline=None)
def test_every_reading_has_the_evidence_of_its_own_message(batch: list[tuple[str, bytes]], each: int) -> None:
    """Also beside messages that are refused, and of other clients."""
    parts = [batch[start : start + each] for start in range(0, len(batch), each)]
    logins = ["", "hall-3", "gate"]
    whole = Decoder(roster()).decode(
        [
            Delivery([t for t, _ in part], [p for _, p in part], NOW_MS, login=logins[i % 3])
            for i, part in enumerate(parts)
        ]
    )
    wanted = []
    for number, (topic, payload) in enumerate(batch):
        alone = Decoder(roster()).decode([Delivery([topic], [payload], NOW_MS)])
        one = topic, logins[number // each % 3] or None, sha256(payload).digest(), "1"
        wanted += [(row["plant"] == "paper", *one) for row in rows(alone)]
    wanted.sort(key=lambda row: row[0])
    assert sources(whole.readings) == [row[1:] for row in wanted]


@given(st.lists(st.tuples(st.sampled_from([*ROUTES]), TEXTS.map(str.encode)), min_size=1, max_size=4))
@settings(max_examples=500, deadline=None)
def test_the_quick_ways_take_exactly_what_the_exact_way_takes(batch: list[tuple[str, bytes]]) -> None:
    """What decode_plain.py and decode_fast.py take, decode_exact.py takes wholly, and as the same."""
    directory = Directory(roster())
    codes = [directory.codes[topic] for topic, _ in batch]
    received = np.full(len(batch), NOW_MS, np.int64)
    columns, others = quickly(directory, Batch(codes, [payload for _, payload in batch], received))
    taken: list[Reading] = []
    order: list[int] = []
    for i in sorted(set(range(len(batch))) - set(others)):
        readings, refused = read_message(directory, ROUTES[batch[i][0]], batch[i][1], NOW_MS)
        assert refused == []
        taken += readings
        order += [i] * len(readings)
    wanted = by_plant(directory, from_readings(taken, order), received)
    assert rows(Decoded(by_plant(directory, columns, received), [], 0)) == rows(Decoded(wanted, [], 0))


def test_plain_messages_go_the_quick_way() -> None:
    """Else the law above would say nothing."""
    directory = Directory(roster())
    plain = {
        TOPIC: [
            reading(1.5),
            reading(1, rssi=-70, firmware={"is": "1.2"}),
            reading("1.50", NOW_MS, unit="MWh", serial="A"),
            b"[" + reading() + b"]",
        ],
        BOOKS: [reading(1, start=NOW_MS - 1, quality="good")],
        PLANT: [
            b"[" + reading(point="main") + b"]",
            b'{"time":%d,"start":%d,"values":{"main":"1","books":2}}' % (NOW_MS, NOW_MS - 1),
            b'{"time":%d,"values":{"main":"1"},"firmware":{"is":"1.2"}}' % NOW_MS,
        ],
    }
    batch = [(directory.codes[topic], payload) for topic, payloads in plain.items() for payload in payloads]
    codes, payloads = [code for code, _ in batch], [payload for _, payload in batch]
    columns, others = decode_fast(directory, codes, payloads, np.full(len(batch), NOW_MS, np.int64))
    assert (len(columns), others) == (9, [])
