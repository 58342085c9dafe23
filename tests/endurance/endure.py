"""The embedded service under kills, as a command.

    python -m tests.endurance.endure kills [--seed 1] [--kills 100] [--readings 2000000]

It works in a folder of its own, which it leaves there where something is wrong; exit code 1 then.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.endurance import endurance_kills


def main(words: Sequence[str] | None = None) -> int:
    """The command; 1 where something is wrong."""
    given = _parser().parse_args(words)
    began_s = time.monotonic()

    def say(text: str) -> None:
        sys.stdout.write(f"{time.monotonic() - began_s:7.1f} s  {text}\n")
        sys.stdout.flush()

    folder = Path(tempfile.mkdtemp(prefix="endurance-", dir=given.folder))
    outcome = endurance_kills.run(folder, given.seed, given.kills, given.readings, say)
    say("end")
    sys.stdout.write(f"{outcome.text()}\n")
    if outcome.faults or outcome.lost or outcome.double:
        sys.stdout.write(f"what it left is in {folder}\n")
        return 1
    shutil.rmtree(folder)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.endurance.endure", description=__doc__)
    parser.add_argument("part", choices=["kills"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--readings", type=int, default=100_000)
    parser.add_argument("--folder", help="where to work; default: the system's folder for temporary files")
    return parser


if __name__ == "__main__":
    sys.exit(main())
