"""Faults of form and of meaning in one run: what is wrong hides nothing, and nothing follows from it."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from metering.faults import Path as Place
from metering.model_faults import as_far_as_known, validated
from metering.model_unknown import UNKNOWN, UnknownError
from metering.site import find_faults
from metering.site_models import SiteFile
from metering.yaml_marks import Document, parse_document

Tree = Any
SITE = """\
meterflow: 1
policy: small
groups:
  - {id: hunan, kind: province, intensity: [{id: sum, of: electricity, per: value_added, windows: [month]}]}
  - {id: park, within: [hunan], targets: [{metric: x, value: 3}], intensity: [{id: x, per: value_added}]}
plants:
  - id: works
    within: [park]
    time_zone: Asia/Shanghai
    grid: hunan
    patience: 1h
    energies: [natural_gas, electricity]
    products: [{id: billet, unit: t}, {id: slab, unit: pcs}]
    points:
      - id: main
        measures: electricity
        reads: register
        unit: kWh
        limit: 500 kW
        expect_every: 60s
        base: 5m
        installations:
          - {serial: A, to: 2025-06-01T10:00:00+08:00, digits: 6, decimals: 2, final: 812345.10}
          - serial: B
            from: 2025-06-01T02:20:00Z
            digits: 8
            decimals: 2
            multiplier: [{value: 40}, {from: 2026-01-01T00:00:00+08:00, value: "0.1"}]
            initial: 3.50
      - {id: peak, measures: electricity, reads: register, unit: kWh, part_of: main}
      - {id: sun, measures: electricity, reads: register, unit: kWh, role: generation}
      - {id: hall, measures: electricity, reads: register, unit: MWh, role: submeter, line: melt}
      - {id: kvarh, measures: reactive_energy, reads: register, unit: kvarh}
      - {id: river, measures: water, reads: register, unit: L, role: reuse, patience: 1h}
      - {id: intake, measures: water, reads: interval, unit: m3}
      - {id: count, measures: output, product: billet, reads: register, unit: kg, limit: 5 t/h}
      - {id: slabs, measures: output, product: slab, reads: interval, unit: pcs}
      - {id: books, measures: value_added, reads: interval, unit: 10kCNY}
    meters:
      - serial: M
        to: 2030-01-01T00:00:00Z
        multiplier: 200
        registers: {sun: {digits: 6, decimals: 1, initial: 0.5}, kvarh: {rolls_at: 65536}}
    intensity:
      - {id: kwh, per: billet, windows: [15m, month]}
      - {id: kgce, unit: kgce, per: slab}
      - {id: all, of: energy, per: value_added}
    targets:
      - {metric: kwh, base: {year: 2020, value: 28.4}, change: -16%, by: 2025}
      - {metric: kwh, value: 600}
    alerts:
      - {id: hot, when: kwh, window: 15m, above: 620, clear_below: 600}
      - {id: low, when: kgce, below: 5, clear_above: 7.5, for: 10m, severity: info}
  - id: mill
    within: [park]
    time_zone: Asia/Shanghai
    products: [{id: paper, unit: t}]
    points:
      - {id: main, measures: electricity, reads: register, unit: kWh, limit: 500 kW}
      - {id: peak, measures: electricity, reads: register, unit: kWh, part_of: main}
      - {id: count, measures: output, reads: register, unit: t, installations: [{serial: A}]}
      - {id: books, measures: value_added, reads: interval, unit: CNY}
    intensity: [{id: kwh, per: paper, windows: [15m, 1h]}]
    targets: [{metric: kwh, value: 600}]
    alerts: [{id: hot, when: kwh, window: 1h, above: 620}]
"""
PACK = """\
policy: small
format: 1
edition: "1"
time_zone: Asia/Shanghai
kgce:
  electricity: [{value: 0.1229, per: kWh, from: 2021-04-01, source: GB/T 2589-2020, verified: true}]
grid:
  - {factor_year: 2023, from: 2023-01-01, source: x, regions: {national: 0.5306, hunan: 0.4976}}
"""
GOOD: Tree = parse_document(SITE.encode(), "site.yaml").value
OTHER: Place = ("plants", 1)

MEANINGS: dict[str, tuple[Place, object]] = {
    "there is no time zone 'Asia/Shangai'": (("time_zone",), "Asia/Shangai"),
    "there is no group 'nowhere'": (("within",), ["park", "nowhere"]),
    "'main' is there a second time": (("points", 1), {**GOOD["plants"][1]["points"][0]}),
    "electricity is not measured in m3": (("points", 1, "unit"), "m3"),
    "'10 m3/h' is no limit for electricity": (("points", 0, "limit"), "10 m3/h"),
    "the plant has no point 'mian'": (("points", 1, "part_of"), "mian"),
    "the role 'reuse' is for water": (("points", 1, "role"), "reuse"),
    "'paper' is counted in t": (("points", 2, "unit"), "pcs"),
    "two meters at one point at once": (("points", 2, "installations"), [{}, {}]),
    "'digits' belongs to a register": (("points", 3, "installations"), [{"digits": 6}]),
    "the plant has no product 'papr'": (("intensity", 0, "per"), "papr"),
    "water is not metered here": (("intensity", 0, "of"), "water"),
    "electricity cannot be given in m3": (("intensity", 0, "unit"), "m3"),
    "there is no intensity 'kw'": (("targets", 0, "metric"), "kw"),
    "a target is more than 0": (("targets", 0, "value"), 0),
    "'kwh' has no window 8h": (("alerts", 0, "window"), "8h"),
    "it would clear while it still fires": (("alerts", 0, "clear_below"), 700),
}
"""Faults of meaning, each by one change in the second plant."""

WRONG: tuple[Any, ...] = (
    "",
    "?#",
    "a word",
    "m3",
    "1h",
    "7",
    7,
    -1,
    True,
    None,
    [],
    {},
    ["x"],
    [5],
    [[]],
    {"x": 1},
)


def _places(value: Tree, place: Place = ()) -> Iterator[Place]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, one in inside:
        yield (*place, step)
        yield from _places(one, (*place, step))


PLACES = [place for place in _places(GOOD) if place[:2] != OTHER and place != ("plants",)]
"""Every value outside the second plant."""
KEYS = [place for place in PLACES if isinstance(place[-1], str)]


def _at(value: Tree, place: Place) -> Tree:
    for step in place:
        value = value[step]
    return value


def _written(folder: Path, value: Tree) -> Path:
    path = folder / "site.yaml"
    path.write_text(json.dumps(value, default=float, indent=1))
    (folder / "small.yaml").write_text(PACK)
    return path


def _is_faulty(value: Tree) -> bool:
    """Whether there are faults of form in it."""
    return bool(validated(Document("site.yaml", value), SiteFile)[1])


def _holds(folder: Path, value: Tree, words: str) -> None:
    """The faults are those of form, and the one of meaning that is put into the second plant now."""
    place, meant = MEANINGS[words]
    _at(value, (*OTHER, *place[:-1]))[place[-1]] = meant
    path = _written(folder, value)
    form = validated(parse_document(path.read_bytes(), str(path)), SiteFile)[1]
    left = [fault for fault in find_faults(path) if fault not in form]
    assert len(left) == 1, left
    assert words in left[0].what
    assert left[0].key.startswith("plants[mill].")


meanings = st.sampled_from(sorted(MEANINGS))


def _damaged(value: Tree, place: Place, wrong: object) -> bool:
    """Puts the wrong value in that place; whether that alone is a fault of form.

    A mapping is not replaced by another one: what is not in that one is missing indeed.
    """
    alone = copy.deepcopy(GOOD)
    for tree in (alone, value):
        _at(tree, place[:-1])[place[-1]] = copy.deepcopy(wrong)
    return not (isinstance(wrong, dict) and isinstance(_at(GOOD, place), dict)) and _is_faulty(alone)


def _may_bear(places: list[Place], words: str) -> bool:
    """A group with a damaged id may be the one that is named."""
    return not (words.startswith("there is no group") and any(place[0] == "groups" for place in places))


@settings(max_examples=150, deadline=None)
@given(place=st.sampled_from(PLACES), wrong=st.sampled_from(WRONG), words=meanings)
@example(place=("plants", 0, "points", 0, "reads"), wrong="a word", words="'kwh' has no window 8h")
@example(place=("plants", 0), wrong=7, words="there is no time zone 'Asia/Shangai'")
@example(place=("groups",), wrong=7, words="electricity is not measured in m3")
def test_a_wrong_value_hides_no_fault_elsewhere_and_brings_none(
    place: Place, wrong: object, words: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any value, anything in its place: its own faults of form, the other plant's fault, no more."""
    value = copy.deepcopy(GOOD)
    assume(_may_bear([place], words) and _damaged(value, place, wrong))
    _holds(tmp_path_factory.mktemp("value"), value, words)


@settings(max_examples=100, deadline=None)
@given(place=st.sampled_from(KEYS), name=st.sampled_from(["x", "{}s", "colour", "un{}"]), words=meanings)
def test_a_misspelt_key_hides_no_fault_elsewhere_and_brings_none(
    place: Place, name: str, words: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What the key was meant for is not known, so nothing is said of its absence."""
    value = copy.deepcopy(GOOD)
    part = _at(value, place[:-1])
    part[name.format(place[-1])] = part.pop(place[-1])
    assume(_may_bear([place], words) and _is_faulty(value))
    _holds(tmp_path_factory.mktemp("key"), value, words)


@settings(max_examples=100, deadline=None)
@given(
    places=st.lists(st.sampled_from(PLACES), min_size=2, max_size=6, unique=True),
    wrong=st.sampled_from(WRONG),
    words=meanings,
)
def test_many_wrong_values_hide_no_fault_elsewhere_and_bring_none(
    places: list[Place], wrong: object, words: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As many as one likes, the deepest first, so that all of their places are there."""
    value = copy.deepcopy(GOOD)
    assume(_may_bear(places, words))
    assume(all(_damaged(value, place, wrong) for place in sorted(places, key=len, reverse=True)))
    _holds(tmp_path_factory.mktemp("many"), value, words)


def test_the_site_of_these_tests_has_no_fault(tmp_path: Path) -> None:
    """And each of the meanings alone is one fault."""
    assert find_faults(_written(tmp_path, GOOD)) == []
    for words, (place, meant) in MEANINGS.items():
        value = copy.deepcopy(GOOD)
        _at(value, (*OTHER, *place[:-1]))[place[-1]] = meant
        (fault,) = find_faults(_written(tmp_path, value))
        assert words in fault.what


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("reads: interval, unit: m3", "reads: !secret interval, unit: m3", [35]),
        ("id: kwh, per: billet", "id: !secret kwh, per: billet", [45]),
        ("    grid: hunan\n", "    grid: hunan\n    grid: hunnan\n", [11]),
        ("    products: [{id: billet", "    products: []\n    products: [{id: billet", [14]),
        ("  - id: works\n", "  - ? [id]\n    : works\n    id: works\n", [7]),
        ("    products: [{id: billet", "    <<: 5\n    prodcts: [{id: billet", [7, 14]),
    ],
)
def test_what_yaml_cannot_read_is_said_once_and_nothing_follows(
    tmp_path: Path, old: str, new: str, lines: list[int]
) -> None:
    """Tags, doubled keys, odd keys, odd merges, and a wrong time zone of the other plant."""
    assert SITE.count(old) == 1
    text = SITE.replace(old, new)
    text = re.sub(r"(id: mill\n.*\n    time_zone: Asia)/Shanghai", r"\1/Shangai", text)
    path = _written(tmp_path, None)
    path.write_text(text)
    *found, last = find_faults(path)
    assert [fault.line for fault in found] == lines
    assert "no time zone 'Asia/Shangai'" in last.what


def test_what_is_not_known_cannot_be_asked_for() -> None:
    """A part's key raises, an item of a list is UNKNOWN, and the rest is as it stands."""
    text = SITE.replace("reads: interval, unit: m3", "reads: intervl, unit: m3").replace(
        "15m, month", "2h, month"
    )
    site = as_far_as_known(parse_document(text.encode(), "site.yaml"), SiteFile)
    assert site is not None
    intake = site.plants[0].points[6]
    assert (intake.id, intake.role, intake.unit) == ("intake", "supply", "m3")
    with pytest.raises(UnknownError):
        _ = intake.reads
    windows = site.plants[0].intensity[0].windows
    assert windows is not None
    assert windows[0] is UNKNOWN
    assert windows[1] == "month"


ASKED: list[Callable[[Any], object]] = [
    str, bool, hash, len, list, "{}".format, lambda one: one.id, lambda one: one == 1, lambda one: one != 1,
    lambda one: one < 1, lambda one: one[0], lambda one: "x" in one, lambda one: one in (1, 2),
]  # fmt: skip


@pytest.mark.parametrize("ask", ASKED)
def test_an_unknown_item_answers_nothing(ask: Callable[[Any], object]) -> None:
    """Whatever is asked of it raises, so that no check can take it for a value."""
    with pytest.raises(UnknownError):
        ask(UNKNOWN)


def test_a_file_of_which_nothing_is_known_has_its_faults_of_form(tmp_path: Path) -> None:
    """A list, a text, a number where the keys belong."""
    path = tmp_path / "site.yaml"
    for text in ("[]", "plants", "7"):
        path.write_text(text)
        assert [fault.what for fault in find_faults(path)] == ["a mapping of keys belongs here"]
