"""The health check of a role's container: its ``/readyz`` says yes, on whichever port that role has."""  # noqa: INP001 a program, no module

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

PORTS = (8080, 8081, 8082, 8083)
TOKEN = Path("/run/secrets/page-token")


def answer(port: int) -> str:
    """What the role at this port says; empty when there is none. Raises HTTPError when it is not ready."""
    headers = {"Authorization": f"Bearer {TOKEN.read_text(encoding='utf-8').strip()}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/readyz", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=3) as found:  # noqa: S310 this container's own address
            return str(found.read().decode())
    except urllib.error.HTTPError as problem:
        sys.exit(problem.read().decode())


if __name__ == "__main__":
    for one in PORTS:
        with suppress(urllib.error.URLError):
            print(answer(one))  # noqa: T201 docker inspect shows it
            sys.exit()
    sys.exit("no role answers")
