"""Every profile with every kind of fault, simulated, computed and scored.

``python -m meterflow.scores > docs/scores.md`` makes the table of results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from meterflow import compute as computing
from meterflow.given import instant_ms, load_roster
from meterflow.scoring import Scored, scored
from meterflow.scoring_faults import OUTCOMES
from meterflow.simulating import START, write_world
from simulators.world import ALL_KINDS, Plan
from simulators.world_flows import HOUR_MS
from simulators.world_profile import load_profile, shipped
from simulators.world_report_faults import REPORT_KINDS

SEEDS = (1, 2)
HOURS = 2
REPORT_HOURS = 34
MIXED_HOURS = 24
ALL = "all"


@dataclass(frozen=True, slots=True)
class Run:
    """What is simulated: each slot of each register has a fault of one of these kinds."""

    profile: str
    kinds: tuple[str, ...]
    seed: int
    hours: int = HOURS
    start: str = START
    plants: int = 1


def run(what: Run, folder: Path) -> Scored:
    """Simulates, computes and scores in a folder."""
    recording, truth, data = folder / "R.ndjson", folder / "T", folder / "D"
    begin_ms = instant_ms(what.start)
    plan = Plan(what.seed, begin_ms, begin_ms + what.hours * HOUR_MS, what.kinds, 1.0)
    write_world(recording, truth, load_profile(what.profile), plan, what.plants, lambda *_: None)
    computation = computing.compute([recording], load_roster(truth / "site.yaml"))
    computing.write(computation, data, "parquet")
    return scored(truth, data)


def table(seeds: Sequence[int] = SEEDS) -> Iterator[str]:
    """The lines of docs/scores.md."""
    yield "# Scores"
    yield ""
    yield "What meterflow makes of each fault, against the known truth. Made by `python -m meterflow.scores`;"
    yield "[formats.md](formats.md#faults) says what each fault is,"
    yield "[operations.md](operations.md#meterflow-score-truth-data) what the words mean. Each line: every"
    yield f"profile that ships, seeds {', '.join(map(str, seeds))}, a fault in each register within {HOURS}"
    yield f"hours (of reports, in each third of {REPORT_HOURS}); of `all`, in each 6 hours of {MIXED_HOURS}."
    yield ""
    yield f"| fault | {' | '.join(OUTCOMES)} | measured figures | false final |"
    yield "|---" * (len(OUTCOMES) + 3) + "|"
    for kind in (*ALL_KINDS, ALL):
        yield row(kind, seeds)


def row(kind: str, seeds: Sequence[int]) -> str:
    """The line of one kind, or of all together."""
    kinds = ALL_KINDS if kind == ALL else (kind,)
    hours = MIXED_HOURS if kind == ALL else REPORT_HOURS if kind in REPORT_KINDS else HOURS
    counts: Counter[str] = Counter()
    for profile in shipped():
        for seed in seeds:
            with TemporaryDirectory() as folder:
                found = run(Run(profile, kinds, seed, hours), Path(folder))
            counts.update({**found.verdicts, "measured": found.measured, "false": found.false_final})
    cells = [str(counts[word]) for word in (*OUTCOMES, "measured", "false")]
    return f"| `{kind}` | {' | '.join(cells)} |"


if __name__ == "__main__":
    for line in table():
        click.echo(line)
