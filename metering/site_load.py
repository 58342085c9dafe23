"""Reading a site file: all faults at once, or the site.

Three steps: YAML to values with their lines (yaml_marks), values to models (site_models), and what
involves more than one object (site_check). A step that finds faults hands on what it does know
(model_faults.as_far_as_known), so that the next one finds its own in the same run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path as FilePath
from typing import Any

from metering.errors import UsageError
from metering.faults import Fault, FileFaults
from metering.model_faults import as_far_as_known, validated
from metering.model_unknown import UnknownError
from metering.policy import Policy
from metering.policy_load import load_policy
from metering.site_check import check_site
from metering.site_models import SiteFile
from metering.yaml_marks import Document, read_document


class SiteFaults(FileFaults):
    """The site file cannot be used; ``faults`` are all of them."""

    kind = "site file"


@dataclass(frozen=True, slots=True)
class Site:
    """A site file without faults. ``warnings`` do not keep it from being used."""

    file: str
    model: SiteFile
    policy: Policy
    warnings: tuple[Fault, ...] = ()

    @property
    def sha256(self) -> str:
        """Of the content: comments, order of keys and ways of writing do not count."""
        content = self.model.model_dump(mode="json", by_alias=True)
        return sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def load_site(path: FilePath | str, policy_dir: FilePath | str | None = None) -> Site:
    """The site of a file; raises SiteFaults with every fault, UsageError when it cannot be read.

    Policy packs come from ``policy_dir``, else from the file's own folder, else from the package.
    """
    site, faults = _read(path, policy_dir)
    if site is None:
        raise SiteFaults(str(path), [fault for fault in faults if fault.severity == "error"])
    return site


def find_faults(path: FilePath | str, policy_dir: FilePath | str | None = None) -> list[Fault]:
    """Every fault and warning of a file, by line; raises UsageError when it cannot be read."""
    return sorted(_read(path, policy_dir)[1], key=lambda fault: (fault.line, fault.column))


def site_schema() -> dict[str, Any]:
    """The JSON Schema of site files, for editors."""
    schema = SiteFile.model_json_schema(by_alias=True, mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "meterflow site file",
    }


def _read(path: FilePath | str, policy_dir: FilePath | str | None) -> tuple[Site | None, list[Fault]]:
    document = read_document(path)
    faults = list(document.faults)
    if document.value is None:
        return None, faults
    model, found = validated(document, SiteFile)
    faults += found
    known = model if model is not None and not faults else as_far_as_known(document, SiteFile)
    if known is None:
        return None, faults
    policy = _policy(document, known, policy_dir or FilePath(path).parent, faults)
    faults = list(dict.fromkeys([*faults, *check_site(document, known, policy)]))
    if model is None or policy is None or any(fault.severity == "error" for fault in faults):
        return None, faults
    return Site(str(path), model, policy, tuple(faults)), faults


def _policy(
    document: Document, model: SiteFile, folder: FilePath | str, faults: list[Fault]
) -> Policy | None:
    """The site's pack; None, and a fault, when it cannot be used."""
    try:
        return load_policy(model.policy, [FilePath(folder)])
    except UnknownError:
        return None
    except UsageError as error:
        what = f"the policy pack cannot be used: {error.what}"
        faults.append(document.fault(("policy",), what, str(error)))
    return None
