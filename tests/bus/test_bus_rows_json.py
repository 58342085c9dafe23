"""Result rows as JSON objects."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.frames import encode_rows
from bus.rows_json import JsonRows, as_json
from metering.errors import MeterflowError
from metering.tables import TABLES, Kind

MIDNIGHT_MS = 1_763_769_600_000
_VALUES = {
    Kind.TEXT: st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    Kind.TIME: st.integers(0, 7_952_342_400_000),
    Kind.AMOUNT: st.decimals(-(10**20), 10**20, places=9),
    Kind.INTEGER: st.integers(-(1 << 63), (1 << 63) - 1),
    Kind.NUMBER: st.floats(allow_nan=False, allow_infinity=False),
}


def row_of(table: str) -> st.SearchStrategy[dict[str, object]]:
    """Any row, any of its values unknown."""
    return st.fixed_dictionaries({c.name: st.none() | _VALUES[c.kind] for c in TABLES[table].columns})


def only(table: str, row: dict[str, object], position: int = 7) -> dict[str, object]:
    """The object of one row; numbers with a point as exact decimals."""
    (written,) = as_json(encode_rows(table, [row], position), ())
    found: dict[str, object] = json.loads(written, parse_float=Decimal)
    return found


@pytest.mark.parametrize("table", sorted(TABLES))
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_an_object_holds_the_row_exactly(table: str, data: st.DataObject) -> None:
    """Every table, any text and any amount: nothing is rounded, nothing breaks out of its quotes."""
    row = data.draw(row_of(table))
    found = only(table, row)
    assert list(found) == ["table", *TABLES[table].names, "position"]
    assert (found["table"], found["position"]) == (table, 7)
    for column in TABLES[table].columns:
        given_, written = row[column.name], found[column.name]
        if given_ is None or column.kind is Kind.TIME:
            assert (written is None) == (given_ is None)
        elif column.kind is Kind.NUMBER:
            assert float(str(written)) == given_
        else:
            assert written == given_


def test_times_are_rfc_3339() -> None:
    """With milliseconds only where there are some, as in exports."""
    start = TABLES["rollup"].time
    assert only("rollup", {start: MIDNIGHT_MS})[start] == "2025-11-22T00:00:00Z"
    assert only("rollup", {start: MIDNIGHT_MS + 20})[start] == "2025-11-22T00:00:00.020Z"


@pytest.mark.parametrize(
    "amount", ["0", "-0.000000001", "100", "1234567890.5", "0.000001", "-12345678901234567.1"]
)
def test_amounts_are_plain_decimals(amount: str) -> None:
    """No exponent, no trailing zeros, no sign of zero."""
    column = next(c.name for c in TABLES["rollup"].columns if c.kind is Kind.AMOUNT)
    (written,) = as_json(encode_rows("rollup", [{column: Decimal(amount)}]), ())
    assert f'"{column}":{amount},'.encode() in written


def test_skipped_tables_give_nothing() -> None:
    """``interval`` is one unless asked for."""
    frame = encode_rows("interval", [{}, {}])
    assert as_json(frame) == []
    assert not JsonRows().wanted("interval")
    assert JsonRows().wanted("rollup")
    assert len(as_json(frame, ())) == 2


def test_a_damaged_frame_is_told() -> None:
    """Not written as anything."""
    with pytest.raises(MeterflowError, match="cannot be read"):
        as_json(b"damaged")
