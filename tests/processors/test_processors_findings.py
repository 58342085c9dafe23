"""What is found of a register, history by history."""

from __future__ import annotations

import pytest

from processors.doubt import Verdict
from tests.processors import doubt_series
from tests.processors.doubt_series import arrays, minutes, regions_of, said
from tests.processors.oracle_doubt import MINUTE, Series, found


def findings(one: Series) -> list[tuple[float, float, Verdict, bool]]:
    """From, to (minutes), finding, decided."""
    links = [link for region in regions_of(one) for link in region.links]
    return [(link.start / MINUTE, link.end / MINUTE, link.verdict, link.decided) for link in links]


def lost(one: Series) -> list[float]:
    """Minutes of the readings left out."""
    return sorted(time / MINUTE for time in doubt_series.lost(regions_of(one), arrays(one.readings)[0]))


SHIFTED = (
    [(m, m) for m in range(10)] + [(m + 7.2, m) for m in range(10, 20)] + [(m, m) for m in range(20, 40)]
)
STORIES = {
    "P1, a rollover": (
        minutes((0, 999980), (3, 999984), (30, 20), (33, 24)), [(3, 30, Verdict.ROLLOVER, True)], []),
    "P2, a glitch to zero": (
        minutes((0, 397.11), (5, 0), (720, 0), (725, 413.50)), [(0, 725, Verdict.GLITCH, True)], [5, 720]),
    "P4, six hours without readings": (minutes((0, 999), (1, 1000), (361, 1600), (362, 1601)), [], []),
    "P5, a late reading": (minutes((0, 100), (2, 100.4), (1, 100.2), (3, 100.6), limit=24), [], []),
    "P7, a steady load": (minutes(*((i, 1000 + i * 100 / 60) for i in range(61))), [], []),
    "a glitch to zero at a rollover": (
        minutes((0, 999980), (3, 999984), (6, 0), (9, 999990), (20, 4), (23, 8)),
        [(3, 9, Verdict.GLITCH, True), (9, 20, Verdict.ROLLOVER, True)], [6]),
    "a reset that counts on is no glitch": (
        minutes(*((m, m) for m in range(6)), *((6 + m, m) for m in range(12))),
        [(5, 6, Verdict.RESET, False)], []),
    "a zero in coarse readings is a glitch, though the rise behind it could be": (
        minutes((0, 20), (60, 30), (120, 0), (180, 31), (240, 40)), [(60, 180, Verdict.GLITCH, True)], [120]),
    "stuck, and caught up": (
        minutes(*((m, 100) for m in range(60)), (60, 150), (61, 151)), [(0, 60, Verdict.STUCK, True)],
        [float(m) for m in range(1, 60)]),
    "caught up, but not yet gone on": (
        minutes(*((m, 100) for m in range(60)), (60, 150)), [(59, 60, Verdict.SPIKE, False)], []),
    "a gateway's clock seven minutes ahead": (
        minutes(*SHIFTED, limit=1200), [(m, m + 1, Verdict.CLOCK_JUMP, True) for m in range(20, 27)],
        [m + 7.2 for m in range(13, 20)]),
    "the same, between a zero and a rollover hours away": (
        minutes(*((m, m + 999_800) for m in range(-60, -30)), (-30, 0),
                *((m, m + 999_800) for m in range(-29, 0)), *((m, v + 999_800) for m, v in SHIFTED),
                *((m, m + 999_800) for m in range(40, 200)), *((m, m - 200) for m in range(200, 260)),
                limit=1200),
        [(-31, -29, Verdict.GLITCH, True), *((m, m + 1, Verdict.CLOCK_JUMP, True) for m in range(20, 27)),
         (199, 200, Verdict.ROLLOVER, True)],
        [-30.0, *(m + 7.2 for m in range(13, 20))]),
    "two spikes near each other": (
        minutes((0, 10), (1, 11), (2, 900), (3, 12), (4, 13), (5, 800), (6, 801), (7, 15), (8, 16)),
        [(1, 3, Verdict.SPIKE, True), (4, 7, Verdict.SPIKE, True)], [2, 5, 6]),
    "a spike at the end of what is known": (
        minutes((0, 10), (1, 11), (2, 900)), [(1, 2, Verdict.SPIKE, False)], []),
    "the same, resolved by the next reading": (
        minutes((0, 10), (1, 11), (2, 900), (3, 12)), [(1, 3, Verdict.SPIKE, True)], [2]),
    "shifts that begin at zero are resets, one by one": (
        minutes(*((480 * s + m, m / 4) for s in range(4) for m in range(0, 480, 60))),
        [(480 * s - 60, 480 * s, Verdict.RESET, False) for s in (1, 2, 3)], []),
    "what does not come back within a day or three readings stays a fall and a rise": (
        minutes((0, 400), (1, 401), (2, 0), (720, 0), (1441, 0), (1442, 430)),
        [(1, 2, Verdict.RESET, False), (1441, 1442, Verdict.SPIKE, False)], []),
    "ahead of what can be, and still until that is caught up": (
        minutes((0, 100), (1, 101), *((m, 150) for m in range(2, 40)), (40, 151), (41, 152)),
        [(1, 2, Verdict.SPIKE, False)], []),
    "without a limit what came back is held": (
        minutes((0, 400), (1, 401), (2, 0), (3, 402), limit=None), [(1, 3, Verdict.GLITCH, False)], [2]),
    "a register that runs backwards is held, reading by reading": (
        minutes((0, 10), (1, 9), (2, 8)),
        [(0, 1, Verdict.DECREASE, False), (1, 2, Verdict.DECREASE, False)], []),
}  # fmt: skip


@pytest.mark.parametrize("name", STORIES)
def test_a_history_is_read_as_a_person_reads_it(name: str) -> None:
    """Findings and readings left out, by hand; and the oracle agrees."""
    one, wanted, without = STORIES[name]
    assert (findings(one), lost(one)) == (wanted, without)
    assert said(regions_of(one), arrays(one.readings)[0]) == found(one)
