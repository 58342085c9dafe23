"""The laws on as many random histories as one likes, in several processes.

    python -m tests.processors.soak --examples 1000000 --jobs 2 [--seed 1]

Every history has a number, and so a seed, of its own. What breaks a law is made as small as it can be and
printed with the number; ``--only NUMBER`` tries that one again. METERFLOW_KERNELS=off tries the twins of the
compiled loops.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from random import Random

from tests.processors.histories import History
from tests.processors.laws import Example, broken, example
from tests.processors.log_driver import Arrival, Item

TOGETHER = 100
"""Histories that a process tries before it says how far it is."""
OTHERS = 8
"""Of so many histories one is tried in another order, too."""


def example_of(seed: int, number: int) -> Example:
    """The history of a number, always the same."""
    return example(Random(f"{seed}/{number}"))


def tried(one: Example, *, other: bool = True) -> list[str]:
    """What an example shows to be broken; what an operator raises is one of it."""
    try:
        return broken(one, other=other)
    except Exception as error:  # noqa: BLE001 any: it is reported with the history that brings it about
        return [f"raised: {error!r}"]


def faults(seed: int, numbers: Iterable[int]) -> list[int]:
    """Those of some histories that break a law."""
    return [n for n in numbers if tried(example_of(seed, n), other=n % OTHERS == 0)]


# -- making it small ----------------------------------------------------------------------------------


def smallest(one: Example, *, seconds: float = 60) -> Example:
    """An example that breaks a law still, from which no reading can be taken away."""
    until, changed = time.monotonic() + seconds, True
    while changed and time.monotonic() < until:
        changed = False
        for less in _smaller(one):
            if time.monotonic() > until:
                break
            if tried(less):
                one, changed = less, True
                break
    return one


def _smaller(one: Example) -> Iterator[Example]:
    """The same with less in it, what takes most away first."""
    readings = tuple(dict.fromkeys(one.history.readings))
    part = len(readings) // 2
    while part:
        for at in range(0, len(readings), part):
            left = readings[:at] + readings[at + part :]
            if left:
                yield _only(one, left)
        part //= 2
    for at, arrival in enumerate(one.log):
        if not arrival.readings:
            yield replace(one, log=one.log[:at] + one.log[at + 1 :])
    if one.sizes != (1,):
        yield replace(one, sizes=(1,))
    if one.starts not in ((True,), (False,)):
        yield replace(one, starts=(False,))
        yield replace(one, starts=(True,))


def _only(one: Example, readings: tuple[Item, ...]) -> Example:
    log, other = _kept(one.log, set(readings)), _kept(one.other, set(readings))
    history = History(one.history.site, tuple(r for arrival in log for r in arrival.readings))
    return replace(one, history=history, log=log, other=other)


def _kept(log: tuple[Arrival, ...], some: set[Item]) -> tuple[Arrival, ...]:
    """A log without the readings that are not among these; what was sent more often is as often there."""
    less = [replace(one, readings=tuple(r for r in one.readings if r in some)) for one in log]
    return tuple(new for old, new in zip(log, less, strict=True) if new.readings or not old.readings)


def told(one: Example) -> str:
    """A small example and what it breaks, for a person."""
    lines = [f"site {one.history.site}, batches {one.sizes}, restarts {one.starts}"]
    lines += [f"  {arrival.stamp_ms}: {list(arrival.readings)}" for arrival in one.log]
    return "\n".join([*lines, *(f"  BROKEN {words}" for words in tried(one))])


# -- the command --------------------------------------------------------------------------------------


def soak(seed: int, first: int, count: int, jobs: int, say: Callable[[str], None]) -> list[int]:
    """Tries histories by their numbers; those that break a law."""
    parts = [range(at, min(at + TOGETHER, first + count)) for at in range(first, first + count, TOGETHER)]
    found: list[int] = []
    done, began = 0, time.monotonic()
    with ProcessPoolExecutor(jobs) as pool:
        for part, bad in zip(parts, pool.map(faults, [seed] * len(parts), parts), strict=True):
            found, done = found + bad, done + len(part)
            a_second = done / (time.monotonic() - began)
            say(f"{done} of {count} histories, {len(found)} break a law, {a_second:.1f} a second")
            for number in bad:
                say(f"--seed {seed} --only {number}\n{told(smallest(example_of(seed, number)))}")
    return found


def main(words: Sequence[str] | None = None) -> int:
    """The command; 1 where a law is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.processors.soak", description=__doc__)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first history")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", type=int, help="tries the history of this number, and makes it small")
    given = parser.parse_args(words)
    if given.only is not None:
        one = example_of(given.seed, given.only)
        sys.stdout.write(f"{told(smallest(one) if tried(one) else one)}\n")
        return 1 if tried(one) else 0

    def say(words: str) -> None:
        sys.stdout.write(f"{words}\n")
        sys.stdout.flush()

    return 1 if soak(given.seed, given.first, given.examples, given.jobs, say) else 0


if __name__ == "__main__":
    sys.exit(main())
