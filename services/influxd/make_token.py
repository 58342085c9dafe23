"""Run once by docker-compose.yml: makes a token of InfluxDB that may do no more than one role needs, and has
the bucket keep its rows in shards of one day (docs/operations.md, "InfluxDB", says why).

``make_token.py read|write FILE``: the token goes into FILE; one that is there and still works is kept. A
``write`` token may read as well, for the sink looks at what is stored. InfluxDB's place is in the variables
of the settings (METERFLOW_INFLUXDB_URL and so on); METERFLOW_INFLUXDB_TOKEN_FILE holds its administrator's
token. Needs nothing but Python.
"""  # noqa: INP001 a program, no module

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

PATIENCE_S, PAUSE_S = 60.0, 1.0
SHARD_S = 86_400


def setting(name: str) -> str:
    return os.environ[f"METERFLOW_INFLUXDB_{name}"]


def call(token: str, path: str, body: dict[str, Any] | None = None, method: str | None = None) -> Any:
    """One call of InfluxDB's API: GET without a body, POST with one, unless it is said."""
    request = urllib.request.Request(  # noqa: S310 the administrator's own address
        setting("URL") + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Token {token}", "Content-Type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.load(answer)


def bucket_as(token: str) -> dict[str, Any] | None:
    """The bucket as that token sees it; none when it does not."""
    try:
        found = call(token, f"/api/v2/buckets?name={setting('BUCKET')}")["buckets"]
    except urllib.error.HTTPError:
        return None
    return found[0] if found else None


def works(file: Path) -> bool:
    """Whether a token of an earlier run can be kept."""
    return file.exists() and bucket_as(file.read_text(encoding="utf-8").strip()) is not None


def make(kind: str, file: Path) -> None:
    """Makes the token."""
    administrator = Path(setting("TOKEN_FILE")).read_text(encoding="utf-8").strip()
    bucket = bucket_as(administrator)
    if bucket is None:
        sys.exit(f"InfluxDB has no bucket {setting('BUCKET')}, or refuses its administrator's token")
    if kind == "write":  # before the first row: a shard that is there keeps its length
        rule = {"type": "expire", "everySeconds": 0, "shardGroupDurationSeconds": SHARD_S}
        call(administrator, f"/api/v2/buckets/{bucket['id']}", {"retentionRules": [rule]}, "PATCH")
    actions = ("read", "write") if kind == "write" else ("read",)
    resource = {"type": "buckets", "id": bucket["id"], "orgID": bucket["orgID"]}
    rights = [{"action": action, "resource": resource} for action in actions]
    body = {"orgID": bucket["orgID"], "description": f"meterflow {kind}", "permissions": rights}
    new = file.with_suffix(".new")
    new.write_text(call(administrator, "/api/v2/authorizations", body)["token"] + "\n", encoding="utf-8")
    new.replace(file)


def main() -> None:
    """Waits for InfluxDB as long as it takes to start, not longer."""
    kind, file = sys.argv[1], Path(sys.argv[2])
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            if not works(file):
                make(kind, file)
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            if time.monotonic() > until:
                sys.exit(f"InfluxDB at {setting('URL')} does not answer: {error}")
            time.sleep(PAUSE_S)
        else:
            return


if __name__ == "__main__":
    main()
