"""Every law on ten thousand random histories, by their numbers: the same ones in each run."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.processors import soak
from tests.processors.laws import Example
from tests.processors.log_driver import Arrival, Reading

PART, PARTS = 1_000, 10
TWINS = 300
ROOT = Path(__file__).parents[2]


def soaked(first: int, count: int, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command, in processes of its own: those of pytest have threads, which do not fork well."""
    words = ["-m", "tests.processors.soak", "--first", str(first), "--examples", str(count)]
    words += ["--jobs", str(os.cpu_count() or 1)]
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | environment,
        check=False,
    )


@pytest.mark.parametrize("part", range(PARTS))
def test_every_law_holds_on_a_thousand_histories(part: int) -> None:
    """Oracle, order, story, conservation, no false figure: a thousand histories, ten times."""
    done = soaked(part * PART, PART)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_every_law_holds_without_the_compiled_loops() -> None:
    """The twins of the loops keep the laws, too."""
    done = soaked(PART * PARTS, TWINS, METERFLOW_KERNELS="off")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_what_breaks_a_law_is_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a history that breaks a law by one reading, that one is left."""
    one = soak.example_of(1, 3)
    culprit = one.history.readings[0]

    def broken(less: Example, *, other: bool) -> list[str]:
        return ["it"] * (other and culprit in less.history.readings)

    monkeypatch.setattr(soak, "broken", broken)
    small = soak.smallest(replace(one, log=(*one.log, Arrival(0))))
    assert set(small.history.readings) == {culprit}
    assert {r for arrival in small.log for r in arrival.readings} == {culprit}
    assert all(arrival.readings for arrival in small.log)
    assert isinstance(culprit, Reading)
