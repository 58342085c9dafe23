"""Earlier versions of meterflow, taken from the history of this clone, as child processes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.meterflow.helper import ROOT

FOLDERS = ("bus", "ingest", "metering", "meterflow", "processors", "simulators", "sinks", "web")


def tree(commit: str, folder: Path) -> Path:
    """The packages of an earlier commit, without compiled loops. Raises CalledProcessError without it."""
    words = ["git", "-C", str(ROOT), "archive", commit, *FOLDERS]
    packed = subprocess.run(words, capture_output=True, check=True, timeout=60)
    folder.mkdir(parents=True)
    subprocess.run(["tar", "x", "-C", str(folder)], input=packed.stdout, check=True, timeout=60)
    return folder


def tree_or_skip(commit: str, folder: Path) -> Path:
    """The same in a test: a clone that does not go back so far cannot run it."""
    try:
        return tree(commit, folder)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"this clone has no history back to {commit}: fetch it with git fetch --unshallow")


def environment_of(folder: Path) -> dict[str, str]:
    """What a child needs to run that tree instead of this one."""
    return {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
