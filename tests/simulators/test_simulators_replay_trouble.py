"""Whatever breaks in the middle of a replay, nothing is lost without a word."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from metering.errors import Unavailable, UsageError
from simulators.mqtt_sender import WINDOW_BYTES
from simulators.recording import Gap, Message, encode_gap, encode_line, write_recording
from simulators.replay import Replay, ReplayProgress
from simulators.replay_plan import Part

from .conftest import Broker, Line, Subscriber, free_port, wait_until

MANY = [Message(i, f"t/{i % 3}", 1 + i % 2, b"%d" % i) for i in range(3_000)]


def _recorded(folder: Path, messages: Sequence[Message]) -> Path:
    with write_recording(folder / "r") as recording:
        recording.write_all(messages)
    return folder / "r"


def test_a_recording_that_was_cut_off_is_played_to_there_and_told(
    broker: Broker, subscriber: Subscriber, tmp_path: Path
) -> None:
    """Gaps that the recorder knew of are told as well."""
    lines = [encode_line(message) for message in MANY[:9]]
    lines.insert(4, encode_gap(Gap(9, 5, "the connection was lost")))
    (tmp_path / "r").write_bytes(b"".join(lines)[:-7])
    report = Replay(Part([tmp_path / "r"]), broker.url).run()
    subscriber.wait_for(8)
    assert (report.messages, report.acknowledged, report.gaps) == (8, 8, 1)
    assert "r:10" in report.cut[0]


def test_what_is_before_a_wrong_line_is_brought_to_its_end(
    broker: Broker, subscriber: Subscriber, tmp_path: Path
) -> None:
    """Then the line is named, and where to go on."""
    path = _recorded(tmp_path, MANY[:500])
    path.write_bytes(path.read_bytes() + b"nonsense\n")
    player = Replay(Part([path]), broker.url)
    with pytest.raises(UsageError, match=r"r:501") as caught:
        player.run()
    subscriber.wait_for(500)
    assert (player.report().acknowledged, player.report().unacknowledged) == (500, 0)
    assert "the first 500 messages are done" in caught.value.hint


def test_a_broker_that_is_killed_and_comes_back_gets_all_that_it_had_not_acknowledged(
    brokers: Callable[..., Broker], tmp_path: Path
) -> None:
    """Retained messages show what arrived; what it had acknowledged a killed Mosquitto has forgotten."""
    broker, count = brokers(), 6_000
    killed_at: list[int] = []

    def kill(progress: ReplayProgress) -> None:
        if not killed_at and progress.acknowledged > 500:
            killed_at.append(progress.done)
            broker.kill()
            threading.Timer(0.5, broker.start).start()

    messages = [Message(i, f"t/{i}", 1, b"%d" % i, True) for i in range(count)]
    report = Replay(Part([_recorded(tmp_path, messages)]), broker.url, 4.0, progress=kill).run()
    assert (report.acknowledged, report.unacknowledged) == (count, 0)
    assert report.reconnects >= 1
    sent_later = {f"t/{i}" for i in range(killed_at[0] + 2_000, count)}
    assert len(sent_later) > 1_000
    late = Subscriber(broker.port)
    wait_until(lambda: sent_later <= {topic for topic, *_ in late.got}, "what was sent afterwards")
    late.stop()


def test_messages_at_qos_0_are_brought_over_a_line_that_breaks(
    line: Callable[..., Line], subscriber: Subscriber, tmp_path: Path
) -> None:
    """Nobody acknowledges them; a ping that is answered behind them does: till then they are sent again."""
    laid, messages = line(100_000), [Message(i, f"t/{i % 3}", 0, b"%050d" % i) for i in range(6_000)]
    report = Replay(Part([_recorded(tmp_path, messages)]), laid.url).run()
    wait_until(lambda: len({m[1] for m in subscriber.got}) == 6_000, "every message")
    assert laid.breaks >= 3
    assert (report.at_qos_0, report.unacknowledged, report.acknowledged) == (6_000, 0, 0)


def test_a_broker_that_is_gone_for_good_leaves_a_count_of_what_is_open(
    brokers: Callable[..., Broker], tmp_path: Path
) -> None:
    """Every message is done, or counted as not acknowledged."""
    broker = brokers()
    messages = [Message(i, "t", 1, b"%d" % i) for i in range(12_000)]

    def kill(progress: ReplayProgress) -> None:
        if progress.acknowledged > 500:
            broker.kill()

    path = _recorded(tmp_path, messages)
    player = Replay(Part([path]), broker.url, 4.0, patience_s=1.0, progress=kill)
    with pytest.raises(Unavailable) as caught:
        player.run()
    report = player.report()
    assert report.acknowledged > 500
    assert report.acknowledged + report.unacknowledged == report.messages < 12_000
    assert report.unacknowledged > 0
    assert "can be skipped" in caught.value.hint


def test_a_replay_that_is_stopped_waits_for_what_is_on_its_way(broker: Broker, tmp_path: Path) -> None:
    """And says that it was stopped."""
    stop = threading.Event()
    path = _recorded(tmp_path, [Message(i * 10, "t", 1, b"1") for i in range(1_000)])
    player = Replay(Part([path], rounds=0), broker.url, 1.0, stop=stop)
    threading.Timer(0.5, stop.set).start()
    report = player.run()
    assert report.stopped
    assert report.unacknowledged == 0
    assert 0 < report.acknowledged == report.messages < 1_000


def test_a_clock_that_was_put_back_costs_no_time_and_saves_none(broker: Broker, tmp_path: Path) -> None:
    """The hour that the recording has twice is played twice."""
    hour = 3_600_000
    messages = [Message(i * hour // 10, "t", 1, b"1") for i in range(11)]
    path = _recorded(tmp_path, messages + messages)
    report = Replay(Part([path]), broker.url, 7_200.0).run()
    assert 0.95 < report.seconds < 1.8
    assert report.lag_max_s < 0.5


def test_large_messages_do_not_fill_the_memory(broker: Broker, tmp_path: Path) -> None:
    """The window holds so many bytes, whatever it holds of messages."""
    messages = [Message(i, "t", 1, bytes([i]) * (4 << 20)) for i in range(12)]
    path = _recorded(tmp_path, messages)
    player = Replay(Part([path]), broker.url)
    most, send = 0, player._sender.send

    def watched(message: Message) -> None:
        nonlocal most
        send(message)
        most = max(most, player._sender._open_bytes)

    player._sender.send = watched  # type: ignore[method-assign]
    assert player.run().acknowledged == 12
    assert most < WINDOW_BYTES + (4 << 20) + 1
    assert player._sender._open_bytes == 0


def test_a_speed_that_is_not_reached_is_told(tmp_path: Path, broker: Broker) -> None:
    """How late the messages were sent, and how fast it really was."""
    path = _recorded(tmp_path, [Message(i, "t", 1, b"1") for i in range(3_000)])
    report = Replay(Part([path]), broker.url, 1_000_000.0).run()
    assert report.lag_max_s > 0.0
    assert report.reached < 1_000_000.0
    assert report.reached == pytest.approx(2.999 / report.seconds)


def test_nobody_there_is_told_with_everything_open(tmp_path: Path) -> None:
    """Within the patience."""
    player = Replay(Part([_recorded(tmp_path, MANY)]), f"mqtt://127.0.0.1:{free_port()}", patience_s=0.5)
    began = time.monotonic()
    with pytest.raises(Unavailable):
        player.run()
    assert time.monotonic() - began < 5
    assert player.report().unacknowledged == player.report().messages > 0
