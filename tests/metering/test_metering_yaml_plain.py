"""The fast reader of plain YAML against the reader of all YAML: values and places."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metering.yaml_marks import Document, parse_document, read_all

ROOT = Path(__file__).parents[2]
PLAIN = b"""\
# a works
meterflow: 1   # the version
plants:
- id: works-1
  name: "Works: 1"
  since: 2025-01-01T00:00:00+08:00
  windows: [1h, 24h, 'month', "year", 1.50]
  points:
    - {id: e0, limit: 500 kW, installations: [{digits: 6}, {}], off: false}

    -   id: e1
        limit: -16%
        of: [ ]
        codes:
        - 0x10
        - 1_000
"""
SHIPPED = [
    path
    for path in chain(
        *((ROOT / folder).rglob("*.yaml") for folder in ("examples", "simulators", "tests/cases"))
    )
    if path.stat().st_size < 20_000
]
SCALARS = r"""
a ; b c ; 1 ; -2 ; 0.10 ; 1e3 ; 012 ; 0x1f ; 1_0 ; true ; no ; null ; ~ ; 15m ; 500 kW ;
2025-01-01 ; 08:00 ; 12:30:45 ; 'x: y' ; "#" ; '' ; 'it''s' ; "a\n" ; a,b ; a#b ; a #b ; x: ; - ;
- a ; -a ; +5 ; .5 ; ... ; --- ; (a) ; /x ; = ; << ; *a ; &a b ; !!str 1 ; | ; ? ; a b ; 16% ; m³ ;
长沙 ; a:b ; a: b ; [a, b] ; {a: b} ; {a: [b, {c: d}], e: f} ; {} ; [] ; [a, a b, 'c', 1] ;
{a: b, a: c} ; [a,] ; {a} ; {a:b} ; [a, b ; {a: b} c ; [a] # } ; .inf ; . ; [1,2] ;
{a: 08:00, b: x-y} ; [[a], [b, c]] ; { a: b } ; [a b, -1, - 2] ; a'b ; a"b
"""
WORDS = SCALARS.strip().replace("\n", " ").split(" ; ")
PLACES = [
    "k: @",
    "k: @\nl: 1",
    "- @\n- b",
    "k:\n  - @",
    "k:\n- @\n- b",
    "- k: @\n  l: 1",
    "k:\n  l: 1\n m: @",
    "k:\n@\n",
]
PLACES += [
    "k: [@]",
    "k: [a, @ ]",
    "- {a: @, b: c}",
    "- {a: b, @: c}",
    "@: k",
    "k: @ # c",
    "k: @#c",
    "k: a\n  @",
    "- @\n  a",
]
LINES = st.tuples(
    st.sampled_from(["", "", "", "  ", "    ", " ", "   "]),
    st.sampled_from(["", "", "", "- ", "-   ", "- - ", "-"]),
    st.sampled_from(["", "k: ", "l: ", "m:", "n: ", "o:  ", "p : ", "'q': ", "k:"]),
    st.sampled_from([*WORDS, "", "", ""]),
    st.sampled_from(["", "", "", " ", " # c", "#", "\t"]),
).map("".join)
TEXTS = st.lists(LINES, min_size=1, max_size=6).map("\n".join)


def _both(content: bytes) -> tuple[Document, Document]:
    whole = Document("f")
    read_all(whole, content.decode(), content)
    return parse_document(content, "f"), whole


def _same(one: Document, other: Document) -> None:
    assert repr(one.value) == repr(other.value)
    assert (one.values, one.keys, one.faults) == (other.values, other.keys, other.faults)


def test_a_plain_text_is_read_fast_and_as_it_is_read_as_a_whole() -> None:
    """Dashes, keys, flow collections, comments, every kind of scalar; places are found when asked for."""
    fast, whole = _both(PLAIN)
    assert fast.plain is not None
    _same(fast, whole)
    assert fast.mark(("plants", 0, "points", 0, "limit")).text == "500 kW"


def test_shipped_files_are_read_as_they_are_read_as_a_whole() -> None:
    """Examples, profiles and the cases of the tests; nearly all are plain."""
    plain = 0
    for path in SHIPPED:
        fast, whole = _both(path.read_bytes())
        plain += fast.plain is not None
        _same(fast, whole)
    assert plain > 0.9 * len(SHIPPED)


@pytest.mark.parametrize("place", PLACES)
def test_every_kind_of_scalar_is_read_as_it_is_read_as_a_whole(place: str) -> None:
    """Wherever it stands."""
    for word in WORDS:
        _same(*_both(place.replace("@", word).encode()))


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(TEXTS)
def test_any_lines_are_read_as_they_are_read_as_a_whole(text: str) -> None:
    """Also what is no YAML, or means something else than it seems."""
    _same(*_both(text.encode()))
