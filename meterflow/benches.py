"""``meterflow bench``: the benchmarks by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module

import click

BENCHES = (
    "ingest",
    "compute",
    "store",
    "latency",
    "core",
    "intensity",
    "kafka",
    "mqtt-kafka",
    "influxdb",
    "publish",
    "restate",
    "restate-live",
    "archive",
    "replay",
    "simulate",
    "park",
    "scale",
    "size",
)


def run(name: str, as_json: bool, *, curve: bool = False) -> None:
    """Runs one benchmark and prints its figures. ``curve``: of the operators, up to a million points."""
    if curve:
        if name != "core":
            raise click.UsageError("--curve belongs to the benchmark core.")
        import_module("benchmarks.core").run(as_json, curve=True)
        return
    if name == "store":
        _store(as_json)
        return
    started: Callable[[bool], object] = import_module(f"benchmarks.{name.replace('-', '_')}").run
    started(as_json)


def _store(as_json: bool) -> None:
    from benchmarks import store

    figures = store.run()
    click.echo(
        json.dumps(figures, indent=2) if as_json else "\n".join(f"{k:28} {v}" for k, v in figures.items())
    )
