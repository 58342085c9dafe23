"""The settings of the roles: one YAML file, the environment above it, secrets from files.

Every fault is named at once, with its line (or variable) and a proposal, as of a site file. Only the
secrets and files of the sections that a role needs are looked at, so that copies of different roles can
share one file and hold no more secrets than each needs.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from meterflow.settings_environment import SETTINGS, Overlay, lay_over
from meterflow.settings_models import SettingsFile
from meterflow.settings_secrets import Secret, open_to_all, read_secret
from metering.errors import UsageError
from metering.faults import Fault, FileFaults
from metering.model_faults import as_far_as_known, validated
from metering.model_unknown import where_known
from metering.yaml_marks import Document, read_document


class SettingsFaults(FileFaults):
    """The settings cannot be used; ``faults`` are all that is wrong."""

    kind = "settings file"


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings without faults. ``warnings`` do not keep them from being used."""

    file: Path
    values: SettingsFile
    warnings: tuple[Fault, ...] = ()
    secrets: Mapping[str, Secret] = field(default_factory=dict, repr=False)

    def path(self, given: Path | None) -> Path | None:
        """A path of the settings as it is to be opened: relative ones are relative to their file."""
        return None if given is None else self.file.parent / given

    def secret(self, section: str, key: str) -> str:
        """What the file of that key holds; empty when none is named."""
        found = self.secrets.get(f"{section}.{key}")
        return found.reveal() if found else ""

    @property
    def site(self) -> Path:
        """The site file's path."""
        path = self.path(self.values.site)
        assert path is not None, "the role asks for it when it loads its settings"
        return path


def load_settings(
    file: Path | None, needs: Collection[str], environ: Mapping[str, str] | None = None
) -> Settings:
    """Settings for a role that needs these sections; raises SettingsFaults with every fault.

    A section in ``needs`` that ends in ``?`` is looked at only if it is there.
    """
    settings, faults = _read(file, needs, os.environ if environ is None else environ)
    if settings is None:
        raise SettingsFaults(str(file), [fault for fault in faults if fault.severity == "error"])
    return settings


def find_faults(
    file: Path | None, needs: Collection[str], environ: Mapping[str, str] | None = None
) -> list[Fault]:
    """Every fault and warning of the settings, by line."""
    faults = _read(file, needs, os.environ if environ is None else environ)[1]
    return sorted(faults, key=lambda fault: (fault.line, fault.column))


def _read(
    file: Path | None, needs: Collection[str], environ: Mapping[str, str]
) -> tuple[Settings | None, list[Fault]]:
    if file is None:
        raise UsageError(
            "a settings file is needed", hint=f"Give --settings FILE, or its path in {SETTINGS}."
        )
    document = read_document(file)
    faults = list(document.faults)
    if document.value is None:
        return None, faults
    overlay = lay_over(document, environ)
    model, found = validated(document, SettingsFile)
    faults += overlay.faults + [overlay.named(fault) for fault in found]
    known = as_far_as_known(document, SettingsFile) if model is None else model
    if known is None:
        return None, faults
    reading = _Reading(Settings(file, known), document, overlay)
    for need in needs:
        reading.check(need)
    faults += reading.faults
    if model is None or any(fault.severity == "error" for fault in faults):
        return None, faults
    return replace(reading.settings, warnings=tuple(faults), secrets=reading.secrets), faults


class _Reading:
    """Looks at the files that sections name."""

    def __init__(self, settings: Settings, document: Document, overlay: Overlay) -> None:
        self.settings, self.secrets = settings, dict[str, Secret]()
        self.faults: list[Fault] = []
        self._document, self._overlay = document, overlay

    @where_known
    def check(self, need: str) -> None:
        """Looks at a section, as far as it is known; it has to be there unless it ends in ``?``."""
        name = need.removesuffix("?")
        section = getattr(self.settings.values, name)
        if section is None:
            if name == need:
                self._add((), f"the key '{name}' is missing, which is needed here", _proposal(name))
        elif isinstance(section, Path):
            self._check_file((name,), section)
        else:
            for key in type(section).model_fields:
                self._check_key(section, name, key)

    @where_known
    def _check_key(self, values: object, section: str, key: str) -> None:
        given = getattr(values, key)
        if not isinstance(given, Path):
            return
        path = self.settings.file.parent / given
        if key in ("password_file", "token_file"):
            self._check_secret(section, key, path)
        elif self._check_file((section, key), given) and key == "key_file":
            self._warn_open(section, key, path)

    def _check_secret(self, section: str, key: str, path: Path) -> None:
        try:
            self.secrets[f"{section}.{key}"] = read_secret(path, key.removesuffix("_file"))
        except UsageError as error:
            self._add((section, key), f"{error.what} ({error.where})", error.hint)
        else:
            self._warn_open(section, key, path)

    def _warn_open(self, section: str, key: str, path: Path) -> None:
        if open_to_all(path):
            what = f"every user of this machine can read {path}"
            fault = self._document.fault((section, key), what, f"chmod o-r {path}")
            self.faults.append(self._overlay.named(replace(fault, severity="warning")))

    def _check_file(self, place: tuple[str, ...], given: Path) -> bool:
        path = self.settings.file.parent / given
        if path.is_file() and os.access(path, os.R_OK):
            return True
        what = f"{path} is no file" if not path.is_file() else f"{path} may not be read by this user"
        self._add(place, what, "Paths are relative to the settings file.")
        return False

    def _add(self, place: tuple[str, ...], what: str, proposal: str) -> None:
        self.faults.append(self._overlay.named(self._document.fault(place, what, proposal)))


def _proposal(name: str) -> str:
    value = " site.yaml" if name == "site" else ""
    return f"Add '{name}:{value}' at the top; examples/settings.yaml has every key."
