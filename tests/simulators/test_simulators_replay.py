"""Replay brings every message of a recording to a broker, whatever happens to the line."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from metering.errors import MeterflowError, Unavailable, UsageError
from simulators.mqtt_address import parse_address
from simulators.recording import Message, merged, write_recording
from simulators.replay import ReplayProgress, ReplayReport, replay

from .conftest import Broker, Line, Subscriber, free_port

MANY = [Message(i, f"meterflow/v1/p/m{i % 7}", 1, b'{"time":%d,"value":1.10}' % i) for i in range(3_000)]


def _recorded(folder: Path, messages: list[Message], name: str = "r.ndjson.zst") -> Path:
    with write_recording(folder / name) as recording:
        recording.write_all(messages)
    return folder / name


def _sent(messages: list[Message]) -> list[tuple[str, bytes, int, bool]]:
    """As a subscriber gets them: the retain flag is for those who come later."""
    return [(m.topic, m.payload, m.qos, False) for m in messages]


def _played(path: Path, url: str, **options: object) -> ReplayReport:
    return asyncio.run(replay([path], url, **options))  # type: ignore[arg-type]


def test_every_message_arrives_in_order_byte_for_byte(
    broker: Broker, subscriber: Subscriber, tmp_path: Path
) -> None:
    """And each is acknowledged, within the twenty that Mosquitto lets be on their way."""
    report = _played(_recorded(tmp_path, MANY), broker.url)
    subscriber.wait_for(len(MANY))
    assert subscriber.got == _sent(MANY)
    assert (report.messages, report.acknowledged, report.resent) == (len(MANY), len(MANY), 0)
    assert report.rate_hz > 1_000


def test_any_bytes_qos_and_topic_arrive_as_recorded(
    broker: Broker, subscriber: Subscriber, tmp_path: Path
) -> None:
    """Binary payloads, empty ones, QoS 0 and 2, topics in any script."""
    messages = [
        Message(0, "a/b", 0, b"\x00\xff"),
        Message(1, "厂/电", 1, b""),
        Message(2, "a", 2, b'{"v": 0.10}'),
        Message(3, "big", 1, bytes(range(256)) * 4_000),
    ]
    report = _played(_recorded(tmp_path, messages), broker.url)
    subscriber.wait_for(len(messages))
    assert sorted(subscriber.got) == sorted(_sent(messages))
    assert (report.acknowledged, report.at_qos_0, report.lowered) == (3, 1, 0)


def test_a_retained_message_is_published_retained(broker: Broker, tmp_path: Path) -> None:
    """Who subscribes later gets it."""
    message = Message(0, "kept", 1, b"1", True)
    _played(_recorded(tmp_path, [message]), broker.url)
    late = Subscriber(broker.port)
    late.wait_for(1)
    late.stop()
    _played(_recorded(tmp_path, [message._replace(payload=b"")]), broker.url)
    assert late.got == [("kept", b"1", 1, True)]


def test_a_line_that_breaks_again_and_again_loses_nothing(
    line: Callable[..., Line], subscriber: Subscriber, tmp_path: Path
) -> None:
    """What was not acknowledged is sent again; what arrives twice was counted as resent."""
    laid = line(40_000)
    report = _played(_recorded(tmp_path, MANY), laid.url)
    subscriber.wait_for(len(MANY))
    arrived, sent = Counter(subscriber.got), Counter(_sent(MANY))
    assert set(arrived) == set(sent)
    assert report.acknowledged == len(MANY)
    assert report.reconnects == laid.breaks >= 3
    assert sum((arrived - sent).values()) <= report.resent


def test_a_message_that_breaks_the_line_each_time_is_reported_and_the_rest_arrives(
    line: Callable[..., Line], subscriber: Subscriber, tmp_path: Path
) -> None:
    """It is found by sending one at a time, and counted as refused."""
    messages = [*MANY[:5], Message(5, "too/big", 1, b"x" * 50_000), *MANY[5:10]]
    report = _played(_recorded(tmp_path, messages), line(20_000).url)
    subscriber.wait_for(10)
    assert {topic for topic, *_ in subscriber.got} == {message.topic for message in MANY[:10]}
    assert (report.acknowledged, sum(report.refused.values())) == (10, 1)
    assert "closes at it" in next(iter(report.refused))


def test_a_topic_that_nobody_can_publish_to_is_reported_and_the_rest_arrives(
    broker: Broker, subscriber: Subscriber, tmp_path: Path
) -> None:
    """Wildcards are for subscribers; the recording may still hold them."""
    report = _played(_recorded(tmp_path, [Message(0, "a/#", 1, b"1"), MANY[0]]), broker.url)
    subscriber.wait_for(1)
    assert (report.acknowledged, sum(report.refused.values())) == (1, 1)
    assert "wildcards" in next(iter(report.refused))


def test_a_replay_goes_on_where_an_earlier_one_stopped(
    broker: Broker, subscriber: Subscriber, tmp_path: Path
) -> None:
    """``skip`` takes what ``done`` of the progress said."""
    told: list[ReplayProgress] = []
    report = _played(_recorded(tmp_path, MANY), broker.url, skip=2_900, progress=told.append)
    subscriber.wait_for(100)
    assert subscriber.got == _sent(MANY[2_900:])
    assert (report.messages, report.skipped, report.acknowledged) == (3_000, 2_900, 100)
    assert told[-1] == ReplayProgress(3_000, 100, MANY[-1].received_ms)


@pytest.mark.parametrize("speed", [1.0, 10.0])
def test_a_replay_at_a_speed_takes_its_time(broker: Broker, tmp_path: Path, speed: float) -> None:
    """The recording's own time, divided by the speed."""
    messages = [Message(int(i * 100 * speed), "t", 1, b"1") for i in range(6)]
    report = _played(_recorded(tmp_path, messages), broker.url, speed=speed)
    assert 0.5 <= report.seconds < 1.5


def test_recordings_are_merged_by_when_their_messages_came(tmp_path: Path) -> None:
    """Each keeps its own order."""
    one = _recorded(tmp_path, [Message(1, "a", 1, b""), Message(5, "a", 1, b"")], "one")
    two = _recorded(tmp_path, [Message(2, "b", 1, b""), Message(9, "b", 1, b"")], "two")
    assert [message.received_ms for message in merged([two, one])] == [1, 2, 5, 9]


def test_a_broker_that_wants_a_password_gets_it(guarded_broker: Broker, tmp_path: Path) -> None:
    """From the options, or from the address."""
    path = _recorded(tmp_path, MANY[:3])
    assert _played(path, guarded_broker.url, user="meter", password="secret").acknowledged == 3
    url = guarded_broker.url.replace("mqtt://", "mqtt://meter:secret@")
    assert _played(path, url).acknowledged == 3


def test_a_wrong_password_is_said_at_once_and_never_shown(guarded_broker: Broker, tmp_path: Path) -> None:
    """It is no use to try again."""
    url = guarded_broker.url.replace("mqtt://", "mqtt://meter:hunter2@")
    with pytest.raises(MeterflowError, match="refused") as caught:
        _played(_recorded(tmp_path, MANY[:3]), url)
    assert not caught.value.retry
    assert caught.value.where == guarded_broker.url
    assert "hunter2" not in str(caught.value)


def test_an_address_where_nobody_answers_is_given_up(tmp_path: Path) -> None:
    """After the patience, as something that may work later."""
    with pytest.raises(Unavailable, match="Connection refused") as caught:
        _played(_recorded(tmp_path, MANY[:3]), f"mqtt://127.0.0.1:{free_port()}", patience_s=0.5)
    assert caught.value.retry


def test_an_endpoint_that_never_answers_connect_is_given_up(tmp_path: Path) -> None:
    """A socket that is open and says nothing is no broker."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"mqtt://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(Unavailable):
            _played(_recorded(tmp_path, MANY[:3]), url, patience_s=0.5)


def test_an_endpoint_that_stops_acknowledging_is_given_up_with_what_is_done(
    line: Callable[..., Line], tmp_path: Path
) -> None:
    """So that a later replay can go on from there."""
    laid = line(30_000, connections_max=2)
    with pytest.raises(Unavailable, match="Connection refused") as caught:
        _played(_recorded(tmp_path, MANY), laid.url, patience_s=1.0)
    found = re.search(r"the first (\d+) messages are done and can be skipped", caught.value.hint)
    assert found is not None
    assert 0 < int(found[1]) < len(MANY)


def test_tls_is_spoken_and_its_certificates_are_checked(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate of nobody known is refused at once; one that is trusted is fine."""
    tls_url, certificate = broker.tls_url, str(broker.certificate)
    path = _recorded(tmp_path, MANY)
    with pytest.raises(MeterflowError, match="not trusted"):
        _played(path, tls_url)
    monkeypatch.setenv("SSL_CERT_FILE", certificate)
    assert _played(path, tls_url).acknowledged == len(MANY)


def test_a_broker_without_mqtt_5_is_spoken_to_in_3_1_1(broker: Broker, tmp_path: Path) -> None:
    """Old brokers close the connection at a version they do not know."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_only_3_1_1, args=(server, broker.port), daemon=True).start()
        report = _played(_recorded(tmp_path, MANY[:50]), f"mqtt://127.0.0.1:{server.getsockname()[1]}")
    assert report.acknowledged == 50


def _only_3_1_1(server: socket.socket, port: int) -> None:
    while True:
        near, _ = server.accept()
        hello = near.recv(4096)
        if hello[8] != 4:  # the byte behind the protocol's name
            near.close()
            continue
        far = socket.create_connection(("127.0.0.1", port))
        far.sendall(hello)
        for one, other in ((far, near), (near, far)):
            threading.Thread(target=_carry_all, args=(one, other), daemon=True).start()


def _carry_all(one: socket.socket, other: socket.socket) -> None:
    while data := one.recv(65_536):
        other.sendall(data)


def test_a_replay_can_be_cancelled(broker: Broker, tmp_path: Path) -> None:
    """Within a moment, however long it would have taken."""
    path = _recorded(tmp_path, [Message(0, "t", 1, b"1"), Message(3_600_000, "t", 1, b"2")])

    async def cancelled() -> None:
        task = asyncio.create_task(replay([path], broker.url, 1.0))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    started = time.monotonic()
    asyncio.run(cancelled())
    assert time.monotonic() - started < 3.0


def test_a_wrong_line_stops_a_replay_with_its_place(broker: Broker, tmp_path: Path) -> None:
    """As a mistake of the user."""
    path = tmp_path / "r.ndjson"
    path.write_text("nonsense\n")
    with pytest.raises(UsageError, match=r"r\.ndjson:1"):
        _played(path, broker.url)


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_an_impossible_speed_is_refused(tmp_path: Path, speed: float) -> None:
    """Before anything is sent."""
    with pytest.raises(UsageError, match="speed"):
        _played(tmp_path / "none", "mqtt://localhost", speed=speed)


@pytest.mark.parametrize("url", ["http://h", "mqtt://", "mqtt://h:0x10", "mqtt://h:99999", "mqtt://h/topic"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    """With the form of an address."""
    with pytest.raises(UsageError, match="mqtt://HOST:PORT"):
        parse_address(url)


def test_an_address_is_shown_without_its_password() -> None:
    """As text and as an object."""
    address = parse_address("mqtts://u%40x:p%3Aw@[::1]:99")
    assert (address.user, address.password, address.tls) == ("u@x", "p:w", True)
    assert str(address) == "mqtts://[::1]:99"
    assert "p:w" not in repr(address)
