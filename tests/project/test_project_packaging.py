"""What is built, locked and run by make and CI."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import meterflow

if TYPE_CHECKING:
    from tests.project.conftest import Project

LOCKS = ("requirements/run.txt", "requirements/test.txt")
REGISTRIES = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("crates", "io"),
        ("proxy", "golang"),
        ("repo1", "maven"),
        ("repo", "maven"),
        ("deb", "debian"),
    )
)
"""Written in parts, so that this file does not contain what it forbids."""


def settings(project: Project) -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads(project.text("pyproject.toml"))


def pinned(text: str) -> dict[str, tuple[Version, int]]:
    """A lock file: distribution -> its version and how many hashes it may have."""
    found = {}
    for block in re.split(r"\n(?=[a-z])", text):
        if match := re.match(r"([a-z0-9-]+)==([^\s;]+)", block):
            found[match[1]] = (Version(match[2]), block.count("--hash=sha256:"))
    return found


def requirements(project: Project, lock: str) -> list[Requirement]:
    """What a lock file must cover: to run, to build, and for the test lock to test."""
    all_settings = settings(project)
    texts = all_settings["project"]["dependencies"] + all_settings["build-system"]["requires"]
    if lock == "requirements/test.txt":
        texts = texts + all_settings["dependency-groups"]["test"]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_covers_what_is_declared(project: Project, lock: str) -> None:
    """Every declared requirement is pinned at a version that it allows, with hashes."""
    pins = pinned(project.text(lock))
    for requirement in requirements(project, lock):
        version, _ = pins[re.sub(r"[-_.]+", "-", requirement.name).lower()]
        assert version in requirement.specifier, requirement
    assert all(hashes for _, hashes in pins.values())


def test_both_locks_pin_the_same_versions(project: Project) -> None:
    """What is tested is what runs."""
    run, test = (pinned(project.text(lock)) for lock in LOCKS)
    assert run.items() <= test.items()


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_names_no_place(project: Project, lock: str) -> None:
    """Where packages come from is the business of the machine that installs them."""
    assert re.search(r"://|--(extra-)?index|--find-links|--trusted-host", project.text(lock)) is None


def test_no_file_names_a_registry(project: Project) -> None:
    """No committed file carries the address of a package registry."""
    binary = {".png", ".ico", ".woff2", ".parquet", ".zst", ".gz"}
    texts = {path: project.text(path) for path in project.files if Path(path).suffix not in binary}
    assert [(path, name) for path, text in texts.items() for name in REGISTRIES if name in text] == []


def test_the_version_stands_in_one_place(project: Project) -> None:
    """meterflow/__init__.py has the version; elsewhere only the changelog names it."""
    assert "version" in settings(project)["project"]["dynamic"]
    kinds = (".py", ".toml", ".md", ".yml", ".yaml", ".html", ".js")
    files = [path for path in project.files if path.endswith(kinds) and not path.startswith("tests/")]
    holding = [path for path in files if meterflow.__version__ in project.text(path)]
    assert holding == ["CHANGELOG.md", "meterflow/__init__.py"]


def test_the_changelog_has_the_current_version(project: Project) -> None:
    """What a user is running is in the changelog, above all older versions."""
    versions = re.findall(r"^## \[?([\w.]+)", project.text("CHANGELOG.md"), re.MULTILINE)
    assert meterflow.__version__ in versions[:2]


def test_ci_runs_exactly_make_check(project: Project) -> None:
    """.ci/run makes what `make check` makes, in that order, and the README's test command is in it."""
    check = re.search(r"^check: ([a-z ]+?) *##", project.text("Makefile"), re.MULTILINE)
    assert check
    assert re.findall(r"^make (\w+)", project.text(".ci/run"), re.MULTILINE) == check[1].split()
    assert "make test" in project.text("README.md")


def test_linters_see_every_package(project: Project) -> None:
    """mypy and `make clean` name every package, as the import rule does."""
    files = set(settings(project)["tool"]["mypy"]["files"])
    folders = re.search(r"^FOLDERS := (.*)$", project.text("Makefile"), re.MULTILINE)
    assert folders
    assert files == set(folders[1].split())
    assert files == {s.package for s in project.package_sources} | {"tests"}


@pytest.fixture(scope="module")
def wheel(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built in a copy of it as `pip install .` would."""
    folder = tmp_path_factory.mktemp("wheel")
    for path in project.files:
        target = folder / "tree" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(project.root / path, target)
    vendor = "web/static/vendor"
    if (project.root / vendor).exists():
        shutil.copytree(project.root / vendor, folder / "tree" / vendor)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(folder / "tree")], check=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_has_all_that_running_needs(project: Project, wheel: Path) -> None:
    """Every module, the page, the policy packs and the examples are in it; tests are not."""
    inside = set(zipfile.ZipFile(wheel).namelist())
    data = ("web/static/", "metering/packs/", "examples/park/site.yaml")
    wanted = {s.path for s in project.package_sources} | {p for p in project.files if p.startswith(data)}
    assert wanted - inside == set()
    assert "examples/park/site.yaml" in inside
    assert not [name for name in inside if name.startswith(("tests/", "docs/"))]


def test_the_installed_wheel_runs(wheel: Path, tmp_path: Path) -> None:
    """Unpacked far from the tree, the command says its version and finds a fault-free example."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    # -P keeps the current folder out of the way; the site folder comes first in the path.
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from meterflow.cli import main; main()"
    version = run([sys.executable, "-P", "-c", code, "--version"], tmp_path)
    assert meterflow.__version__ in version.stdout
    site = tmp_path / "examples" / "park" / "site.yaml"
    check = run([sys.executable, "-P", "-c", code, "check", str(site)], tmp_path)
    assert check.returncode == 0, check.stderr


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """A command's answer, within a minute."""
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
