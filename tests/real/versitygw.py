"""A real object store: the versitygw that scripts/build-versitygw puts into the cache, over a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pyarrow import fs

from tests.real.server import Server, cache, free_port, listens, missing

GO_MOD = Path(__file__).resolve().parents[2] / "services" / "versitygw" / "go.mod"
BUCKET, KEY, SECRET = "archive", "key-of-the-tests", "secret-of-the-tests"


def versitygw_program() -> Path:
    """The program; skips the test when it is not there."""
    found = re.search(r"versity/versitygw v(\S+)", GO_MOD.read_text())
    assert found is not None
    program = cache() / f"versitygw-{found[1]}" / "versitygw"
    if not program.exists():
        missing(f"versitygw {found[1]} (make setup-services)")
    return program


class ObjectStore(Server):
    """An S3 server with one bucket, whose objects are files below ``folder``."""

    name = "versitygw"

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        super().__init__(folder)
        self.program = versitygw_program()
        self.port = port or free_port()
        self.objects = folder / "objects"
        for part in (self.objects / BUCKET, folder / "attributes"):
            part.mkdir(parents=True, exist_ok=True)
        self.keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
        """What stands in the environment of who uses it."""

    def command(self) -> Sequence[str]:
        address = f"127.0.0.1:{self.port}"
        sidecar = ("--sidecar", str(self.folder / "attributes"))
        return [str(self.program), "--port", address, "posix", *sidecar, str(self.objects)]

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}

    def answers(self) -> bool:
        """Whether it takes connections."""
        return listens(self.port)

    def url(self, prefix: str) -> str:
        """An archive's address, as operations.md has it."""
        return f"s3://{BUCKET}/{prefix}?region=us-east-1&scheme=http&endpoint_override=127.0.0.1:{self.port}"

    def filesystem(self) -> fs.S3FileSystem:
        """For whoever looks at it from outside."""
        return fs.S3FileSystem(
            access_key=KEY,
            secret_key=SECRET,
            region="us-east-1",
            scheme="http",
            endpoint_override=f"127.0.0.1:{self.port}",
        )
