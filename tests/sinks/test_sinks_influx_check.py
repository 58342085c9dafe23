"""What ``meterflow doctor`` finds in InfluxDB, and what it says to do."""

from __future__ import annotations

import pytest

from metering.findings import Finding
from sinks.influx_check import check
from sinks.influx_client import InfluxSettings
from tests.real.influxd import Influx
from tests.real.server import free_port


def found(influxdb: Influx, bucket: str, token: str) -> dict[str, Finding]:
    settings = InfluxSettings(influxdb.url, influxdb.org, bucket, token)
    return {finding.what: finding for finding in check(settings)}


def test_all_is_well_where_it_is(influxdb: Influx) -> None:
    """A token for this bucket alone, a bucket that keeps rows for ever in shards of a day, an InfluxDB 2."""
    bucket = influxdb.bucket(shard_s=86_400)
    findings = found(influxdb, bucket, influxdb.token_for(bucket, "read", "write"))
    assert {finding.verdict for finding in findings.values()} == {"good"}
    assert "2.7" in findings["server"].detail
    assert set(findings) == {"server", "right to write", "right to read", "bucket", "shards"}


@pytest.mark.parametrize(("given", "missing"), [("read", "right to write"), ("write", "right to read")])
def test_a_right_that_is_missing_is_named(influxdb: Influx, given: str, missing: str) -> None:
    """The sink has to read as well: what it overwrites goes into the history first."""
    bucket = influxdb.bucket()
    findings = found(influxdb, bucket, influxdb.token_for(bucket, given))
    assert findings[missing].verdict == "bad"
    assert "token" in findings[missing].hint
    assert findings[f"right to {given}"].verdict == "good"


def test_a_bucket_that_forgets_is_found(influxdb: Influx) -> None:
    """With what to do about it."""
    finding = found(influxdb, influxdb.bucket(retention_s=86_400), influxdb.token)["bucket"]
    assert (finding.verdict, finding.detail.split()[-2:]) == ("bad", ["1", "days"])
    assert "influx bucket update" in finding.hint


def test_long_shards_are_found(influxdb: Influx) -> None:
    """InfluxDB's default is a week: a warning, with how to make a better bucket."""
    finding = found(influxdb, influxdb.bucket(), influxdb.token)["shards"]
    assert (finding.verdict, finding.detail.split()[-2:]) == ("warning", ["7", "days"])
    assert "--shard-group-duration 1d" in finding.hint


def test_a_bucket_that_is_not_there_is_found(influxdb: Influx) -> None:
    """And how to make it."""
    finding = found(influxdb, "nowhere", influxdb.token)["right to write"]
    assert finding.verdict == "bad"
    assert "influx bucket create" in finding.hint


def test_a_check_stores_nothing(influxdb: Influx) -> None:
    """The probe is a line that no InfluxDB takes."""
    bucket = influxdb.bucket()
    found(influxdb, bucket, influxdb.token)
    settings = InfluxSettings(influxdb.url, influxdb.org, bucket, influxdb.token)
    from sinks.store_influx_ask import Influx as Asked

    asked = Asked(settings)
    assert asked.ask(f'from(bucket: "{bucket}") |> range(start: 0)').strip() == b""
    asked.close()


def test_a_wrong_address_is_one_finding() -> None:
    """Nothing else can be looked at."""
    url = f"http://127.0.0.1:{free_port()}"
    findings = check(InfluxSettings(url, "o", "b", "canary"))
    assert [finding.verdict for finding in findings] == ["bad"]
    assert "refused" in findings[0].detail
    assert "canary" not in repr(findings)
