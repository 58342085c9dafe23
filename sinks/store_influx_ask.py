"""Asking InfluxDB: Flux in, CSV out, and its errors as ours."""

from __future__ import annotations

from contextlib import closing
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import urllib3
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.domain.dialect import Dialect
from influxdb_client.rest import ApiException

from metering.errors import MeterflowError, Unavailable

if TYPE_CHECKING:
    from sinks.influx_client import InfluxSettings

READ_MS = 120_000
"""How long InfluxDB may think about a query."""
_SAID_MAX = 500
_PIECE_BYTES = 1 << 16
_BARE: Any = Dialect(header=True, delimiter=",", annotations=[])  # type: ignore[no-untyped-call]

_REMEDIES: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "The token is wrong, or was withdrawn: make one that may read the bucket.",
    HTTPStatus.FORBIDDEN: "The token may not read this bucket: make one that may.",
    HTTPStatus.NOT_FOUND: "Check the names of organisation and bucket, and that the token may see them.",
}


class TooLarge(Exception):
    """An answer has more bytes than were allowed; the rest was not read."""


class Influx:
    """One InfluxDB; may be asked from several threads."""

    def __init__(self, settings: InfluxSettings) -> None:
        self._url, self._org, self._bucket = settings.url, settings.org, settings.bucket
        self._client = InfluxDBClient(
            settings.url,
            settings.token,
            org=settings.org,
            timeout=(round(settings.timeout_s * 1000), READ_MS),
            ssl_ca_cert=None if settings.ca_file is None else str(settings.ca_file),
            retries=False,
        )

    def ask(self, flux: str, bytes_max: int | None = None) -> bytes:
        """The answer to a query, as CSV with a header and without annotations.

        Raises TooLarge for more than ``bytes_max``, Unavailable when InfluxDB does not answer or says
        that it cannot now, MeterflowError when it refuses.
        """
        try:
            with closing(self._client.query_api().query_raw(flux, dialect=_BARE)) as answer:
                if not answer.headers.get("Content-Type", "").startswith("text/csv"):
                    raise self._odd()
                _check_end(answer)
                return _all(answer, bytes_max)
        except ApiException as error:
            raise self._refused(error) from None  # its text may have anything a proxy says
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unavailable(
                f"InfluxDB does not answer: {_reason(error)}",
                where=self._url,
                hint="Is it running, and is the address right? It is asked again.",
            ) from None

    def close(self) -> None:
        """Lets go of the connections."""
        self._client.close()  # type: ignore[no-untyped-call]

    def _odd(self) -> MeterflowError:
        hint = "Something between here and InfluxDB answers in its place: check the address and the proxies."
        return MeterflowError("the answer to a query is not InfluxDB's", where=self._url, hint=hint)

    def _refused(self, error: ApiException) -> MeterflowError:
        status = int(error.status or 0)
        what = f"InfluxDB refuses a query ({status}): {_said(error)}"
        where = f"{self._url}, organisation {self._org}, bucket {self._bucket}"
        if status == 0:
            hint = "Give the certificate that signed the server's as ca_file."
            return MeterflowError(f"no trust: {error.reason}", where=self._url, hint=hint)
        if status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS} or status >= 500:
            return Unavailable(what, where=where, hint="It is asked again; see its log if that goes on.")
        hint = _REMEDIES.get(status, "See its log, and whether it is an InfluxDB 2 with Flux.")
        return MeterflowError(what, where=where, hint=hint)


def _check_end(answer: urllib3.BaseHTTPResponse) -> None:
    """Without a length or pieces the end of the connection is that of the answer: so is a head cut off."""
    pieces = answer.headers.get("Transfer-Encoding", "").lower() == "chunked"
    if not pieces and not answer.headers.get("Content-Length", "").isdecimal():
        raise urllib3.exceptions.ProtocolError("an answer broke off, or does not say where it ends")


def _all(answer: urllib3.BaseHTTPResponse, bytes_max: int | None) -> bytes:
    pieces, total = [], 0
    for piece in answer.stream(_PIECE_BYTES, decode_content=True):
        pieces.append(piece)
        total += len(piece)
        if bytes_max is not None and total > bytes_max:
            raise TooLarge
    return b"".join(pieces)


def _said(error: ApiException) -> str:
    """InfluxDB's own message, or the beginning of whatever else came."""
    text = str(error.message or error.reason or "")
    return " ".join(text.split())[:_SAID_MAX]


def _reason(error: BaseException) -> str:
    """The innermost cause, without the addresses of objects that urllib3 puts around it."""
    while isinstance(error, urllib3.exceptions.MaxRetryError) and error.reason is not None:
        error = error.reason
    return str(error).rpartition(">: ")[2] or type(error).__name__
