"""What waits for its acknowledgement, and what is concluded from it."""

from __future__ import annotations

from ingest.collector_window import Window


def turns(window: Window, count: int, refill: int, *, pause_s: float = 0.001) -> None:
    """The broker keeps the window full: each lot acknowledged is followed by as many at once."""
    now_s = 1.0
    for _ in range(count):
        window.acknowledged(refill, now_s)
        window.came(refill, now_s + pause_s)
        now_s += pause_s + 0.01


def test_a_broker_that_always_stops_at_the_same_number_has_its_limit_there() -> None:
    """Twenty under way, a hundred times in a row."""
    window = Window()
    window.came(20, 0.0)
    turns(window, 99, 20)
    assert window.limit == 0
    turns(window, 2, 20)
    assert (window.limit, window.peak, window.waiting) == (20, 20, 20)


def test_meters_that_send_in_bursts_say_nothing_about_the_broker() -> None:
    """The same number each minute is what they have to say, not what the broker lets through."""
    window = Window()
    window.came(20, 0.0)
    turns(window, 500, 20, pause_s=60.0)
    assert window.limit == 0


def test_a_limit_is_forgotten_when_more_comes() -> None:
    """What was taken for the broker's limit was the load's."""
    window = Window()
    window.came(20, 0.0)
    turns(window, 101, 20)
    window.came(1, 1000.0)
    assert (window.limit, window.peak) == (0, 21)
