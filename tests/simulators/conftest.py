"""Real parts for the simulators' tests: a Mosquitto, a subscriber, a line that can be cut."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 20.0
NEWLINE = "\n"


def missing(what: str) -> None:
    """Skips a test for want of something; in CI nothing may be skipped."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and in CI nothing may be skipped")
    pytest.skip(f"{what} is missing")


@pytest.fixture
def data_file() -> Callable[[str], Path]:
    """The path of a file of real readings, which lie beside the project."""

    def find(name: str) -> Path:
        path = ROOT.parent / "shared" / "data" / name
        if not path.exists():
            missing(f"{name} (in ../shared/data, see examples/)")
        return path

    return find


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_until(true: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < until, f"waited {PATIENCE_S} s in vain for {what}"
        time.sleep(0.02)


def _make_certificate(folder: Path) -> Path:
    """One that signs itself, for 127.0.0.1."""
    certificate = folder / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=broker",
    ]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "key.pem")]
    subprocess.run([*command, "-out", str(certificate)], check=True, capture_output=True)
    return certificate


class Broker:
    """A Mosquitto of its own, for user ``meter`` with password ``secret``, and for anybody."""

    def __init__(self, folder: Path, *, anonymous: bool = True, settings: Sequence[str] = ()) -> None:
        program = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
        if program is None or not shutil.which("mosquitto_passwd") or not shutil.which("openssl"):
            missing("mosquitto or openssl (apt install mosquitto openssl)")
        self.port = free_port()
        self.url = f"mqtt://127.0.0.1:{self.port}"
        passwords = folder / "passwords"
        passwords.write_text("meter:secret\n")
        passwords.chmod(0o600)
        subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True, capture_output=True)
        tls_port = free_port()
        self.tls_url = f"mqtts://127.0.0.1:{tls_port}"
        self.certificate = _make_certificate(folder)
        config = folder / "mosquitto.conf"
        config.write_text(
            f"user root\n{NEWLINE.join(settings or ('max_queued_messages 0',))}\n"
            f"allow_anonymous {str(anonymous).lower()}\npassword_file {passwords}\n"
            f"listener {self.port} 127.0.0.1\nlistener {tls_port} 127.0.0.1\n"
            f"certfile {self.certificate}\nkeyfile {folder / 'key.pem'}\n"
        )
        self._command = [str(program), "-c", str(config)]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)
        wait_until(self._answers, "Mosquitto")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2):
            return True
        return False

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)


class Subscriber:
    """Everything a broker gives to a subscriber of ``#``: (topic, payload, QoS, retain)."""

    def __init__(self, port: int) -> None:
        self.got: list[tuple[str, bytes, int, bool]] = []
        self._ready = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe("#", 2)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._ready.wait(PATIENCE_S), "no subscription"

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        self.got.append((message.topic, bytes(message.payload), message.qos, message.retain))

    def wait_for(self, count: int) -> None:
        wait_until(lambda: len(self.got) >= count, f"{count} messages, {len(self.got)} came")

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Line:
    """A line to a port, of TCP, that breaks whenever so many bytes have gone through it.

    After ``connections_max`` nobody answers any more.
    """

    def __init__(self, port: int, bytes_max: int, connections_max: int = 1_000) -> None:
        self.connections_max = connections_max
        self.port = port
        self.bytes_max = bytes_max
        self.breaks = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtt://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            for _ in range(self.connections_max):
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self.port))
                threading.Thread(target=self._carry, args=(far, near, None), daemon=True).start()
                threading.Thread(target=self._carry, args=(near, far, self.bytes_max), daemon=True).start()
        self._listener.close()

    def _carry(self, one: socket.socket, other: socket.socket, bytes_max: int | None) -> None:
        left = bytes_max
        with suppress(OSError):
            while left is None or left > 0:
                data = one.recv(4096 if left is None else min(4096, left))
                if not data:
                    break
                other.sendall(data)
                left = None if left is None else left - len(data)
            self.breaks += left == 0
        for sock in (one, other):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def stop(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    running = Broker(tmp_path_factory.mktemp("mosquitto"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def guarded_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    running = Broker(tmp_path_factory.mktemp("guarded"), anonymous=False)
    yield running
    running.stop()


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """Brokers of a test's own, to be killed, or with other settings."""
    running: list[Broker] = []

    def begin(*settings: str) -> Broker:
        folder = tmp_path / f"broker-{len(running)}"
        folder.mkdir()
        running.append(Broker(folder, settings=settings))
        return running[-1]

    yield begin
    for one in running:
        one.stop()


@pytest.fixture
def subscriber(broker: Broker) -> Iterator[Subscriber]:
    listening = Subscriber(broker.port)
    yield listening
    listening.stop()


@pytest.fixture
def line(broker: Broker) -> Iterator[Callable[..., Line]]:
    lines: list[Line] = []

    def lay(bytes_max: int, connections_max: int = 1_000) -> Line:
        lines.append(Line(broker.port, bytes_max, connections_max))
        return lines[-1]

    yield lay
    for laid in lines:
        laid.stop()
