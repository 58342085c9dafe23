"""The embedded service under kills, power cuts, a disk in trouble and a long load, as a command.

    python -m tests.endurance.endure kills [--seed 1] [--kills 100] [--readings 2000000]
    python -m tests.endurance.endure power [--seed 1] [--points 1000] [--restarts 10] [--readings 4000]
    python -m tests.endurance.endure faults [--seed 1] [--seconds 10] [--readings 10000]
    python -m tests.endurance.endure soak [--seed 1] [--seconds 7200] [--readings 20000]

It works in a folder of its own, which it leaves there where something is wrong; exit code 1 then.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.endurance import endurance_faults, endurance_kills, endurance_power, endurance_soak

Say = Callable[[str], None]


def main(words: Sequence[str] | None = None) -> int:
    """The command; 1 where something is wrong."""
    given = _parser().parse_args(words)
    began_s = time.monotonic()

    def say(text: str) -> None:
        sys.stdout.write(f"{time.monotonic() - began_s:7.1f} s  {text}\n")
        sys.stdout.flush()

    folder = Path(tempfile.mkdtemp(prefix="endurance-", dir=given.folder))
    wrong, text = _PARTS[given.part](folder, given, say)
    say("end")
    sys.stdout.write(f"{text}\n")
    if wrong:
        sys.stdout.write(f"what it left is in {folder}\n")
        return 1
    shutil.rmtree(folder)
    return 0


def _kills(folder: Path, given: argparse.Namespace, say: Say) -> tuple[bool, str]:
    outcome = endurance_kills.run(folder, given.seed, given.kills, given.readings, say)
    return bool(outcome.faults or outcome.lost or outcome.double), outcome.text()


def _power(folder: Path, given: argparse.Namespace, say: Say) -> tuple[bool, str]:
    outcome = endurance_power.run(folder, given.seed, given.points, given.restarts, given.readings, say)
    return bool(outcome.faults), outcome.text()


def _faults(folder: Path, given: argparse.Namespace, say: Say) -> tuple[bool, str]:
    outcome = endurance_faults.run(folder, given.seed, given.seconds, given.readings, say)
    return bool(outcome.faults), outcome.text()


def _soak(folder: Path, given: argparse.Namespace, say: Say) -> tuple[bool, str]:
    outcome = endurance_soak.run(folder, given.seed, given.seconds, given.readings, say)
    return bool(outcome.faults), outcome.text()


_PARTS = {"kills": _kills, "power": _power, "faults": _faults, "soak": _soak}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.endurance.endure", description=__doc__)
    parser.add_argument("part", choices=sorted(_PARTS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--readings", type=int, default=100_000)
    parser.add_argument("--points", type=int, default=100, help="power cuts")
    parser.add_argument("--restarts", type=int, default=3, help="power cuts behind which all of it runs on")
    parser.add_argument(
        "--seconds", type=float, default=10, help="of each trouble of the disk, or of the soak"
    )
    parser.add_argument("--folder", help="where to work; default: the system's folder for temporary files")
    return parser


if __name__ == "__main__":
    sys.exit(main())
