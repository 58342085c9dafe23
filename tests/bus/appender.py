"""A process that appends until it is killed, and prints each number that was acknowledged.

``python tests/bus/appender.py FOLDER FIRST``: eight callers share the numbers; each append puts its
number into two topics; one more saves how far it has read and trims behind it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from itertools import count
from pathlib import Path

from bus.log import READINGS, RESULTS, Entry
from bus.log_sqlite import SqliteLog, open_log

CALLERS = 8


def value_of(number: int) -> bytes:
    """A number and bytes that go with it, up to 60 kB."""
    return b"%d/" % number + bytes([number % 251]) * (number * number % 997 * 60)


async def append(log: SqliteLog, numbers: count[int]) -> None:
    """One caller."""
    for number in numbers:
        entry = Entry(str(number % 7), value_of(number), number)
        await log.append({READINGS: [entry], RESULTS: [entry]})
        os.write(1, b"%d\n" % number)


async def save(log: SqliteLog) -> None:
    """A consumer of the readings."""
    while True:
        offset = (await log.load("books")).offset
        await log.wait(READINGS, offset, 10)
        offset += len(await log.read(READINGS, offset, records_max=20))
        await log.save(
            "books", offset, {"offset": b"%d" % offset, f"chunk {offset % 5}": bytes(offset % 9999)}
        )
        await log.trim(READINGS, offset - 200)


async def main() -> None:
    """Appends from a number on."""
    log = await open_log(Path(sys.argv[1]), checkpoint_bytes=1 << 20)
    os.write(1, b"open\n")
    numbers = count(int(sys.argv[2]))
    await asyncio.gather(*(append(log, numbers) for _ in range(CALLERS)), save(log))


if __name__ == "__main__":
    asyncio.run(main())
