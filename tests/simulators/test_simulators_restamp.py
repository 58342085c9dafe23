"""Moving stamps changes stamps and nothing else; a replay plays the part that was asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.errors import UsageError
from simulators.recording import Message, write_recording
from simulators.replay_plan import Notes, Part, schedule
from simulators.restamp import Unmovable, moved, stamps

POINT, PLANT, DECISION = "meterflow/v1/p/m", "meterflow/v1/p", "meterflow/v1/p/m/decision"
MINUTE = 60_000


@pytest.mark.parametrize(
    ("topic", "payload", "later"),
    [
        (POINT, '{"time":1795334400000,"value":1.10}', '{"time":1795334520000,"value":1.10}'),
        (
            POINT,
            '{ "value": "0.10" , "time" : "2026-11-22T23:59:30.5+08:00", "seq": 7 }',
            '{ "value": "0.10" , "time" : "2026-11-23T00:01:30.5+08:00", "seq": 7 }',
        ),
        (POINT, '{"t\\u0069me":0,"start":null,"value":1}', '{"t\\u0069me":120000,"start":null,"value":1}'),
        (
            PLANT,
            '[{"point":"\\"time\\":5","time":1,"start":-60000,"value":3},{"time":2,"point":"b","value":4}]',
            '[{"point":"\\"time\\":5","time":120001,"start":60000,"value":3},'
            '{"time":120002,"point":"b","value":4}]',
        ),
        (
            PLANT,
            '{"gateway":"g","sent":5,"time":"2026-01-01 00:00:00Z","values":{"time":1,"start":"2"}}',
            '{"gateway":"g","sent":120005,"time":"2026-01-01 00:02:00Z","values":{"time":1,"start":"2"}}',
        ),
        (
            DECISION,
            '{"from":0,"to":"1970-01-01T00:00:00z","verdict":"reset","time":9}',
            '{"from":120000,"to":"1970-01-01T00:02:00z","verdict":"reset","time":9}',
        ),
    ],
)
def test_stamps_move_and_everything_else_stays(topic: str, payload: str, later: str) -> None:
    """Zone, fraction, white space, names written with escapes; no stamp inside values is one."""
    assert moved(topic, payload.encode(), 2).decode() == later
    before, after = stamps(topic, payload.encode()), stamps(topic, later.encode())
    assert [stamp + 2 * MINUTE for stamp in before] == after
    assert len(after) >= 1


@given(
    instants=st.lists(st.datetimes(timezones=st.just(UTC)), min_size=1, max_size=4),
    minutes=st.integers(-(10**5), 10**5),
)
def test_what_is_moved_there_and_back_is_what_it_was(instants: Sequence[datetime], minutes: int) -> None:
    """Byte for byte."""
    elements = (f'{{"point":"a","time":"{one.isoformat()}","value":1}}' for one in instants)
    payload = f"[{','.join(elements)}]".encode()
    try:
        there = moved(PLANT, payload, minutes)
    except Unmovable:
        return  # beyond the years 1 to 9999
    assert moved(PLANT, there, -minutes) == payload


@pytest.mark.parametrize(
    ("topic", "payload", "why"),
    [
        ("spBv1.0/g/DDATA/n", b"\x08\x01", "no topic"),
        ("sensors/1", b'{"time":1}', "no topic"),
        (POINT, b"\xff", "not JSON"),
        (POINT, b"", "not JSON"),
        (POINT, b'{"time":1', "not JSON"),
        (POINT, b'{"value":1}', "no time"),
        (POINT, b'{"time":"2026-01-01T00:00:00","value":1}', "zone"),
        (POINT, b'{"time":"2026-02-31T00:00:00Z","value":1}', "no time"),
        (POINT, b'{"time":1.5,"value":1}', "no time"),
        (POINT, b'{"time":[1],"value":1}', "no time"),
        (PLANT, b'[{"time":1,"value":1},{"value":1}]', "no time"),
        (PLANT, b"[]", "no object"),
        (PLANT, b"5", "no object"),
        (DECISION, b'{"from":1,"verdict":"reset"}', "no from and to"),
        (POINT, b'{"time":"9999-12-31T23:59:00Z","value":1}', "calendar"),
    ],
)
def test_stamps_that_nobody_knows_are_refused(topic: str, payload: bytes, why: str) -> None:
    """With the reason."""
    with pytest.raises(Unmovable, match=why):
        moved(topic, payload, 2)


def _recorded(folder: Path, messages: Sequence[Message], name: str = "r") -> Path:
    with write_recording(folder / name) as recording:
        recording.write_all(messages)
    return folder / name


def _readings(count: int, every_ms: int = 1_000, begin_ms: int = MINUTE) -> list[Message]:
    at = (begin_ms + i * every_ms for i in range(count))
    return [Message(ms + 250, POINT, 1, b'{"time":%d,"value":%d}' % (ms, i)) for i, ms in enumerate(at)]


def _played(part: Part, speed: float | None = None, notes: Notes | None = None) -> list[Message]:
    return list(schedule(part, speed, notes or Notes()))


def test_a_window_holds_its_begin_and_not_its_end(tmp_path: Path) -> None:
    """So that windows behind one another play everything once."""
    path, messages = _recorded(tmp_path, _readings(10)), _readings(10)
    edge = messages[4].received_ms
    assert _played(Part([path], None, edge)) == messages[:4]
    assert _played(Part([path], edge, None)) == messages[4:]
    assert _played(Part([path], edge, edge)) == []


def test_rounds_with_their_own_stamps_are_the_same_messages_again(tmp_path: Path) -> None:
    """Only the clock they are played by goes on, by whole minutes."""
    path, messages = _recorded(tmp_path, _readings(3)), _readings(3)
    notes = Notes()
    found = _played(Part([path], rounds=2), notes=notes)
    assert [m.payload for m in found] == [m.payload for m in messages] * 2
    assert [m.received_ms for m in found[3:]] == [m.received_ms + MINUTE for m in messages]
    assert notes.rounds == 2


def test_no_stamp_of_a_round_is_one_of_the_round_before(tmp_path: Path) -> None:
    """Also where readings came long after they were taken."""
    late = Message(200_000, POINT, 1, b'{"time":%d,"value":9}' % (-3 * 3_600_000))
    path = _recorded(tmp_path, [*_readings(60), late])
    found = _played(Part([path], rounds=3, stamps=10**12))
    taken = [stamp for m in found for stamp in stamps(m.topic, m.payload)]
    assert len(set(taken)) == len(taken) == 3 * 61
    assert all((a - b) % MINUTE == 0 for a, b in zip(taken[61:], taken, strict=False))


@pytest.mark.parametrize("speed", [None, 0.5, 1.0, 60.0])
@pytest.mark.parametrize("rounds", [1, 3])
def test_stamps_of_now_are_never_ahead_of_the_clock(tmp_path: Path, speed: float | None, rounds: int) -> None:
    """At no speed, in no round, and at most a minute behind it in the end."""
    path = _recorded(tmp_path, _readings(600))
    began_ms = time.time() * 1_000
    found = _played(Part([path], rounds=rounds, stamps="now"), speed)
    first_ms = found[0].received_ms
    sent_ms = began_ms
    for message in found:
        sent_ms = began_ms + (0 if speed is None else (message.received_ms - first_ms) / speed)
        assert max(stamps(message.topic, message.payload)) <= sent_ms + 1_000
    if speed in (None, 1.0, 60.0):
        assert sent_ms - message.received_ms < MINUTE + 1_000


def test_a_recording_can_begin_at_an_instant(tmp_path: Path) -> None:
    """By whole minutes: what was read at the full minute still is."""
    found = _played(Part([_recorded(tmp_path, _readings(3, MINUTE))], stamps=10**12 + 123))
    assert all(stamps(m.topic, m.payload)[0] % MINUTE == 0 for m in found)
    assert abs(found[0].received_ms - 10**12) < MINUTE


def test_what_cannot_be_moved_is_refused_sent_or_left_out(tmp_path: Path) -> None:
    """Refused before anything is played, with how many and the first of them."""
    foreign = Message(61_000, "sensors/1", 1, b"21.5")
    path = _recorded(tmp_path, [*_readings(3), foreign])
    with pytest.raises(UsageError, match=r"sensors/1.*cannot be moved") as caught:
        next(schedule(Part([path], stamps="now"), None, Notes()))
    assert "1 of 4 messages" in caught.value.hint
    assert _played(Part([path], stamps="now", unstamped="send"))[3].payload == b"21.5"
    notes = Notes()
    assert len(_played(Part([path], stamps="now", unstamped="leave"), notes=notes)) == 3
    assert notes.left_out == 1


def test_what_cannot_be_played_is_said(tmp_path: Path) -> None:
    """An endless loop whose stamps run away; standard input twice; nothing at all ends."""
    path = _recorded(tmp_path, _readings(3))
    with pytest.raises(UsageError, match="run away"):
        schedule(Part([path], rounds=0, stamps="now"), None, Notes())
    with pytest.raises(UsageError, match="twice"):
        schedule(Part(["-"], rounds=2), 1.0, Notes())
    assert _played(Part([_recorded(tmp_path, [], "empty")], rounds=0)) == []
    assert _played(Part([tmp_path / "empty"], stamps="now")) == []
