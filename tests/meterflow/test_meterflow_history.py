"""Restatement over the real service: whatever comes late, corrected and decided, over stops and kills.

In the end the newest rows are those of ``compute`` on everything, and of the archive alone; and what was
exported at any instant before can be asked for again.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from simulators.recording import Message, read_recording, write_recording
from tests.meterflow.helper import Row, Service, done, eventually, of_set, rows_of
from tests.meterflow.recordings import works

Serve = Callable[..., Service]
MINUTES, PIECES, CORRECTIONS = 600, 5, 25
REPORTED = ("interval", "rollup", "intensity", "verdict", "alert")


def pieces(tmp_path: Path, seed: int) -> list[Path]:
    """A day of the works, held back and sent in pieces of any order; some readings corrected, some again."""
    chance = random.Random(seed)
    works(tmp_path / "works.ndjson", MINUTES, seed)
    messages = list(read_recording(tmp_path / "works.ndjson"))
    parts: list[list[Message]] = [[] for _ in range(PIECES)]
    for message in messages:  # most of an hour comes together
        hour = message.received_ms // 3_600_000
        held_back = chance.random() < 0.1
        parts[chance.randrange(PIECES) if held_back else hash((hour, seed)) % PIECES].append(message)
    corrected = [_corrected(message, chance) for message in chance.sample(messages, CORRECTIONS)]
    for message in corrected:
        parts[chance.randrange(PIECES)].append(message)
    for part in parts:
        chance.shuffle(part)
    return [_written(tmp_path / f"piece-{number}.ndjson", part) for number, part in enumerate(parts)]


def _corrected(message: Message, chance: random.Random) -> Message:
    """Another value of one point, with a revision."""
    content = json.loads(message.payload)
    point = chance.choice(sorted(content["values"]))
    value = str(round(float(content["values"][point]) + chance.choice((-0.1, 0.1, 0.3)), 3))
    reading = {"point": point, "time": content["time"], "value": value, "revision": chance.randint(1, 2)}
    if "start" in content:
        reading["start"] = content["start"]
    return Message(message.received_ms, message.topic, 1, json.dumps([reading]).encode())


def _written(path: Path, messages: Sequence[Message]) -> Path:
    with write_recording(path) as recording:
        for message in messages:
            recording.write(message)
    return path


def readings_in(piece: Path) -> int:
    """How many a piece has, exact repetitions too."""
    contents = (json.loads(message.payload) for message in read_recording(piece))
    return sum(len(content["values"]) if isinstance(content, dict) else len(content) for content in contents)


def caught_up(service: Service, readings: int) -> None:
    """So many readings are in what is stored."""
    eventually(lambda: service.received() >= readings, 60, f"{readings} received")
    assert service.received() == readings


def said(service: Service, at: str) -> dict[str, list[Row]]:
    return {table: service.export(table, "--as-of", at) for table in REPORTED}


@pytest.mark.parametrize("seed", [1, 2])
def test_the_newest_rows_are_right_and_the_old_ones_are_kept(
    serve: Serve, site: Path, tmp_path: Path, seed: int
) -> None:
    """Pieces in any order, over stops and kills."""
    chance, service = random.Random(seed), serve(site, "--archive-every", "1")
    sent = pieces(tmp_path, seed)
    history: list[tuple[str, dict[str, list[Row]]]] = []
    service.start()
    readings = 0
    for piece in sent:
        done("replay", piece, "--mqtt", service.mqtt, "--speed", "max")
        readings += readings_in(piece)
        caught_up(service, readings)
        now = datetime.now(UTC).isoformat()
        history.append((now, said(service, now)))
        how = chance.choice(("stop", "kill", ""))
        if how:
            service.stop() if how == "stop" else service.kill()
            service.start()
            caught_up(service, readings)
    for at, rows in history:
        for table, again in said(service, at).items():
            then, since = ({json.dumps(row) for row in some} for some in (rows[table], again))
            assert (then - since, since - then) == (set(), set()), (table, at)
    assert len({len(json.dumps(rows)) for _, rows in history}) > PIECES / 2
    revised = service.export("interval", "--history")
    # what is late, too, hangs on how the endpoint's batches were cut: tests/cases have that
    assert {row["cause"] for row in revised} >= {"", "correction"}
    done("compute", *sent, "--site", site, "--out", tmp_path / "computed", "--format", "csv")
    for table in (*REPORTED, "ledger"):
        computed = rows_of((tmp_path / "computed" / f"{table}.csv").read_text())
        assert of_set(table, service.export(table)) == of_set(table, computed), table
    service.stop()
    made = ("--data", service.folder, "--out", tmp_path / "again", "--against", service.folder)
    done("archive", "rebuild", site, *made)
