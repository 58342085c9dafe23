"""Seeded worlds: the service in one process, disturbed at every step, and the five laws at the end.

    python -m simulators.seeded --seeds 1..100000
    python -m simulators.seeded --seeds 4711 --trace

A world that breaks a law is printed with its seed; the same seed gives the same world again, anywhere with
the same dependencies. ``--trace`` prints what happened in it, step by step.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import structlog

from simulators.seeded_laws import broken
from simulators.seeded_world import World

TOGETHER = 20
"""Worlds that a process tries before it says how far it is."""
Found = list[tuple[int, list[str]]]
Make = Callable[[int], World]
"""A world by its seed."""


def tried(seed: int, make: Make = World) -> list[str]:
    """What the world of a seed shows to be broken; an error of an operator or a checker is one of it."""
    _quietly()
    try:
        world = make(seed)
        world.run()
        return broken(world)
    except Exception as error:  # noqa: BLE001 any: it is reported with the seed that brings it about
        return [f"raised: {error!r}"]


def faults(seeds: Iterable[int], make: Make) -> Found:
    """Those of some worlds that break a law, and how."""
    return [(seed, words) for seed in seeds if (words := tried(seed, make))]


def run(seeds: range, jobs: int, say: Callable[[str], None], make: Make = World) -> Found:
    """Tries worlds by their seeds."""
    parts = [seeds[at : at + TOGETHER] for at in range(0, len(seeds), TOGETHER)]
    found: Found = []
    done, began_s = 0, time.monotonic()
    with ProcessPoolExecutor(jobs) as pool:
        for part, bad in zip(parts, pool.map(partial(faults, make=make), parts), strict=True):
            found, done = found + bad, done + len(part)
            for seed, words in bad:
                say("\n  ".join([f"seed {seed} breaks a law:", *words]))
                say(f"  again: python -m {module_of(make)} --seeds {seed} --trace")
            a_second = done / (time.monotonic() - began_s)
            left_min = (len(seeds) - done) / a_second / 60
            say(
                f"{done} of {len(seeds)} worlds, {len(found)} break a law,"
                f" {a_second:.1f} a second, {left_min:.0f} min to go"
            )
    return found


def traced(seed: int, say: Callable[[str], None], make: Make) -> list[str]:
    """One world with what happened in it."""
    _quietly()
    world = make(seed)
    world.run()
    say(f"seed {seed}: {world.temper}")
    for line in world.trace:
        say(line)
    return broken(world)


def module_of(make: Make) -> str:
    """What to run again; worlds of histories are made by the tests."""
    return "simulators.seeded" if make is World else "tests.simulators.seeded_histories"


def _quietly() -> None:
    """What workers log of a storage that does not answer is in the trace."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def _seeds(text: str) -> range:
    """``7``, or ``1..200``, both included."""
    first, _, last = text.partition("..")
    return range(int(first), int(last or first) + 1)


def main(words: Sequence[str] | None = None, make: Make = World) -> int:
    """The command; 1 where a law is broken."""
    parser = argparse.ArgumentParser(prog=f"python -m {module_of(make)}", description=__doc__)
    parser.add_argument("--seeds", type=_seeds, default=range(1, 201), help="one, or from..to")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes, else one a core")
    parser.add_argument("--trace", action="store_true", help="prints what happens in each world")
    given = parser.parse_args(words)

    def say(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    if not given.trace:
        return 1 if run(given.seeds, given.jobs, say, make) else 0
    bad = 0
    for seed in given.seeds:
        found = traced(seed, say, make)
        bad += bool(found)
        say("\n  ".join([f"seed {seed}: every law holds" if not found else f"seed {seed} breaks:", *found]))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
