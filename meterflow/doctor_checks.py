"""What doctor looks at itself; the checks of a service are made by its adapter."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from dataclasses import replace
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener
from uuid import uuid4

from bus.log import RESULTS
from meterflow import settings_made as made
from meterflow.settings import Settings
from metering.errors import UsageError
from metering.faults import Fault
from metering.findings import Finding, Verdict

APART_S = 5.0
"""Clocks further apart make the page's ages and the patience of silent points wrong."""
KAFKA_MS = 4_000
"""How long Kafka may take for an answer: the roles are more patient."""
_ANSWER_S = 5.0
_ROLES = ("ingest", "process", "sink", "web")

Check = Callable[[Settings], Awaitable[Iterable[Finding]]]


async def check_site(settings: Settings) -> list[Finding]:
    """The site file, fault by fault."""
    return await asyncio.to_thread(_site, settings.site)


def _site(path: Path) -> list[Finding]:
    from metering.site import find_faults

    faults = find_faults(path)
    found = [of_fault("site", fault, path) for fault in faults]
    if not any(finding.verdict == "bad" for finding in found):
        found.append(Finding("site", "site file", detail=str(path)))
    return found


def of_fault(of: str, fault: Fault, file: Path | None) -> Finding:
    """A fault of a file as a finding."""
    what, _, proposal = fault.text(str(file)).partition("\n    ")
    verdict: Verdict = "warning" if fault.severity == "warning" else "bad"
    return Finding(of, f"{of} file", verdict, what, proposal)


async def check_mqtt(settings: Settings) -> list[Finding]:
    """The broker: reachable and trusted, login, right to read each filter."""
    from ingest.broker_check import check

    return await check(made.broker(settings))


async def check_endpoint(settings: Settings) -> list[Finding]:
    """Our own MQTT endpoint: its address, its users, its certificate."""
    from ingest.users import load_users

    endpoint = settings.values.endpoint
    assert endpoint is not None
    running = await asyncio.to_thread(_alive, settings, "ingest")
    found = [_address("endpoint", "MQTT address", endpoint.host, endpoint.port, running=running)]
    tls = made.endpoint_tls(settings)
    found.append(Finding("endpoint", "TLS", detail="with its certificate" if tls else "none"))
    users = settings.path(endpoint.users_file)
    if users is None:
        hint = "Make a file of users with meterflow passwd, and name it as users_file."
        found.append(Finding("endpoint", "users", "warning", "anybody who can connect may publish", hint))
    else:
        try:
            load_users(users)
            found.append(Finding("endpoint", "users", detail=str(users)))
        except UsageError as error:
            found.append(Finding("endpoint", "users", "bad", f"{error.where}: {error.what}", error.hint))
    return found


async def check_http(settings: Settings) -> list[Finding]:
    """The addresses of the page and of each role's health."""
    return await asyncio.to_thread(_http, settings)


def _http(settings: Settings) -> list[Finding]:
    http = settings.values.http
    ports = {role: made.role_port(settings, role) for role in _ROLES}
    found = []
    for role, port in ports.items():
        others = [other for other, its in ports.items() if its == port and other < role and port]
        if others:
            hint = "Give each role that runs on this machine a port of its own."
            what = f"port {port} is also that of {', '.join(others)}"
            found.append(Finding("http", f"{role}'s address", "warning", what, hint))
        else:
            alive = _alive(settings, role)
            found.append(_address("http", f"{role}'s address", http.host, port, running=alive))
    return found


def _address(of: str, what: str, host: str, port: int, *, running: bool) -> Finding:
    where = f"{host}:{port}"
    if running:
        return Finding(of, what, detail=f"{where}, in use by a running meterflow")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with closing(socket.socket(family, kind, protocol)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        hint = "Stop what uses it, or choose another address of this machine."
        return Finding(of, what, "bad", f"{where}: {error.strerror or error}", hint)
    return Finding(of, what, detail=f"{where} is free")


def _alive(settings: Settings, role: str) -> bool:
    """Whether a meterflow answers at a role's health address; straight, whatever proxy is named."""
    host, port = settings.values.http.host, made.role_port(settings, role)
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    try:
        with build_opener(ProxyHandler({})).open(f"http://{name}:{port}/livez", timeout=_ANSWER_S) as answer:
            return bool(answer.read(100) == b"alive\n")
    except (OSError, HTTPException, ValueError):
        return False


def clock_finding(url: str) -> list[Finding]:
    """How far this machine's clock is from that of a server that says its time (HTTP's Date)."""
    request = Request(f"{url}/ping", method="HEAD")  # noqa: S310 an address of the settings
    began_s = time.time()
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=_ANSWER_S) as answer:
            said = answer.headers.get("Date")
    except (OSError, HTTPException, HTTPError, ValueError):
        return []  # that it does not answer is said by others
    if said is None:
        return []
    middle_s = (began_s + time.time()) / 2
    apart_s = abs(parsedate_to_datetime(said).timestamp() + 0.5 - middle_s)
    if apart_s <= APART_S:
        return [Finding("influxdb", "clocks", detail=f"less than {APART_S:g} s apart")]
    hint = "Set both clocks by NTP: what was received when is said with this machine's clock."
    return [Finding("influxdb", "clocks", "bad", f"{apart_s:.0f} s apart", hint)]


async def check_kafka(settings: Settings) -> list[Finding]:
    """Reachable, version, rights, topics."""
    from bus.kafka_topics import check

    return await check(replace(made.kafka(settings), patience_ms=KAFKA_MS))


async def check_json_topic(settings: Settings) -> list[Finding]:
    """The topic of JSON readings that others write: there, readable, and by which group."""
    from bus.kafka_others import check

    if settings.values.kafka is None:
        hint = "Say in section kafka where it is."
        return [Finding("json_topic", "topic", "bad", "there is no section kafka", hint)]
    its = made.json_topic(settings)
    return await check(replace(made.kafka(settings), patience_ms=KAFKA_MS), its.topic, its.group)


async def check_influxdb(settings: Settings) -> list[Finding]:
    """Reachable, version, token, bucket; whose results it holds; how far its clock is from ours."""
    return await asyncio.to_thread(_influxdb, settings)


async def check_archive(settings: Settings) -> list[Finding]:
    """Whether it can be written and read."""

    def look() -> None:
        place = made.archive(settings)
        probe = f"pending/doctor-{uuid4().hex}"
        place.put([(probe, b"")])
        place.read(probe)
        place.remove([probe])

    await asyncio.to_thread(look)
    return [Finding("archive", "write and read", detail=made.archive(settings).where)]


def _influxdb(settings: Settings) -> list[Finding]:
    from sinks.influx_check import check

    its = made.influx(settings)
    found = check(its)
    if not any(finding.verdict == "bad" for finding in found):
        found += _mark(settings)
    return found + clock_finding(its.url)


def _mark(settings: Settings) -> list[Finding]:
    """Whether the bucket is for the results that the log is for."""
    from sinks.influx_mark import check, read_mark

    if settings.values.kafka is None:
        return []
    its, results = made.influx(settings), made.kafka(settings).topic(RESULTS)
    of = read_mark(its)
    if of is None:
        return [Finding("influxdb", "results", detail="none yet")]
    try:
        check(its, results, of)
    except UsageError as error:
        return [Finding("influxdb", "results", "bad", error.what, error.hint)]
    return [Finding("influxdb", "results", detail=f"those of {of}")]


CHECKS: tuple[tuple[str, Check], ...] = (
    ("site", check_site),
    ("mqtt", check_mqtt),
    ("endpoint", check_endpoint),
    ("kafka", check_kafka),
    ("json_topic", check_json_topic),
    ("influxdb", check_influxdb),
    ("archive", check_archive),
    ("http", check_http),
)
"""Section of the settings, and the check to be made when it is there."""
