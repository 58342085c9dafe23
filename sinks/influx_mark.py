"""Whose results a bucket holds: those of two site files, or of two logs, must not meet in one bucket.

One point of its own says it: measurement ``meterflow_results``, field ``of``, at 1970-01-01T00:00:00Z.
"""

from __future__ import annotations

import csv
import io

from metering import flux
from metering.errors import UsageError
from sinks.influx_client import BadLines, InfluxClient, InfluxSettings
from sinks.store_influx_ask import Influx

MEASUREMENT, FIELD = "meterflow_results", "of"


def read_mark(settings: InfluxSettings) -> str | None:
    """Whose results the bucket holds, None while nobody has said. Blocks.

    Raises Unavailable when InfluxDB does not answer, MeterflowError when it refuses.
    """
    influx = Influx(settings)
    try:
        answer = influx.ask(
            f"from(bucket: {flux.text(settings.bucket)})\n"
            f"  |> range(start: {flux.instant(-1)}, stop: {flux.instant(1)})\n"
            f"  |> filter(fn: (r) => r._measurement == {flux.text(MEASUREMENT)})\n"
            '  |> keep(columns: ["_value"])'
        )
    finally:
        influx.close()
    rows = csv.DictReader(io.StringIO(answer.decode(), newline=""))
    return next((row["_value"] for row in rows if row.get("_value")), None)


def claim(settings: InfluxSettings, results: str) -> None:
    """Notes that the bucket holds these results, unless somebody else's are in it already. Blocks.

    Raises UsageError when they are, else as ``read_mark``.
    """
    found = read_mark(settings)
    if found is None:
        _write(settings, results)
    else:
        check(settings, results, found)


def check(settings: InfluxSettings, results: str, found: str) -> None:
    """Raises UsageError when what was found is somebody else's."""
    if found != results:
        raise UsageError(
            f"the bucket holds other results: {found}, and not {results}",
            where=f"InfluxDB {settings.url}, bucket {settings.bucket}",
            hint="Results do not mix: give another, empty bucket as influxdb.bucket, or the names of before\n"
            "  as kafka.prefix and kafka.results.",
        )


def _write(settings: InfluxSettings, results: str) -> None:
    quoted = results.replace("\\", "\\\\").replace('"', '\\"')
    client = InfluxClient(settings)
    try:
        client.write(f'{MEASUREMENT} {FIELD}="{quoted}" 0'.encode())
    except BadLines as error:
        raise UsageError(
            f"the bucket does not take what is older than its retention: {error.detail}",
            where=client.where,
            hint="Give the bucket a retention of 0 (for ever): results of the past are results, too.",
        ) from error
    finally:
        client.close()
