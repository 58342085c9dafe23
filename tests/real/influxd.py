"""A real InfluxDB 2: the influxd that scripts/build-influxd puts into the cache."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.real.server import Server, cache, free_port, missing

GO_MOD = Path(__file__).resolve().parents[2] / "services" / "influxd" / "go.mod"
ORG, BUCKET, TOKEN = "works", "first", "token-of-the-tests"
TIMEOUT_S = 10.0
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def influxd_version() -> str:
    """The version that the tests run."""
    found = re.search(r"influxdata/influxdb/v2 v(\S+)", GO_MOD.read_text())
    assert found is not None
    return found[1]


def influxd_program() -> Path:
    """The program; skips the test when it is not there."""
    program = cache() / f"influxd-{influxd_version()}" / "influxd"
    if not program.exists():
        missing(f"influxd {influxd_version()} (make setup-services)")
    return program


@dataclass(frozen=True)
class Influx:
    """Where an InfluxDB 2 is, and a token that may do everything in its organisation."""

    url: str
    org: str
    token: str

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One call of its API, JSON both ways; raises urllib's HTTPError."""
        request = urllib.request.Request(
            f"{self.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Token {self.token}", "Content-Type": "application/json"},
        )
        with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
            return json.loads(answer.read() or b"null")

    def org_id(self) -> str:
        """The organisation's id."""
        return str(self.call("GET", f"/api/v2/orgs?org={self.org}")["orgs"][0]["id"])

    def bucket(self, name: str = "", retention_s: int = 0, shard_s: int = 0) -> str:
        """A new bucket's name, one of its own unless it is given; 0 is for ever, and shards of a week."""
        name = name or f"test-{uuid.uuid4().hex[:12]}"
        rule = {"type": "expire", "everySeconds": retention_s, "shardGroupDurationSeconds": shard_s}
        rules = [rule] if retention_s or shard_s else []
        self.call("POST", "/api/v2/buckets", {"orgID": self.org_id(), "name": name, "retentionRules": rules})
        return name

    def token_for(self, bucket: str, *actions: str) -> str:
        """A new token with only these rights (``read``, ``write``) on one bucket."""
        found = self.call("GET", f"/api/v2/buckets?org={self.org}&name={bucket}")["buckets"][0]
        org = found["orgID"]
        resource = {"type": "buckets", "id": found["id"], "orgID": org}
        rights = [{"action": action, "resource": resource} for action in actions]
        return str(
            self.call("POST", "/api/v2/authorizations", {"orgID": org, "permissions": rights})["token"]
        )


class InfluxServer(Server):
    """An influxd with the organisation ``works``, a bucket ``first`` and the token of its administrator."""

    name = "influxd"
    stop_signal = signal.SIGINT  # at SIGTERM it ends without an orderly shutdown

    def __init__(
        self, folder: Path, *, host: str = "127.0.0.1", port: int = 0, options: Sequence[str] = ()
    ) -> None:
        super().__init__(folder)
        self.program = influxd_program()
        self.host = host
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.org, self.bucket, self.token = ORG, BUCKET, TOKEN
        self.influx = Influx(self.url, self.org, self.token)
        self._options = tuple(options)

    def command(self) -> Sequence[str]:
        return [
            str(self.program),
            "run",
            "--reporting-disabled",
            "--log-level=warn",
            f"--bolt-path={self.folder / 'influxd.bolt'}",
            f"--sqlite-path={self.folder / 'influxd.sqlite'}",
            f"--engine-path={self.folder / 'engine'}",
            f"--http-bind-address={self.host}:{self.port}",
            *self._options,
        ]

    def environment(self) -> Mapping[str, str]:
        """Without a user's own settings of influxd."""
        return {key: value for key, value in os.environ.items() if not key.startswith("INFLUXD_")}

    def answers(self) -> bool:
        """Ready, and set up the first time."""
        with suppress(OSError):
            if self.influx.call("GET", "/health")["status"] != "pass":
                return False
            if self.influx.call("GET", "/api/v2/setup")["allowed"]:
                self._set_up()
            return True
        return False

    def _set_up(self) -> None:
        first = {"username": "admin", "password": "password-of-the-tests", "token": self.token}
        self.influx.call("POST", "/api/v2/setup", {**first, "org": self.org, "bucket": self.bucket})
