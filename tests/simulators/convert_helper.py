"""A table and a mapping file become messages."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from simulators.convert import Summary, convert
from simulators.recording import Message, read_recording

MAP = """\
map: 1
plant: p
time: {column: at, zone: %s}
readings:
  - {point: main, column: kWh, reads: register}
"""
ENDS = "Asia/Seoul, stamp: end, interval: 15m"


def converted(folder: Path, table: str, mapping: str) -> tuple[list[Message], Summary]:
    source, map_path, out = folder / "t.csv", folder / "map.yaml", folder / "r.ndjson"
    source.write_text(table)
    map_path.write_text(mapping)
    summary = convert(source, map_path, out)
    return list(read_recording(out)), summary


def decoded(messages: list[Message]) -> list[Any]:
    return [json.loads(message.payload, parse_float=Decimal, parse_int=Decimal) for message in messages]


def instants(messages: list[Message]) -> list[str]:
    return [str(row["time"]) for row in decoded(messages)]
