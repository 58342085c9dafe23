"""What ``meterflow doctor`` looks at in InfluxDB: answer, version, rights, bucket, retention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import urllib3
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.rest import ApiException

from metering.errors import MeterflowError
from metering.findings import Finding
from metering.tables import TABLES
from sinks.influx_client import BadLines, InfluxClient, InfluxSettings
from sinks.influx_layout import measurement
from sinks.influx_stored import Lookup

_OF = "influxdb"
_DAY_S = 86_400
_PROBE = b"meterflow_doctor"
"""A line without fields: it asks for the right to write, and stores nothing."""


def check(settings: InfluxSettings) -> list[Finding]:
    """Every connection, right and version that storing needs, each with its remedy. Blocks; never raises."""
    reached = _server(settings)
    if reached.verdict == "bad":
        return [reached]
    return [reached, *_rights(settings), *_bucket(settings)]


def _server(settings: InfluxSettings) -> Finding:
    with _client(settings) as client:
        try:
            version = str(client.version() or "")
        except (ApiException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            hint = "Is InfluxDB running, and is influxdb.url its address as seen from here?"
            return Finding(_OF, "server", "bad", f"{settings.url}: {_words(error)}", hint)
    if not version.removeprefix("v").startswith("2."):
        said = f"InfluxDB {version}" if version else "it does not say that it is InfluxDB"
        hint = "meterflow writes to InfluxDB 2 and asks it in Flux: another one may not understand it."
        return Finding(_OF, "server", "warning", f"{settings.url}: {said}", hint)
    return Finding(_OF, "server", detail=f"{settings.url}: InfluxDB {version}")


def _rights(settings: InfluxSettings) -> Iterator[Finding]:
    def write() -> None:
        try:
            client.write(_PROBE)
        except BadLines:
            return  # it has looked at the line, so the token may write

    client, lookup = InfluxClient(settings), Lookup(settings)
    try:
        yield _tried("right to write", write)
        yield _tried("right to read", lambda: lookup.find(measurement("hop"), [((("hop", "doctor"),), 0)]))
    finally:
        client.close()
        lookup.close()


def _tried(what: str, call: Callable[[], object]) -> Finding:
    try:
        call()
    except MeterflowError as error:
        return Finding(_OF, what, "bad", error.what, error.hint)
    return Finding(_OF, what, detail="given")


def _bucket(settings: InfluxSettings) -> Iterator[Finding]:
    """How long it keeps rows, and in shards of how many days (docs/operations.md says why)."""
    with _client(settings) as client:
        try:
            bucket: Any = client.buckets_api().find_bucket_by_name(settings.bucket)
        except (ApiException, urllib3.exceptions.HTTPError, OSError) as error:
            bucket, why = None, _words(error)
        else:
            why = "the token may not see it"
    if bucket is None:
        hint = "Look with `influx bucket list` whether it keeps rows for ever (retention infinite)."
        yield Finding(_OF, "bucket", "warning", f"{settings.bucket}: {why}", hint)
        return
    rules = bucket.retention_rules or ()
    yield _retention(settings.bucket, bucket.id, max((int(r.every_seconds or 0) for r in rules), default=0))
    yield _shards(settings.bucket, max((int(r.shard_group_duration_seconds or 0) for r in rules), default=0))


def _retention(name: str, bucket_id: str, kept_s: int) -> Finding:
    """Rows that are older than it keeps are refused, and those of ``ledger`` always are."""
    if kept_s == 0:
        return Finding(_OF, "bucket", detail=f"{name} keeps rows for ever")
    standing = " and ".join(name for name in TABLES if measurement(name).time is None)
    hint = (
        f"Set it to infinite (`influx bucket update --id {bucket_id} --retention 0`): older rows are "
        f"refused, and so are {standing}, which stand at 1970."
    )
    return Finding(_OF, "bucket", "bad", f"{name} keeps rows for {kept_s / _DAY_S:g} days", hint)


def _shards(name: str, shard_s: int) -> Finding:
    """0: it does not say."""
    if 0 < shard_s <= _DAY_S:
        return Finding(_OF, "shards", detail=f"of {shard_s / 3600:g} hours")
    hint = (
        "InfluxDB 2.7 can mix up old and new values of rows that were revised several times in one shard. "
        "Give influxdb.bucket and kafka.results new names, and make that bucket with `influx bucket create "
        "--name NAME --retention 0 --shard-group-duration 1d`: everything is worked out and stored anew."
    )
    long = (
        f"{name} has shards of {shard_s / _DAY_S:g} days"
        if shard_s
        else f"{name} does not say how long its are"
    )
    return Finding(_OF, "shards", "warning", long, hint)


def _client(settings: InfluxSettings) -> InfluxDBClient:
    return InfluxDBClient(
        settings.url,
        settings.token,
        org=settings.org,
        timeout=5000,
        ssl_ca_cert=None if settings.ca_file is None else str(settings.ca_file),
    )


def _words(error: BaseException) -> str:
    if isinstance(error, ApiException):
        return f"{error.status} {error.message or error.reason}"
    while isinstance(error, urllib3.exceptions.MaxRetryError) and error.reason is not None:
        error = error.reason
    return _last_words(str(error)) or type(error).__name__


def _last_words(text: str) -> str:
    """Without the addresses of objects that urllib3 puts around a cause."""
    return " ".join(text.rpartition(">: ")[2].split()).rstrip("')")
