"""Talking to InfluxDB 2: one attempt each, with every answer as one of a few outcomes.

influxdb-client carries the requests; its batching, its retries and its idea of success are not used: it
drops what it cannot send, and takes any 2xx (of a proxy's login page, say) for stored. Here only 204 is.
What an outcome leads to is decided by influx_writer.py.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import urllib3
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.rest import ApiException
from influxdb_client.service.write_service import WriteService

from metering.errors import MeterflowError, Unavailable

RETRY_AFTER_S_MAX = 3600.0
"""A longer Retry-After is cut to this: something is wrong with it."""
_STORED = 204
_BUSY = frozenset((408, 425, 429))
_UNSURE = frozenset((500, 502, 504))
"""InfluxDB's own time-out, and what proxies say of a server that has not answered."""
_DETAIL_MAX = 1000
_REMEDIES = {
    401: "The token is wrong or was withdrawn: put one into influxdb.token_file that may read and write "
    "the bucket (`influx auth create --read-bucket ID --write-bucket ID`).",
    403: "The token of influxdb.token_file has not the right: make one that may read and write the bucket.",
    404: "Check influxdb.org and influxdb.bucket; make the bucket with `influx bucket create --name NAME`. "
    "A token without the right to see it gets this answer, too.",
}
_ODD = (
    "Something between here and InfluxDB answers in its place: check influxdb.url and the proxies on "
    "the way. It is tried again every few seconds."
)
for _name in ("connectionpool", "connection"):  # an answer that is cut off is told by us, without a traceback
    logging.getLogger(f"urllib3.{_name}").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class InfluxSettings:
    """Where results are stored, and how. ``ca_file``: certificates to trust instead of the system's."""

    url: str
    org: str
    bucket: str
    token: str = field(repr=False)
    ca_file: Path | None = None
    timeout_s: float = 10.0
    batch_lines: int = 5000
    gzip: bool = False


class Busy(Unavailable):
    """No answer, or "not now": worth a retry, after ``wait_s`` seconds where the server said so.

    ``unsure``: the request may be worked on still, and land behind those that come after it.
    """

    def __init__(self, what: str, *, where: str, wait_s: float | None = None, unsure: bool = False) -> None:
        super().__init__(what, where=where, hint="What is to be stored waits on the log, and is tried again.")
        self.wait_s, self.unsure = wait_s, unsure


class BadLines(Exception):
    """Some lines are no good; ``status`` 400: nothing is stored, 422: the others are; ``detail``: why."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


class BodyTooLarge(Exception):
    """The request was too large (413)."""


class InfluxClient:
    """One InfluxDB, one request at a time. Everything blocks, at most ``timeout_s``.

    All methods raise Busy where a retry can help by itself, and MeterflowError where a person is needed.
    """

    def __init__(self, settings: InfluxSettings) -> None:
        self.settings = settings
        self.where = f"InfluxDB {settings.url}, bucket {settings.bucket}"
        self._client = InfluxDBClient(
            settings.url,
            settings.token,
            org=settings.org,
            timeout=round(settings.timeout_s * 1000),
            enable_gzip=settings.gzip,
            ssl_ca_cert=None if settings.ca_file is None else str(settings.ca_file),
            retries=False,
        )
        self._writes = WriteService(self._client.api_client)  # type: ignore[no-untyped-call]

    def write(self, body: bytes) -> None:
        """Stores lines with times in nanoseconds. Raises BadLines and BodyTooLarge, too."""
        to = {"org": self.settings.org, "bucket": self.settings.bucket, "precision": "ns"}
        self._done(
            self._writes.post_write_with_http_info, body=body, content_type="text/plain; charset=utf-8", **to
        )

    def close(self) -> None:
        """Lets go of the connections."""
        self._client.close()  # type: ignore[no-untyped-call]

    def _done(self, call: Any, **what: Any) -> None:
        """Makes the call; returns only for 204."""
        try:
            answer = call(async_req=False, _return_http_data_only=False, **what)
        except ApiException as error:
            raise self._outcome(error) from None  # its text may have anything a proxy says
        except UnicodeDecodeError:
            raise MeterflowError("the answer is not InfluxDB's", where=self.where, hint=_ODD) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Busy(f"no answer: {_innermost(error)}", where=self.where, unsure=True) from None
        if answer[1] != _STORED:
            what_came = f"the answer is {answer[1]}, not 204 as InfluxDB's"
            raise MeterflowError(what_came, where=self.where, hint=_ODD)

    def _outcome(self, error: ApiException) -> Exception:
        status = int(error.status or 0)
        headers: Any = error.headers or {}
        code, detail = _said(error.body)
        if status == 0:
            return MeterflowError(
                f"no trust: {_cut(str(error.reason))}",
                where=self.where,
                hint="Set influxdb.ca_file to the certificate that signed the server's.",
            )
        if status in _BUSY or status >= 500:
            wait_s, unsure = retry_after_s(headers), status in _UNSURE
            return Busy(f"{status} {detail}".strip(), where=self.where, wait_s=wait_s, unsure=unsure)
        if status == 413:
            return BodyTooLarge()
        if status in {400, 422} and code in {"invalid", "unprocessable entity"}:
            return BadLines(status, detail)
        hint = _REMEDIES.get(status, _ODD) if code else _ODD
        return MeterflowError(f"it refuses ({status}): {detail}", where=self.where, hint=hint)


def retry_after_s(headers: Any) -> float | None:
    """The seconds that an answer asks to wait: a number of them, or a date (RFC 9110, 10.2.3).

    A date counts from the answer's own ``Date``, so that clocks that differ do no harm.
    """
    said = str(headers.get("Retry-After") or "").strip()
    if not said:
        return None
    seconds = None
    with suppress(ValueError):
        seconds = float(said)
    if seconds is None:
        until, now = _date(said), _date(str(headers.get("Date") or "")) or datetime.now(UTC)
        if until is None:
            return None
        seconds = (until - now).total_seconds()
    return min(max(seconds, 0.0), RETRY_AFTER_S_MAX) if seconds == seconds else None  # noqa: PLR0124 not NaN


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _said(body: Any) -> tuple[str, str]:
    """InfluxDB's code and message; of anything else no code and its beginning."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
    with suppress(ValueError):
        said = json.loads(text)
        if isinstance(said, dict) and isinstance(said.get("code"), str):
            return said["code"], _cut(str(said.get("message", "")))
    return "", _cut(text)


def _cut(text: str) -> str:
    """Texts of servers, on one line and of bounded length."""
    flat = " ".join(text.split())
    return flat if len(flat) <= _DETAIL_MAX else f"{flat[: _DETAIL_MAX // 2]} … {flat[-_DETAIL_MAX // 2 :]}"


def _innermost(error: BaseException) -> str:
    """The cause in words, without the addresses of objects that urllib3 puts around it."""
    while isinstance(error, urllib3.exceptions.MaxRetryError) and error.reason is not None:
        error = error.reason
    return _cut(str(error).rpartition(">: ")[2]) or type(error).__name__
