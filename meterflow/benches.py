"""``meterflow bench``: the benchmarks by name."""

from __future__ import annotations

import json

import click


def run(name: str, as_json: bool) -> None:
    """Runs one benchmark and prints its figures."""
    if name == "store":
        from benchmarks import store

        figures = store.run()
        click.echo(
            json.dumps(figures, indent=2) if as_json else "\n".join(f"{k:28} {v}" for k, v in figures.items())
        )
    elif name == "ingest":
        from benchmarks import ingest

        ingest.run(as_json)
    elif name == "compute":
        from benchmarks import compute

        compute.run(as_json)
    else:
        from benchmarks import latency

        latency.run(as_json)
