"""The verb ``record``: stopped by signals, killed, given wrong things; then replayed elsewhere."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from simulators.recording import Gap, Message, read_recording, write_recording
from tests.meterflow.helper import COMMAND, done, environment, eventually, free_port, meterflow, mistake
from tests.real.mosquitto import Mosquitto

MESSAGES = [
    Message(0, "a/bytes", 1, b"\xff\x00\xfe"),
    Message(0, "a/empty", 1, b""),
    Message(0, "b/big", 2, bytes(range(256)) * 4_096),
    Message(0, "b/text", 0, '{"v": 0.10, "名": 1}'.encode()),
    *(Message(0, f"c/{i % 5}", 1 + i % 2, b"%d" % i) for i in range(500)),
]


class Recorders:
    """``meterflow record`` as child processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen[str]] = []

    def start(self, *words: object) -> tuple[subprocess.Popen[str], Path]:
        """One that listens already, and what it says on standard error."""
        said = self.folder / f"said-{len(self.running)}"
        with said.open("w") as file:
            child = subprocess.Popen(
                [*COMMAND, "record", "--json", *map(str, words)],
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env=environment(),
            )
        self.running.append(child)
        eventually(lambda: "recording" in said.read_text() or child.poll() is not None, 30, "a recorder")
        return child, said


@pytest.fixture
def recorders(tmp_path: Path) -> Iterator[Recorders]:
    """Ended when the test is."""
    made = Recorders(tmp_path)
    yield made
    for child in made.running:
        child.kill()
        child.communicate()


def _recorded(path: Path) -> list[tuple[str, int, bytes]]:
    return [(m.topic, m.qos, m.payload) for m in read_recording(path, lambda _told: None)]


def _has(path: Path, messages: int) -> bool:
    return len(_recorded(path)) == messages


def _report(child: subprocess.Popen[str]) -> dict[str, object]:
    out, _ = child.communicate(timeout=30)
    found: dict[str, object] = json.loads(out)
    return found


def test_what_is_recorded_and_replayed_into_another_broker_is_the_same(
    mosquitto_server: Callable[..., Mosquitto], recorders: Recorders, tmp_path: Path
) -> None:
    """Topics, bytes, QoS and the order on each topic; SIGTERM ends a recording cleanly."""
    source, target = mosquitto_server(), mosquitto_server()
    given, first, second = tmp_path / "given.gz", tmp_path / "first.zst", tmp_path / "second.ndjson"
    with write_recording(given) as writer:
        writer.write_all(MESSAGES)
    for broker, played, out in ((source, given, first), (target, first, second)):
        child, _ = recorders.start("--mqtt", broker.url, "--out", out)
        done("replay", played, "--mqtt", broker.url, "--speed", "max")
        eventually(partial(_has, out, len(MESSAGES)), 20, "all messages")
        child.send_signal(signal.SIGTERM)
        assert _report(child)["gaps"] == []
        assert child.returncode == 0
    for path in (first, second):
        found, sent = _recorded(path), [(m.topic, m.qos, m.payload) for m in MESSAGES]
        assert sorted(found) == sorted(sent)
        for topic in ("c/1", "c/2"):  # the order of one QoS of one topic is the publisher's
            for qos in (1, 2):
                wanted = [one for one in sent if one[:2] == (topic, qos)]
                assert [one for one in found if one[:2] == (topic, qos)] == wanted


def test_a_recorder_that_is_killed_has_kept_what_it_acknowledged(
    mosquitto_server: Callable[..., Mosquitto], recorders: Recorders, tmp_path: Path
) -> None:
    """Every message of QoS 1 that the broker counts as delivered is a whole line; --append goes on there."""
    broker, out = mosquitto_server(), tmp_path / "r.ndjson"
    child, _ = recorders.start("--mqtt", broker.url, "--out", out, "--topic", "t/#")
    with write_recording(tmp_path / "g") as writer:
        writer.write_all(Message(0, "t/x", 1, b"%d" % i) for i in range(2_000))
    done("replay", tmp_path / "g", "--mqtt", broker.url, "--speed", "max")
    eventually(lambda: len(_recorded(out)) > 200, 20, "messages")
    child.kill()
    child.wait()
    kept = [payload for _, _, payload in _recorded(out)]
    assert kept == [b"%d" % i for i in range(len(kept))]
    mistake(meterflow("record", "--mqtt", broker.url, "--out", out, "--for", "1s"), 2, "already", "--append")
    ended = meterflow("record", "--mqtt", broker.url, "--out", out, "--for", "1s", "--append", "--json")
    assert ended.returncode == 1, "a recording that was stopped has a gap"
    told: list[object] = []
    assert len(list(read_recording(out, told.append))) == len(kept)
    assert [type(one) for one in told] == [Gap]


def test_a_recorder_whose_broker_goes_away_says_so_and_ends_with_1(
    mosquitto_server: Callable[..., Mosquitto], recorders: Recorders, tmp_path: Path
) -> None:
    """Also when it is stopped before the broker is back."""
    broker = mosquitto_server()
    child, said = recorders.start("--mqtt", broker.url, "--out", tmp_path / "r")
    broker.kill()
    eventually(lambda: "connection is lost" in said.read_text(), 20, "a word about it")
    child.send_signal(signal.SIGINT)
    report = _report(child)
    assert child.returncode == 1
    assert isinstance(report["gaps"], list)
    assert len(report["gaps"]) == 1
    assert "messages may be missing" in said.read_text()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--topic", "a/#/b"], 2, "no topic filter"),
        (["--for", "soon"], 2, "--for"),
        (["--mqtt", "http://h"], 2, "mqtt://HOST:PORT"),
        (["--out", "/nowhere/r"], 1, "/nowhere/r"),
    ],
)
def test_what_cannot_be_is_a_mistake(words: list[str], code: int, said: str, tmp_path: Path) -> None:
    """Told before anything is recorded."""
    given = ["--out", str(tmp_path / "r"), "--mqtt", f"mqtt://127.0.0.1:{free_port()}", *words]
    mistake(meterflow("record", *given), code, said)


def test_a_replay_says_what_it_did_and_what_not(
    mosquitto_server: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    """Exit 0 for a window, for rounds with other stamps; 1 for what was cut off; 2 for stamps not known."""
    url, path = mosquitto_server().url, tmp_path / "r"
    stamped = [Message(i * 1_000, "meterflow/v1/p/m", 1, b'{"time":%d,"value":1}' % i) for i in range(10)]
    with write_recording(path) as writer:
        writer.write_all(stamped)
    replay = ("replay", path, "--mqtt", url, "--speed", "max", "--json")
    window = json.loads(done(*replay, "--from", "1970-01-01T00:00:02Z", "--to", 7_000).stdout)
    assert (window["acknowledged"], window["unacknowledged"]) == (5, 0)
    nothing = done(*replay, "--from", "2026-01-01T00:00:00Z")
    assert json.loads(nothing.stdout)["messages"] == 0
    assert "no message was received in that window" in nothing.stderr
    again = json.loads(done(*replay, "--rounds", 3, "--stamps", "now", "--skip", 4).stdout)
    assert (again["messages"], again["acknowledged"], again["rounds"]) == (30, 26, 3)
    path.write_bytes(path.read_bytes() + b'{"received":')
    mistake(meterflow(*replay), 1, f"{path}:11", "cut off")
    path.write_bytes(path.read_bytes() + b'"1970-01-01T00:00:09Z","topic":"x","qos":1,"payload":1}\n')
    mistake(meterflow(*replay, "--stamps", "2026-01-01T00:00:00Z"), 2, "topic 'x'", "--unstamped")
    refused = meterflow(*replay[:-1], "--stamps", "2026-01-01T00:00:00Z")
    assert "acknowledged" not in refused.stderr, "nothing was sent"
    done(*replay, "--stamps", "2026-01-01T00:00:00Z", "--unstamped", "leave")


def test_an_endless_replay_is_stopped_by_a_signal(
    mosquitto_server: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    """With everything acknowledged: exit 0. Of a replay with an end, 1: it was not played to it."""
    url, path = mosquitto_server().url, tmp_path / "r"
    with write_recording(path) as writer:
        writer.write_all(Message(i * 100, "t", 1, b"1") for i in range(600))
    for words, code in ((["--loop", "--speed", "max"], 0), ([], 1)):
        child = subprocess.Popen(
            [*COMMAND, "replay", str(path), "--mqtt", url, "--json", *words],
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        try:
            child.wait(4)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGTERM)
        report = _report(child)
        assert child.returncode == code
        assert report["stopped"]
        assert report["unacknowledged"] == 0
        assert report["acknowledged"]
