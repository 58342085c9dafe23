"""The laws, on random histories: set, log, conservation, and no false figure.

METERFLOW_EXAMPLES says how many histories each is tried on. Every law together, on ten thousand histories in
CI and on a million by command, is in tests.processors.soak.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from tests.processors import laws
from tests.processors.histories import History, chances, doubted, examples, histories, log_of, logs, stated
from tests.processors.histories_sparse import sparsely
from tests.processors.log_driver import differences, of_the_set, one_record_per_plant, run

if TYPE_CHECKING:
    from random import Random

ANY = histories() | doubted() | stated()


@given(st.data())
@examples()
def test_whatever_comes_the_tables_are_those_of_the_oracle(data: st.DataObject) -> None:
    """Amounts, ratios, quality, verdicts and ledger are what exact fractions give, for any readings."""
    history = data.draw(ANY)
    assert laws.unlike_the_oracle(history, run(history.roster, data.draw(logs(history.readings)))) == []


@given(chances())
@examples(0.1)
def test_registers_that_are_read_once_a_day_or_week_keep_every_law(chance: Random) -> None:
    """With wrong readings in them, in any order, and what people say of them."""
    assert laws.broken(laws.example_of(chance, sparsely(chance))) == []


@given(ANY, chances())
@examples(0.5)
def test_order_copies_and_records_change_nothing_that_is_said(history: History, chance: Random) -> None:
    """Any order of the readings, some of them twice, in any records, gives the same columns of the set."""
    copies = [chance.choice(history.readings) for _ in range(chance.randint(0, 8))]
    every = [*history.readings, *copies]
    one = run(history.roster, one_record_per_plant(history.readings, 0))
    other = run(history.roster, log_of(chance, chance.sample(every, len(every))), cut=lambda: 1)
    names = laws.OF_THE_SET
    assert differences(of_the_set(one.tables, names), of_the_set(other.tables, names)) == []


@given(st.data())
@examples()
def test_the_same_log_tells_the_same_story_however_it_is_cut(data: st.DataObject) -> None:
    """Cut into any batches, stopped and started anywhere, a log gives the same rows, story included."""
    history = data.draw(ANY)
    log = data.draw(logs(history.readings))
    sizes = data.draw(st.lists(st.sampled_from([1, 1, 2, 3, 10]), min_size=1, max_size=20))
    starts = data.draw(st.lists(st.booleans(), min_size=1, max_size=20))
    one = run(history.roster, log, cut=lambda: 1)
    other = run(history.roster, log, cut=laws.around(sizes), restart=laws.around(starts))
    assert differences(one.tables, other.tables) == []


@given(st.data())
@examples(0.5)
def test_nothing_is_lost_between_the_first_and_the_last_reading(data: st.DataObject) -> None:
    """Each installation's books balance to the step, and each hop's counts to the reading."""
    history = data.draw(ANY)
    driver = run(history.roster, data.draw(logs(history.readings)))
    assert laws.out_of_balance(history, driver) == []


@given(st.data())
@examples(0.5)
def test_the_intervals_of_a_point_add_up_to_what_is_booked(data: st.DataObject) -> None:
    """The sum of a point's intervals is its booked steps times the multiplier, to the last digit."""
    history = data.draw(ANY)
    driver = run(history.roster, data.draw(logs(history.readings)))
    assert laws.not_adding_up(history.roster, driver) == []


@given(ANY)
@examples(0.5)
def test_what_is_not_known_is_empty_and_says_so(history: History) -> None:
    """Nothing known: no amount. Not wholly known, or nothing to divide by: no value, but a reason."""
    assert laws.false_figures(run(history.roster, one_record_per_plant(history.readings, 0))) == []


@given(ANY)
@examples(0.5)
def test_a_gap_in_a_register_makes_no_window_above_it_whole(history: History) -> None:
    """A plant's ratio has a value only where every register of both sides is known all the time."""
    driver = run(history.roster, one_record_per_plant(history.readings, 0))
    assert laws.gaps_passed_over(history.roster, driver) == []
