"""Who may publish, for which plants, and who may decide: a YAML or JSON file with scrypt-hashed passwords.

users:
  - name: gateway-1
    password: scrypt:16384:8:1:SALT:HASH     # as hash_password writes it
    plants: [steel-1, steel-2]               # absent: every plant
    decide: true                             # absent: the user sends readings, no decisions
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from metering.errors import UsageError

_N, _R, _P, _SALT_BYTES, _HASH_BYTES = 16_384, 8, 1, 16, 32
_N_MAX, _R_MAX, _P_MAX = 1 << 20, 32, 16
_HINT = (
    "A user has a name, a password as hash_password writes it (scrypt:...), plants: [ID, ...], decide: true."
)


@dataclass(frozen=True, slots=True)
class _Hash:
    n: int
    r: int
    p: int
    salt: bytes
    hash: bytes

    def matches(self, password: bytes) -> bool:
        return hmac.compare_digest(_scrypt(password, self.salt, self.n, self.r, self.p), self.hash)


@dataclass(frozen=True, slots=True)
class User:
    """``plants``: those the user may publish for, None: all. ``secret``: as hash_password writes it.

    ``decides``: whether the user may send people's decisions, which no meter should.
    """

    name: str
    plants: frozenset[str] | None
    secret: str = field(repr=False)
    decides: bool = False


class Users:
    """Users by name, each once."""

    def __init__(self, users: list[User]) -> None:
        self._users = {user.name: user for user in users}
        self._secrets = {user.name: _parsed(user.secret) for user in users}
        self._nobody = _parsed(hash_password(secrets.token_hex(16)))
        self._key = secrets.token_bytes(32)
        self._verified: dict[str, bytes] = {}

    def check(self, name: str, password: bytes) -> User | None:
        """The user, if the password is right. Takes some 50 ms: call it in a thread.

        A password once found right is known again at once, so that a fleet that reconnects does
        not wait for itself. An unknown name takes as long as a wrong password.
        """
        user = self._users.get(name)
        if user is None:
            self._nobody.matches(password)
            return None
        mark = hmac.digest(self._key, password, "sha256")
        known = self._verified.get(name)
        if known is not None and hmac.compare_digest(known, mark):
            return user
        if not self._secrets[name].matches(password):
            return None
        self._verified[name] = mark
        return user


def load_users(path: Path) -> Users:
    """Reads a file of users. Raises UsageError with the place of the first fault."""
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the file of users cannot be read: {error.strerror}", where=str(path)) from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"the file of users is no YAML: {error}", where=str(path)) from error
    if not isinstance(content, dict) or not isinstance(content.get("users"), list):
        raise UsageError("the file has no list 'users'", where=str(path), hint=_HINT)
    users = [_user(entry, f"{path}, user {i}") for i, entry in enumerate(content["users"], 1)]
    names = [user.name for user in users]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"users are given twice: {', '.join(twice)}", where=str(path))
    return Users(users)


def hash_password(password: str) -> str:
    """The text that stands for a password in the file of users (RFC 7914)."""
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = _scrypt(password.encode(), salt, _N, _R, _P)
    encoded = (base64.b64encode(part).decode() for part in (salt, digest))
    return ":".join(("scrypt", str(_N), str(_R), str(_P), *encoded))


def _user(entry: Any, where: str) -> User:
    if not isinstance(entry, dict) or not entry.keys() <= {"name", "password", "plants", "decide"}:
        raise UsageError("a user is not written as name, password, plants, decide", where=where, hint=_HINT)
    name, password, plants = entry.get("name"), entry.get("password"), entry.get("plants")
    if not isinstance(name, str) or not name:
        raise UsageError("a user has no name", where=where, hint=_HINT)
    if plants is not None and not (isinstance(plants, list) and all(isinstance(p, str) for p in plants)):
        raise UsageError(f"plants of {name!r} is no list of plant ids", where=where, hint=_HINT)
    decides = entry.get("decide", False)
    if not isinstance(decides, bool):
        raise UsageError(f"decide of {name!r} is neither true nor false", where=where, hint=_HINT)
    try:
        _parsed(password)
    except (ValueError, AttributeError, binascii.Error) as error:
        raise UsageError(f"the password of {name!r} is not a hash", where=where, hint=_HINT) from error
    return User(name, None if plants is None else frozenset(plants), str(password), decides)


def _parsed(text: Any) -> _Hash:
    scheme, n, r, p, salt, digest = text.split(":")
    cost = int(n), int(r), int(p)
    power_of_two = cost[0] > 1 and cost[0] & (cost[0] - 1) == 0
    if scheme != "scrypt" or not power_of_two or cost[0] > _N_MAX:
        raise ValueError(scheme)
    if not (0 < cost[1] <= _R_MAX and 0 < cost[2] <= _P_MAX):
        raise ValueError(text)
    found = _Hash(*cost, base64.b64decode(salt, validate=True), base64.b64decode(digest, validate=True))
    if len(found.hash) != _HASH_BYTES:
        raise ValueError("size of the hash")
    return found


def _scrypt(password: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    memory = 128 * n * r + 128 * r * p + (1 << 20)
    return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=memory, dklen=_HASH_BYTES)
