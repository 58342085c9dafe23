"""The file of users."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ingest.users import hash_password, load_users
from metering.errors import UsageError

SECRET = hash_password("secret")


def test_a_file_of_users_is_read_as_yaml_and_as_json(tmp_path: Path) -> None:
    """Names, passwords, plants; absent plants are all plants."""
    (tmp_path / "users.yaml").write_text(
        f"users:\n  - {{name: a, password: '{SECRET}', plants: [p]}}\n  - {{name: b, password: '{SECRET}'}}\n"
    )
    (tmp_path / "users.json").write_text(
        json.dumps({"users": [{"name": "a", "password": SECRET, "plants": ["p"]}]})
    )
    for name in ("users.yaml", "users.json"):
        users = load_users(tmp_path / name)
        found = users.check("a", b"secret")
        assert found is not None
        assert found.plants == frozenset({"p"})
        assert users.check("a", b"wrong") is None
        assert users.check("c", b"secret") is None
    everything = load_users(tmp_path / "users.yaml").check("b", b"secret")
    assert everything is not None
    assert everything.plants is None


def test_a_password_once_right_does_not_let_a_wrong_one_in(tmp_path: Path) -> None:
    """What is remembered is this password, not this user."""
    path = tmp_path / "users.yaml"
    path.write_text(f"users: [{{name: a, password: '{SECRET}'}}]")
    users = load_users(path)
    assert users.check("a", b"secret")
    assert users.check("a", b"wrong") is None
    assert users.check("a", b"secret")


def test_a_hash_does_not_show_the_password() -> None:
    """And two of the same differ."""
    assert "secret" not in SECRET
    assert hash_password("secret") != SECRET


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("users: [", "no YAML"),
        ("[]", "no list 'users'"),
        ("users: 1", "no list 'users'"),
        ("users: [{name: a, password: secret}]", "not a hash"),
        ("users: [{name: a}]", "not a hash"),
        ("users: [{name: a, password: 'scrypt:3:8:1:AAAA:AAAA'}]", "not a hash"),
        ("users: [{name: '', password: 'x'}]", "no name"),
        (f"users: [{{name: a, password: '{SECRET}', plants: steel}}]", "no list of plant ids"),
        (f"users: [{{name: a, password: '{SECRET}', plant: steel}}]", "not written as"),
        (f"users: [{{name: a, password: '{SECRET}'}}, {{name: a, password: '{SECRET}'}}]", "twice"),
    ],
)
def test_a_faulty_file_says_what_and_where(tmp_path: Path, content: str, says: str) -> None:
    """With the file's name in it, and never the hash."""
    path = tmp_path / "users.yaml"
    path.write_text(content)
    with pytest.raises(UsageError) as wrong:
        load_users(path)
    assert says in wrong.value.what
    assert "users.yaml" in wrong.value.where
    assert SECRET not in str(wrong.value)


def test_a_missing_file_is_wrong_usage(tmp_path: Path) -> None:
    """Exit code 2."""
    with pytest.raises(UsageError, match="cannot be read"):
        load_users(tmp_path / "none.yaml")
