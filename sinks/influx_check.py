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
    """Its retention: rows that are older than it keeps are refused, and those of ``ledger`` always are."""
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
    kept_s = max((int(rule.every_seconds or 0) for rule in bucket.retention_rules or ()), default=0)
    if kept_s == 0:
        yield Finding(_OF, "bucket", detail=f"{settings.bucket} keeps rows for ever")
        return
    standing = " and ".join(name for name in TABLES if measurement(name).time is None)
    hint = (
        f"Set it to infinite (`influx bucket update --id {bucket.id} --retention 0`): older rows are "
        f"refused, and so are {standing}, which stand at 1970."
    )
    yield Finding(_OF, "bucket", "bad", f"{settings.bucket} keeps rows for {kept_s / _DAY_S:g} days", hint)


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
