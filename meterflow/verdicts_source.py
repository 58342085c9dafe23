"""Where ``meterflow verdicts`` looks and publishes: a data folder's service, or the parts of the settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

from meterflow.deciding import publish
from meterflow.folder import Folder, Running
from meterflow.given import instant_ms, load_roster, secret
from metering.errors import MeterflowError, UsageError
from metering.query import Query
from metering.tables import TABLES, Kind

ROWS_MAX = 100_000
_TIMEOUT_S = 60


class Reader(Protocol):
    """Rows of result tables, as metering.query.Results gives them."""

    def rows(self, query: Query) -> list[dict[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Target:
    """Where decisions are published: an address, empty where nobody takes them; user and password."""

    url: str
    user: str | None
    password: str | None


class Source:
    """Reads events, and publishes decisions on them."""

    def __init__(self, reader: Reader, zones: Mapping[str, str], target: Target) -> None:
        self._reader, self._zones, self._target = reader, zones, target

    def rows(self, query: Query) -> list[dict[str, Any]]:
        """Rows as dictionaries, times in milliseconds."""
        return self._reader.rows(query)

    def zone(self, plant: str) -> str:
        """The plant's time zone, UTC where nobody knows it."""
        return self._zones.get(plant, "UTC")

    def publish(self, topic: str, payload: bytes) -> None:
        """Returns when the decision is acknowledged."""
        if not self._target.url:
            hint = "Start meterflow up on it, or name where to publish with --mqtt."
            raise UsageError("no service runs on this folder", hint=hint)
        publish(self._target.url, self._target.user, self._target.password, topic, payload)


def source(
    data: Path, settings: Path | None, url: str | None, user: str | None, password_file: Path | None
) -> Source:
    """The parts of the settings file, else the service that runs on the folder, or what one left there, or
    what ``compute`` wrote.
    """
    password = secret(password_file, "password")
    if settings is not None:
        return _of_settings(settings, url, user, password)
    if not data.is_dir():
        raise UsageError("there is no such data folder", where=str(data), hint="Name it with --data.")
    folder = Folder(data)
    folder.check()
    running = folder.running()
    if running is not None:
        service = _Service(running)
        return Source(service, service.zones(), Target(url or running.mqtt, user, password))
    return Source(_stored(folder), {}, Target(url or "", user, password))


def _stored(folder: Folder) -> Reader:
    """What lies in a folder that no service runs on."""
    if not folder.store.exists():
        from meterflow.computed import Computed

        return Computed(folder)
    from sinks.store_duckdb import open_existing

    return open_existing(folder.store)


def _of_settings(file: Path, url: str | None, user: str | None, password: str | None) -> Source:
    from meterflow.settings import load_settings
    from meterflow.settings_made import influx
    from sinks.store_influx import InfluxResults

    settings = load_settings(file, ("influxdb", "site", "decisions?"))
    its = settings.values.decisions
    if its is not None:
        url, user = url or its.url, user or its.user or None
        password = password or settings.secret("decisions", "password_file") or None
    zones = {plant.id: plant.time_zone for plant in load_roster(settings.site).plants}
    return Source(InfluxResults(influx(settings)), zones, Target(url or "", user, password))


class _Service:
    """The service on a folder, asked over HTTP; straight, whatever proxy the environment names."""

    def __init__(self, running: Running) -> None:
        self._running = running

    def zones(self) -> dict[str, str]:
        """The plants' time zones."""
        return {plant["id"]: plant["time_zone"] for plant in self._get("site", {})["plants"]}

    def rows(self, query: Query) -> list[dict[str, Any]]:
        """As the store gives them."""
        asked = [(f"column.{name}", word) for name, words in query.equal.items() for word in words]
        asked += [("limit", str(query.limit or ROWS_MAX)), ("newest", "1" if query.newest_first else "0")]
        times = [column.name for column in TABLES[query.table].columns if column.kind is Kind.TIME]
        rows = self._get(f"rows/{query.table}", asked)["rows"]
        return [row | {name: instant_ms(row[name]) for name in times if row[name]} for row in rows]

    def _get(self, path: str, parameters: Any) -> Any:
        url = f"{self._running.address}api/{path}?{urlencode(parameters)}"
        headers = {"Authorization": f"Bearer {self._running.token}"} if self._running.token else {}
        request = Request(url, headers=headers)  # noqa: S310 the address is what the service announced
        try:
            with build_opener(ProxyHandler({})).open(request, timeout=_TIMEOUT_S) as answer:
                return json.load(answer)
        except HTTPError as error:
            text = error.read(4096).decode(errors="replace")
            with suppress(ValueError, KeyError, TypeError):
                text = str(json.loads(text)["error"])
            raise MeterflowError(f"the service refused ({error.code}): {text}", where=url) from error
        except (HTTPException, OSError, ValueError) as error:
            raise MeterflowError(
                f"the service on this folder does not answer: {error}",
                where=self._running.address,
                hint="Is it just starting or stopping? Try again.",
            ) from error
