"""What the tests' real servers have in common: a process to start, stop, kill, pause and start again."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, Self

import pytest

START_S, STOP_S = 60.0, 30.0


def missing(what: str) -> NoReturn:
    """Skips the test for want of something; in CI nothing may be skipped."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and in CI nothing may be skipped")
    pytest.skip(f"{what} is missing")


def cache() -> Path:
    """Where scripts/setup-services puts what it fetches and builds."""
    return Path(os.environ.get("METERFLOW_CACHE") or Path.home() / ".cache" / "meterflow")


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


def listens(port: int) -> bool:
    """Whether something takes connections there."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
        return True
    return False


def wait_until(true: Callable[[], bool], what: str, patience_s: float = START_S) -> None:
    """Waits until it is true; fails after ``patience_s`` seconds."""
    until = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < until, f"waited {patience_s} s in vain for {what}"
        time.sleep(0.02)


class Server:
    """One server on this machine, its data and its log in ``folder``.

    After ``stop`` or ``kill`` it can be started again on the same port and data. A subclass says how it is
    started (``command``) and when it is ready (``answers``).
    """

    name = "server"
    stop_signal = signal.SIGTERM

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log_path = folder / f"{self.name}.log"
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        """The command line."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """What its process sees of the environment."""
        return os.environ

    def answers(self) -> bool:
        """Whether it is ready for clients."""
        raise NotImplementedError

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process, while it runs."""
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        """What it has said since it was started last."""
        with self.log_path.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def start(self, *, outlives: bool = False) -> Self:
        """Starts it and waits until it is ready; ``outlives``: the end of this process is not its end."""
        assert not self.running, f"{self.name} runs already"
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment(),
                start_new_session=outlives,
            )
        if not outlives:
            atexit.register(self.kill)
        wait_until(self._ready, self.name)
        return self

    def _ready(self) -> bool:
        assert self.running, f"{self.name} ended at once:\n{self.log()[-2000:]}"
        return self.answers()

    def stop(self) -> None:
        """An orderly end; nothing when it does not run."""
        if self._process is not None and self.running:
            self.resume()
            self._process.send_signal(self.stop_signal)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
        self.kill()

    def kill(self) -> None:
        """The end by SIGKILL, as if the machine lost the process; nothing when it does not run."""
        atexit.unregister(self.kill)
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Stops it as it is: connections stay, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on after ``pause``."""
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
