"""A real Mosquitto, from Debian's package."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.real.server import Server, free_port, listens, missing

PLACES = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
"""Debian puts the broker where not every user's PATH leads."""


def mosquitto_program(name: str = "mosquitto") -> str:
    """The program ``mosquitto`` or one beside it; skips the test when it is not there."""
    found = shutil.which(name, path=PLACES)
    if found is None:
        missing(f"{name} (make setup-services; on Debian: apt-get install mosquitto mosquitto-clients)")
    return found


class Mosquitto(Server):
    """A broker that queues without a bound.

    users: name -> password; with none everybody may come. acl: the text of its access control file.
    persistent: sessions and what is queued outlive ``stop``, and up to a second before it ``kill``.
    certificate and key: PEM files; the listener then speaks TLS. settings: more lines of its configuration.
    """

    name = "mosquitto"

    def __init__(
        self,
        folder: Path,
        *,
        users: Mapping[str, str] | None = None,
        acl: str = "",
        persistent: bool = False,
        host: str = "127.0.0.1",
        port: int = 0,
        certificate: Path | None = None,
        key: Path | None = None,
        settings: Sequence[str] = (),
    ) -> None:
        super().__init__(folder)
        self.program = mosquitto_program()
        self.port = port or free_port()
        self.url = f"{'mqtts' if certificate else 'mqtt'}://127.0.0.1:{self.port}"
        lines = [f"listener {self.port} {host}", "max_queued_messages 0"]
        if os.getuid() == 0:
            lines.append("user root")
        lines += self._access(users, acl)
        if persistent:
            lines += ["persistence true", f"persistence_location {folder}/", "autosave_interval 1"]
        if certificate and key:
            lines += [f"certfile {certificate}", f"keyfile {key}"]
        self._config = folder / "mosquitto.conf"
        self._config.write_text("\n".join([*lines, *settings, ""]))

    def _access(self, users: Mapping[str, str] | None, acl: str) -> list[str]:
        lines = [f"allow_anonymous {str(not users).lower()}"]
        if users:
            lines.append(f"password_file {self._passwords(users)}")
        if acl:
            (self.folder / "acl").write_text(acl)
            (self.folder / "acl").chmod(0o600)
            lines.append(f"acl_file {self.folder / 'acl'}")
        return lines

    def _passwords(self, users: Mapping[str, str]) -> Path:
        path = self.folder / "passwords"
        path.write_text("".join(f"{name}:{password}\n" for name, password in users.items()))
        path.chmod(0o600)
        hashing = [mosquitto_program("mosquitto_passwd"), "-U", str(path)]
        subprocess.run(hashing, check=True, capture_output=True)
        return path

    def command(self) -> Sequence[str]:
        return [self.program, "-c", str(self._config)]

    def answers(self) -> bool:
        return listens(self.port)
