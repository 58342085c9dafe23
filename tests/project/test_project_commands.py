"""The commands in documents are those of the command line, and the other way round."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click
import pytest

from meterflow.cli import main

if TYPE_CHECKING:
    from tests.project.conftest import Project


def command_lines(code: list[str]) -> list[list[str]]:
    """Calls of meterflow in code, as words behind the command's name."""
    lines = (re.split(r"\s[|>&]\s?", line.strip())[0].split() for line in code)
    calls = (
        words[i + 1 :] for words in lines for i, word in enumerate(words) if is_meterflow(words, i, word)
    )
    return [words for words in calls if words]


def is_meterflow(words: list[str], i: int, word: str) -> bool:
    """True where ``word`` calls the command: bare, by path, or as ``python -m meterflow``."""
    return word.endswith("bin/meterflow") or (word == "meterflow" and (i == 0 or words[i - 1] in {"-m", "$"}))


def verbs() -> dict[str, click.Command]:
    """The command line's verbs."""
    assert isinstance(main, click.Group)
    return dict(main.commands)


def options(command: click.Command) -> set[str]:
    """All spellings of a command's options; of a verb that has verbs of its own, those of all of them."""
    if isinstance(command, click.Group):
        return set().union(*(options(one) for one in command.commands.values()))
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def wrong_call(words: list[str]) -> str | None:
    """What is wrong with a call of meterflow as a document has it."""
    if words[0].startswith("-"):
        known, rest = options(main) | {"--help", "--version"}, words
    elif words[0] not in verbs():
        return f"no verb {words[0]}"
    else:
        known, rest = options(verbs()[words[0]]) | {"--help"}, words[1:]
    unknown = [w for w in rest if w.startswith("--") and w.split("=")[0].strip("[]") not in known]
    return f"{words[0]}: no option {unknown[0]}" if unknown else None


def test_commands_named_in_documents_exist(project: Project) -> None:
    """Every verb and option of meterflow that a document calls is one."""
    calls = (
        (document, words)
        for document, text in project.documents.items()
        for words in command_lines(project.code_of(text))
    )
    assert [(document, fault) for document, words in calls if (fault := wrong_call(words))] == []


def test_every_verb_and_option_is_documented(project: Project) -> None:
    """docs/operations.md has a heading for every verb, and its options below."""
    parts = re.split(
        r"^#+ `meterflow ([\w-]+)[^`]*`", project.documents["docs/operations.md"], flags=re.MULTILINE
    )
    until_next = [re.split(r"^#+ ", part, maxsplit=1, flags=re.MULTILINE)[0] for part in parts[2::2]]
    sections = dict(zip(parts[1::2], until_next, strict=True))
    assert sections.keys() == verbs().keys()
    named = {verb: set(re.findall(r"--[a-z][\w-]*", text)) for verb, text in sections.items()}
    wanted = {verb: {o for o in options(c) if o.startswith("--")} for verb, c in verbs().items()}
    assert {verb: missing for verb in wanted if (missing := wanted[verb] - named[verb])} == {}
    assert {verb: wrong for verb in wanted if (wrong := named[verb] - wanted[verb] - {"--help"})} == {}


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["up", "--simulate"], False),
        (["fly"], True),
        (["up", "--fly"], True),
        (["--version"], False),
    ],
)
def test_a_wrong_call_is_found(words: list[str], fault: Any) -> None:
    """An unknown verb and an unknown option are both faults."""
    assert bool(wrong_call(words)) is fault


def test_commands_are_read_out_of_code(project: Project) -> None:
    """Spans, blocks and continued lines are read; what follows a pipe is not."""
    text = "Say `meterflow up`.\n```sh\n$ .venv/bin/meterflow export \\\n  --data data interval | head\n```\n"
    assert command_lines(project.code_of(text)) == [["up"], ["export", "--data", "data", "interval"]]
