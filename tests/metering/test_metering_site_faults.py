"""Site files with faults: each file of faults/ says beside each line what is to be found there.

`# fault: words`, or `# warning: words`, ends a line; two of them, two spaces apart, say that there are two.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering import yaml_marks
from metering.errors import UsageError
from metering.site import SiteFaults, find_faults, load_site

CASES = sorted((Path(__file__).parent / "faults").glob("*.yaml"))
_MARK = re.compile(r"# (fault|warning): (.*?)(?=  # |$)")

GOOD = """\
meterflow: 1
plants:
  - id: works
    time_zone: Asia/Shanghai
    points:
      - {id: main, measures: electricity, reads: register, unit: kWh}
"""


def _marked(path: Path) -> dict[int, list[tuple[str, str]]]:
    lines = enumerate(path.read_text().splitlines(), 1)
    found = {number: _MARK.findall(line) for number, line in lines}
    return {number: marks for number, marks in found.items() if marks}


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_every_marked_line_and_no_other_has_its_faults(path: Path) -> None:
    """All faults of a file at once, each on its line with its words."""
    expected = _marked(path)
    found = find_faults(path)
    assert [fault.line for fault in found] == sorted(fault.line for fault in found)
    assert sorted({fault.line for fault in found}) == sorted(expected)
    for fault in found:
        kind = "fault" if fault.severity == "error" else "warning"
        marks = [mark for mark in expected[fault.line] if mark[0] == kind and mark[1] in fault.what]
        assert marks, fault
        expected[fault.line].remove(marks[0])
    assert not any(expected.values()), expected


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_every_fault_has_a_key_and_a_proposal(path: Path) -> None:
    """What is wrong is half of it."""
    for fault in find_faults(path):
        assert fault.key
        assert fault.column >= 1
        assert fault.proposal or fault.severity == "warning", fault


@pytest.mark.parametrize(
    ("old", "new", "line", "what", "proposal"),
    [
        ("    points:", "\tpoints:", 5, "a tab stands here", "Indent with spaces."),
        ("works", "works: east", 3, "a second ':'", "Put the text in quotes"),
        ("works\n", "works\n    id: mill\n", 4, "a second time (first in line 3)", "Keep one"),
        ("works", "[works", 4, "this is not YAML", "Look at brackets"),
        ("works", "'works", 7, "this is not YAML", "Look at brackets"),
        ("works", "*works", 3, "undefined alias", "Define it above"),
        ("works", "!secret works", 3, "the tag '!secret' is not known here", "Leave the tag out."),
        ("works", "wor\x07ks", 3, "may not stand in YAML", "Remove it."),
        ("  - id: works", "---\n  - id: works", 3, "a second document begins here", "remove the '---'"),
        ("id: works", "? [works]\n    : 1", 3, "cannot be a key", ""),
        ("works", "works\n    patience: &p [*p]", 4, "refers to what it stands in", "Write the part out."),
        ("works", "9" * 5000, 3, "cannot be read as a number", "quotes"),
        ("    time_zone: Asia/Shanghai\n", "", 3, "the key 'time_zone' is missing", "Add 'time_zone"),
        ("meterflow: 1", "meterflow: 2", 1, "format 2", "meterflow: 1"),
        ("meterflow: 1", "meterflow: true", 1, "format True", "meterflow: 1"),
        ("meterflow: 1\n", "meterflow: 1\npolicy: cn-2026\n", 2, "no policy pack 'cn-2026'", "cn-2025"),
        ("meterflow: 1\n", "meterflow: 1\npolicy: ../secret\n", 2, "no policy pack '../secret'", "cn-2025"),
    ],
)  # fmt: skip
def test_a_broken_file_says_where_it_breaks(
    tmp_path: Path, old: str, new: str, line: int, what: str, proposal: str
) -> None:
    """Syntax, doubled keys, aliases, tags, documents, versions."""
    path = tmp_path / "site.yaml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    fault = find_faults(path)[0]
    assert what in fault.what
    assert fault.line == line
    assert proposal in fault.proposal


def test_an_empty_file_and_bytes_that_are_no_text_are_faults(tmp_path: Path) -> None:
    """Both with a line."""
    path = tmp_path / "site.yaml"
    path.write_bytes(b"")
    assert find_faults(path)[0].what == "the file is empty"
    path.write_bytes(b"meterflow: 1\nname: \xff\n")
    assert (find_faults(path)[0].line, find_faults(path)[0].what) == (2, "this is not UTF-8 text")


def test_a_file_nested_without_end_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Brackets in brackets, and aliases of aliases that make billions of a few lines."""
    path = tmp_path / "site.yaml"
    path.write_text("[" * 20_000)
    assert len(find_faults(path)) == 1
    monkeypatch.setattr(yaml_marks, "NODES_MAX", 50_000)
    lines = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    path.write_text("\n".join(["a0: &a0 [x]", *lines]))
    (fault,) = find_faults(path)
    assert fault.what == "more than 50000 values"


def test_a_file_that_is_not_there_is_a_users_mistake(tmp_path: Path) -> None:
    """UsageError with the path, not a traceback."""
    with pytest.raises(UsageError, match="No such file") as caught:
        load_site(tmp_path / "nowhere.yaml")
    assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match="directory"):
        find_faults(tmp_path)


def test_loading_a_faulty_file_raises_all_of_its_faults() -> None:
    """One exception with the list, and a text that has file and line of each."""
    path = CASES[0]
    with pytest.raises(SiteFaults) as caught:
        load_site(path)
    errors = [fault for fault in find_faults(path) if fault.severity == "error"]
    assert caught.value.faults == errors
    assert all(f"{path}:{fault.line}:" in str(caught.value) for fault in errors)


def test_a_warning_does_not_keep_a_site_from_loading(tmp_path: Path) -> None:
    """A gauge without a rhythm loads, and the site carries the warning."""
    path = tmp_path / "site.yaml"
    path.write_text(GOOD + "      - {id: volts, measures: voltage, reads: gauge, unit: V}\n")
    assert [fault.severity for fault in load_site(path).warnings] == ["warning"]


def test_the_key_of_a_fault_names_plants_and_points_by_their_ids(tmp_path: Path) -> None:
    """Not by their number in a list of hundreds."""
    path = tmp_path / "site.yaml"
    path.write_text(GOOD.replace("kWh", "m3"))
    assert find_faults(path)[0].key == "plants[works].points[main].unit"


def test_a_number_as_an_id_is_quoted_as_it_was_written(tmp_path: Path) -> None:
    """0012 would become 12, 1e3 a thousand, and a date a date."""
    path = tmp_path / "site.yaml"
    for written in ("0012", "1e3", "0x1F", "true"):
        path.write_text(GOOD.replace("works", written))
        assert find_faults(path)[0].proposal == f'Write it in quotes: "{written}".'
    path.write_text(GOOD.replace("works", "2025-01-01"))
    assert load_site(path).model.plants[0].id == "2025-01-01"


def test_an_id_may_have_a_colon_in_it(tmp_path: Path) -> None:
    """Topics can hold it, and a scope ends its kind with the first one: point:00:1b:c5/main."""
    path = tmp_path / "site.yaml"
    path.write_text(GOOD.replace("works", "00:1b:c5"))
    assert load_site(path).model.plants[0].id == "00:1b:c5"


def test_repeated_parts_may_be_written_once(tmp_path: Path) -> None:
    """Anchors, aliases and '<<' work, and a fault in the repeated part is found in each place."""
    path = tmp_path / "site.yaml"
    path.write_text(
        GOOD.replace("{id: main", "&m {id: main")
        + "      - {<<: *m, id: hall}\n      - {<<: *m, id: yard, unit: m3}\n"
    )
    assert [(fault.line, fault.key) for fault in find_faults(path)] == [
        (8, "plants[works].points[yard].unit")
    ]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_damage_to_a_file_makes_anything_but_faults(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Cut, doubled, swapped or strange characters: a site or faults with lines, never another error."""
    text = CASES[data.draw(st.integers(0, len(CASES) - 1))].read_text()
    at = data.draw(st.integers(0, len(text) - 1))
    length = data.draw(st.integers(0, 40))
    put = data.draw(st.text(st.sampled_from("{}[]:,#&*!|>'\"%@\t\n -0aé\u2028\ufeff\x00"), max_size=6))
    path = tmp_path_factory.mktemp("damaged") / "site.yaml"
    path.write_text(text[:at] + put + text[at + length :])
    lines = path.read_text().count("\n") + 2
    for fault in find_faults(path):
        assert 1 <= fault.line <= lines
        assert fault.what
