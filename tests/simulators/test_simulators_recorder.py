"""The recorder keeps what a broker carries, byte for byte, and says where something is missing."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from metering.errors import MeterflowError, Unavailable, UsageError
from simulators.recorder import Recorder, check_filters, covers
from simulators.recording import Gap, Message, read_recording, write_recording
from simulators.recording_live import LiveRecording

from .conftest import PATIENCE_S, Broker, Line, free_port, wait_until

MIXED = [
    ("plant/厂/电", b'{"v": 0.10}', 0, False),
    ("plant/empty", b"", 1, False),
    ("plant/bytes", b"\x00\xff\xfe{", 2, False),
    ("plant/kept", b"on", 1, True),
    ("other/big", bytes(range(256)) * 4_096, 1, False),
    ("plant/json", b'{"time":1,"value":1.5}', 2, True),
]


class Foreign:
    """A publisher that is none of ours."""

    def __init__(self, port: int) -> None:
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        wait_until(self._client.is_connected, "a connection")

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool = False, **given: str) -> None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        for name, value in given.items():
            setattr(properties, name, value)
        self._last = self._client.publish(topic, payload, qos, retain, properties)

    def finish(self) -> None:
        self._last.wait_for_publish(PATIENCE_S)
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def recording(
    url: str, path: Path, *filters: str, append: bool = False, **options: object
) -> Iterator[Recorder]:
    """A recorder that listens already; stopped and closed at the end."""
    stop, listening, said = threading.Event(), threading.Event(), []

    def say(text: str) -> None:
        said.append(text)
        listening.set()

    live = LiveRecording(str(path), append=append)
    recorder = Recorder(url, filters or ("#",), live, stop, say=say, **options)  # type: ignore[arg-type]
    thread = threading.Thread(target=recorder.run)
    thread.start()
    try:
        assert listening.wait(PATIENCE_S), "the recorder does not listen"
        yield recorder
    finally:
        stop.set()
        thread.join(PATIENCE_S)
        live.close()


def _wait_for(recorder: Recorder, messages: int) -> None:
    wait_until(lambda: recorder.report.messages >= messages, f"{messages} messages")


def _read(path: Path) -> tuple[list[Message], list[Gap | UsageError]]:
    told: list[Gap | UsageError] = []
    return list(read_recording(path, told.append)), told


@pytest.mark.parametrize("name", ["r.ndjson", "r.ndjson.gz", "r.ndjson.zst"])
def test_what_a_foreign_publisher_sends_is_recorded_byte_for_byte(
    brokers: Callable[..., Broker], tmp_path: Path, name: str
) -> None:
    """Any bytes, each QoS, retain as it was published."""
    broker = brokers()
    with recording(broker.url, tmp_path / name) as recorder:
        publisher = Foreign(broker.port)
        for one in MIXED:
            publisher.publish(*one)
        publisher.finish()
        _wait_for(recorder, len(MIXED))
    found, told = _read(tmp_path / name)
    assert sorted((m.topic, m.payload, m.qos, m.retain) for m in found) == sorted(MIXED)
    assert (told, recorder.report.gaps) == ([], [])


def test_what_the_broker_holds_is_recorded_first_unless_it_is_not_wanted(
    brokers: Callable[..., Broker], tmp_path: Path
) -> None:
    """Retained messages are there as soon as somebody subscribes."""
    broker = brokers()
    publisher = Foreign(broker.port)
    publisher.publish("kept", b"1", 1, True)
    publisher.finish()
    for retained, expected in ((True, ["kept", "now"]), (False, ["now"])):
        path = tmp_path / f"{retained}.ndjson"
        with recording(broker.url, path, retained=retained) as recorder:
            publisher = Foreign(broker.port)
            publisher.publish("now", b"2", 1)
            publisher.finish()
            _wait_for(recorder, len(expected))
        assert [m.topic for m in _read(path)[0]] == expected


def test_properties_are_kept_for_the_replay(broker: Broker, tmp_path: Path) -> None:
    """As they stand in the packet: 0x03 is the content type."""
    with recording(broker.url, tmp_path / "r") as recorder:
        publisher = Foreign(broker.port)
        publisher.publish("t", b"1", 1, ContentType="text/x")
        publisher.finish()
        _wait_for(recorder, 1)
    assert [m.properties for m in _read(tmp_path / "r")[0]] == [b"\x03\x00\x06text/x"]


def test_fifty_thousand_messages_at_once_are_all_recorded_in_order(
    brokers: Callable[..., Broker], tmp_path: Path
) -> None:
    """Where the broker queues all that does not fit on the way."""
    broker, count = brokers(), 50_000
    sock = socket.create_connection(("127.0.0.1", broker.port))
    with recording(broker.url, tmp_path / "r.zst") as recorder, sock:
        sock.sendall(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x")
        assert sock.recv(4) == b"\x20\x02\x00\x00"
        sock.sendall(b"".join(b"\x30\x0a\x00\x03t/%d%05d" % (i % 7, i) for i in range(count)))
        _wait_for(recorder, count)
    assert [int(m.payload) for m in _read(tmp_path / "r.zst")[0]] == list(range(count))
    assert recorder.report.gaps == []


def test_messages_that_the_broker_dropped_are_told(brokers: Callable[..., Broker], tmp_path: Path) -> None:
    """It does not say whose they were: each recorder beside that queue says so."""
    broker = brokers("max_queued_messages 10", "max_inflight_messages 1", "sys_interval 1")
    away = mqtt.Client(CallbackAPIVersion.VERSION2, "away", clean_session=False)
    away.connect("127.0.0.1", broker.port)
    away.loop_start()
    wait_until(away.is_connected, "a connection")
    away.subscribe("#", 1)
    time.sleep(0.2)
    away.disconnect()
    away.loop_stop()
    with recording(broker.url, tmp_path / "r") as recorder:
        wait_until(lambda: recorder._dropped is not None, "the broker's count")
        publisher = Foreign(broker.port)
        for i in range(50):
            publisher.publish("t", b"%d" % i, 1)
        publisher.finish()
        wait_until(lambda: recorder.report.dropped > 0, "the count to grow")
    found, told = _read(tmp_path / "r")
    assert not any(m.topic.startswith("$SYS") for m in found)
    assert sum(gap.dropped for gap in told if isinstance(gap, Gap)) == recorder.report.dropped >= 39
    assert len(recorder.report.gaps) == len(told) >= 1


def test_a_broker_that_was_killed_leaves_a_gap_that_is_told(
    brokers: Callable[..., Broker], tmp_path: Path
) -> None:
    """Recording goes on when it is there again; what came meanwhile is lost, and said to be."""
    broker = brokers()
    with recording(broker.url, tmp_path / "r") as recorder:
        for payload in (b"before", b"after"):
            publisher = Foreign(broker.port)
            publisher.publish("t", payload, 1)
            publisher.finish()
            _wait_for(recorder, 1 if payload == b"before" else 2)
            if payload == b"before":
                broker.kill()
                time.sleep(0.5)
                broker.start()
                wait_until(lambda: recorder.report.reconnects == 1, "the recorder to be back")
    found, told = _read(tmp_path / "r")
    assert [m.payload for m in found] == [b"before", b"after"]
    (gap,) = told
    assert isinstance(gap, Gap)
    assert not gap.queued
    assert gap.received_ms - gap.from_ms >= 500
    assert "kept nothing" in recorder.report.gaps[0]["why"]


def test_a_line_that_breaks_loses_nothing_that_the_broker_queues(
    line: Callable[..., Line], broker: Broker, tmp_path: Path
) -> None:
    """The session is taken up again: QoS 1 and 2 are whole, and a gap says that QoS 0 may not be."""
    laid, count = line(900), 600
    with recording(laid.url, tmp_path / "r") as recorder:
        publisher = Foreign(broker.port)
        for i in range(count):
            publisher.publish("t", b"%d" % i, 1 + i % 2)
        publisher.finish()
        _wait_for(recorder, count)
        wait_until(
            lambda: {int(m.payload) for m in _read(tmp_path / "r")[0]} == set(range(count)), "the rest"
        )
    found, told = _read(tmp_path / "r")
    assert laid.breaks >= 2
    gaps = [gap for gap in told if isinstance(gap, Gap)]
    assert {gap.queued for gap in gaps if "no connection" not in gap.why} == {True}, (
        "the end may find it broken"
    )
    assert len(found) - count <= recorder.report.again
    once_only = Counter(m.payload for m in found if m.qos == 2)
    assert (max(once_only.values()), len(once_only)) == (1, count // 2)


class Scripted:
    """The broker's side of MQTT 5, packet by packet: when identifiers of QoS 2 come again is up to it."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE_S)
        self.url = f"mqtt://127.0.0.1:{self._listener.getsockname()[1]}"

    def take(self, *, session: bool) -> None:
        """A connection whose session is known here, or not."""
        self._sock, _ = self._listener.accept()
        self._sock.settimeout(PATIENCE_S)
        self.hears(0x10)
        self._sock.sendall(bytes((0x20, 3, session, 0, 0)))
        for granted in (2, 0):
            self._sock.sendall(b"\x90\x04" + self.hears(0x82)[:2] + bytes((0, granted)))

    def publish(self, payload: bytes, *, again: bool = False) -> None:
        """Always identifier 1; until it is said to be kept."""
        body = b"\x00\x01t\x00\x01\x00" + payload
        self._sock.sendall(bytes((0x34 | again << 3, len(body))) + body)
        assert self.hears(0x50) == b"\x00\x01"

    def release(self) -> None:
        self._sock.sendall(b"\x62\x02\x00\x01")
        assert self.hears(0x70) == b"\x00\x01"

    def hears(self, first: int) -> bytes:
        """The body of the next packet, which is of that kind and short."""
        kind, length = self._exactly(2)
        assert (kind, length < 128) == (first, True)
        return self._exactly(length)

    def _exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            part = self._sock.recv(size - len(found))
            assert part, "the recorder has closed the connection"
            found += part
        return found

    def leave(self) -> None:
        self._sock.close()


def test_of_messages_at_qos_2_none_is_twice_in_the_recording_and_none_is_taken_for_another(
    tmp_path: Path,
) -> None:
    """An identifier stands for one message until it is released, or the broker has forgotten the session."""
    broker, said = Scripted(), list[Exception]()

    def play() -> None:
        try:
            broker.take(session=False)
            broker.publish(b"a")
            broker.leave()
            broker.take(session=True)
            broker.publish(b"a", again=True)
            broker.release()
            broker.publish(b"b")
            broker.leave()
            broker.take(session=False)
            broker.publish(b"c")
        except (AssertionError, OSError) as error:
            said.append(error)

    player = threading.Thread(target=play)
    player.start()
    with recording(broker.url, tmp_path / "r"):
        player.join(2 * PATIENCE_S)
    assert said == []
    assert [m.payload for m in _read(tmp_path / "r")[0]] == [b"a", b"b", b"c"]


def test_a_recording_is_added_to_and_says_that_it_was_stopped(broker: Broker, tmp_path: Path) -> None:
    """A last line that was cut off is taken off first."""
    path = tmp_path / "r"
    with write_recording(path) as writer:
        writer.write(Message(1_000, "t", 1, b"1"))
    path.write_bytes(path.read_bytes() + b'{"received":"20')
    with pytest.raises(UsageError, match="already"):
        LiveRecording(str(path))
    with recording(broker.url, path, append=True):
        pass
    found, told = _read(path)
    assert [m.payload for m in found] == [b"1"]
    assert [gap.from_ms for gap in told if isinstance(gap, Gap)] == [1_000]


@pytest.mark.parametrize("name", ["r", "r.gz", "r.zst"])
def test_a_recording_that_is_cut_anywhere_gives_what_is_whole(tmp_path: Path, name: str) -> None:
    """And says so, once."""
    messages = [Message(i, "t", 1, b"\xff%d" % i) for i in range(50)]
    live = LiveRecording(str(tmp_path / name))
    with write_recording(tmp_path / "lines") as lines:
        lines.write_all(messages)
    for one in (tmp_path / "lines").read_bytes().splitlines(keepends=True):
        live.write(one, 1)
        live.settle(at_once=True)
    live.close()
    whole = (tmp_path / name).read_bytes()
    assert _read(tmp_path / name) == (messages, [])
    counts = []
    for size in range(len(whole) - 30, 30, -97):
        (tmp_path / f"cut-{name}").write_bytes(whole[:size])
        found, told = _read(tmp_path / f"cut-{name}")
        assert found == messages[: len(found)]
        assert len(told) == (1 if whole[size - 1 : size] != b"\n" or name != "r" else 0)
        counts.append(len(found))
    assert counts == sorted(counts, reverse=True)
    assert counts[0] >= 48


def test_access_that_is_refused_and_nobody_there_are_errors(
    guarded_broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said at once, or after some patience."""
    stop = threading.Event()
    live = LiveRecording(str(tmp_path / "r"))
    with pytest.raises(MeterflowError, match="refused"):
        Recorder(guarded_broker.url, ["#"], live, stop, user="meter", password="wrong").run()
    monkeypatch.setattr("simulators.recorder.FIRST_PATIENCE_S", 0.3)
    with pytest.raises(Unavailable, match="Connection refused"):
        Recorder(f"mqtt://127.0.0.1:{free_port()}", ["#"], live, stop).run()
    Recorder(guarded_broker.url, ["#"], live, stop, user="meter", password="secret").run(time.monotonic())
    live.close()


def test_tls_is_spoken(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a certificate that is trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(broker.certificate))
    with recording(broker.tls_url, tmp_path / "r") as recorder:
        publisher = Foreign(broker.port)
        publisher.publish(*MIXED[4])
        publisher.finish()
        _wait_for(recorder, 1)
    assert [m.payload for m in _read(tmp_path / "r")[0]] == [MIXED[4][1]]


@pytest.mark.parametrize(
    ("wide", "narrow", "covered"),
    [
        ("#", "a/b", True),
        ("#", "$SYS/#", False),
        ("a/#", "a", True),
        ("a/+", "a/b", True),
        ("a/+", "a/#", False),
        ("a/#", "a/+/c", True),
        ("+/b", "a/b/c", False),
        ("$SYS/#", "$SYS/broker/uptime", True),
    ],
)
def test_a_filter_covers_another(wide: str, narrow: str, covered: bool) -> None:
    """As brokers match topics; what begins with a dollar only by its name."""
    assert covers(wide, narrow) is covered
    assert (narrow not in check_filters([narrow, wide])) is covered


@pytest.mark.parametrize("wrong", ["", "a/#/b", "a#", "b+/c"])
def test_a_filter_that_is_none_is_refused(wrong: str) -> None:
    """Before anything is connected."""
    with pytest.raises(UsageError, match="no topic filter"):
        check_filters([wrong])
