"""``python -m tests.chaos``: the whole distributed service under faults; ``make chaos`` runs it.

The last line of a good run is ``lost 0 double 0``, with how often each fault happened. A run that is not
good says why, names its seed, keeps its folder and ends with 1.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

import click

from tests.chaos.run import Asked, chaos
from tests.meterflow.versions import tree


def main() -> int:
    """Runs once."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="decides everything that is decided")
    parser.add_argument("--readings", type=int, default=40_000, help="about so many")
    parser.add_argument("--seconds", type=float, default=60, help="over which they are published")
    parser.add_argument("--faults", type=int, default=0, help="how many; 0: each kind once")
    parser.add_argument(
        "--only", default="", help="a pattern: faults such as 'full disk' or 'kafka', no others"
    )
    parser.add_argument("--earlier", help="a commit: in the middle third all copies are of that version")
    parser.add_argument("--keep", action="store_true", help="keep the folder of a good run, too")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix=f"meterflow-chaos-{given.seed}-"))
    earlier = tree(given.earlier, folder / "earlier") if given.earlier else None
    asked = Asked(
        given.seed, folder, given.readings, given.seconds, given.faults, only=given.only, earlier=earlier
    )
    click.echo(f"chaos with seed {given.seed} in {folder}")
    try:
        verdict, counts = asyncio.run(chaos(asked, click.echo))
    except Exception:
        click.echo(f"seed {given.seed}; everything is in {folder}")
        raise
    for name, value in verdict.facts.items():
        click.echo(f"{name}: {value}")
    for line in verdict.wrong:
        click.echo(f"WRONG {line}")
    if verdict.good and not given.keep:
        shutil.rmtree(folder)
    else:
        click.echo(f"seed {given.seed}; everything is in {folder}")
    told = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    click.echo(f"faults: {told or 'none'}")
    click.echo(f"lost {verdict.lost} double {verdict.double}")
    return 0 if verdict.good else 1


if __name__ == "__main__":
    sys.exit(main())
