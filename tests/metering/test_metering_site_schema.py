"""The JSON Schema that editors use."""

from __future__ import annotations

import json
from pathlib import Path

from metering.site import site_schema

FILE = Path(__file__).parents[2] / "docs" / "site.schema.json"


def test_the_schema_file_is_the_one_of_the_models() -> None:
    """To write it anew: site_schema() through json.dumps(…, indent=2, ensure_ascii=False)."""
    assert json.loads(FILE.read_text()) == json.loads(json.dumps(site_schema()))


def test_the_schema_speaks_the_files_words() -> None:
    """Keys are the aliases, defaults are written as a person writes them."""
    plant = site_schema()["$defs"]["Plant"]["properties"]
    assert plant["patience"]["default"] == "10m"
    assert "patience_ms" not in plant
    assert site_schema()["required"] == ["meterflow", "plants"]


def test_only_what_the_interface_says_is_required() -> None:
    """A site file begins small."""
    required = {name: sorted(part.get("required", ())) for name, part in site_schema()["$defs"].items()}
    assert required["Plant"] == ["id", "points", "time_zone"]
    assert required["Point"] == ["id", "measures", "reads", "unit"]
    assert required["Group"] == ["id"]
    assert required["Installation"] == []
    assert required["Product"] == ["id", "unit"]
    assert required["Intensity"] == ["id"]
