"""The verb ``score`` of the command line."""

from __future__ import annotations

from pathlib import Path

import click

from meterflow.cli_shared import FOLDER, reported


@click.command()
@click.argument("truth", type=FOLDER)
@click.argument("data", type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@reported
def score(truth: Path, data: Path, as_json: bool) -> None:
    """How far what compute wrote in DATA is from the TRUTH of simulate, and which verdicts are right."""
    from meterflow import scoring

    raise SystemExit(scoring.score(truth, data, as_json))
