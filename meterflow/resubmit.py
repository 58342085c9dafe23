"""``meterflow resubmit``: rejected messages once more, after what was wrong has been put right."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import click

from ingest.clock import wall_clock_ms
from ingest.decode import Decoder, Delivery
from ingest.reasons import Reason
from meterflow.exporting import bound, chunks, save
from meterflow.files import bar
from meterflow.folder import Folder
from meterflow.given import load_roster, secret
from metering.errors import UsageError
from metering.query import Query
from metering.roster import Roster
from simulators.recording import Message, write_recording
from simulators.replay import ReplayProgress, replay

ONLY_WHEN_NAMED: Final = frozenset({Reason.NOT_PERMITTED, Reason.TIME_IN_FUTURE})
"""Taking these again needs somebody's word: they may be by a stranger, or of a clock that goes wrong."""
_ROWS_AT_ONCE: Final = 10_000


@dataclass(slots=True)
class Report:
    """What became of rows of ``rejected``: rows = skipped + doubles + still_refused + messages.

    ``skipped``: reason, or why else -> rows that are not taken again by this command. ``still_refused``:
    reason -> rows whose message would be refused again, so it is not sent. ``messages``: those that would
    be taken, ``readings`` in them, ``refused_readings`` beside them. ``acknowledged``, ``refused``:
    what the broker or the endpoint said of the messages.
    """

    rows: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    doubles: int = 0
    still_refused: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    readings: int = 0
    refused_readings: int = 0
    acknowledged: int = 0
    refused: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows: ``reasons`` empty for all but ONLY_WHEN_NAMED, ``plants`` empty for all."""

    query: Query
    reasons: frozenset[str]
    plants: frozenset[str]

    @classmethod
    def of(
        cls, reasons: Sequence[str], plants: Sequence[str], from_time: str | None, to_time: str | None
    ) -> Selection:
        """``from_time``, ``to_time``: of when the messages came, RFC 3339. Raises UsageError."""
        query = Query("rejected", from_ms=bound(from_time, "--from"), to_ms=bound(to_time, "--to"))
        return cls(query, frozenset(reasons), frozenset(plants))

    def skips(self, row: dict[str, Any]) -> str | None:
        """Why a row is not looked at, None for one that is."""
        if not row["payload"] and row["reason"] != Reason.EMPTY:
            return "refused by a processor: it is on the log, and judged again by each change of the site"
        reason = row["reason"]
        if reason not in self.reasons if self.reasons else reason in ONLY_WHEN_NAMED:
            return str(reason)
        if self.plants and not self.plants & set(row["topic"].split("/")):
            return "of other plants"
        return None


def resubmit(
    data: Path,
    settings: Path | None,
    site: Path | None,
    selection: Selection,
    *,
    out: Path | None,
    url: str | None,
    user: str | None,
    password_file: Path | None,
    as_json: bool,
) -> int:
    """Publishes again what would be taken now, or writes it to the recording ``out``.

    Returns 1 when the other side refused messages. Raises UsageError, Unavailable.
    """
    if settings is None:
        roster, found = _of_folder(data, site)
        url = url or found
    else:
        roster, found, its_user = _of_settings(settings, site)
        url, user = url or found, user or its_user
    if not url and out is None:
        hint = "Start meterflow up on it, name where to publish with --mqtt, or write a recording with --out."
        raise UsageError("no service runs on this folder", where=str(data), hint=hint)
    password = secret(password_file, "password")
    report = Report()
    with tempfile.TemporaryDirectory(prefix="meterflow-") as scratch:
        rows = Path(scratch) / "rejected.parquet"
        save(chunks(data, settings, selection.query, "parquet"), rows)
        recording = out or Path(scratch) / "again.ndjson"
        with write_recording(recording, whole=True) as writer, bar("rows") as told:
            for message in sifted(rows, roster, selection, report):
                writer.write(message)
                told(report.rows, None)
        if out is None and report.messages:
            _publish(recording, url or "", user, password, report)
    _tell(report, out, as_json)
    return 1 if report.refused else 0


def _of_folder(data: Path, site: Path | None) -> tuple[Roster, str]:
    """The site file's roster, and where the service on the folder takes messages."""
    folder = Folder(data)
    running = folder.running()
    roster = load_roster(site)
    mark = (folder.site() or "").split(" ")[0]
    if mark and mark != roster.version:
        hint = (
            "Start meterflow up with this site file first; the park that ships is used when none is given"
            " with --site."
        )
        raise UsageError("the service on this folder has another site file", where=str(data), hint=hint)
    return roster, running.mqtt if running else ""


def _of_settings(file: Path, site: Path | None) -> tuple[Roster, str, str | None]:
    from meterflow.settings import load_settings

    settings = load_settings(file, ("influxdb", "site", "mqtt?"))
    broker = settings.values.mqtt
    roster = load_roster(site or settings.site)
    return (roster, broker.url, broker.user or None) if broker else (roster, "", None)


def sifted(file: Path, roster: Roster, selection: Selection, report: Report) -> Iterator[Message]:
    """Of a Parquet file of ``rejected`` each message once that would be taken now; ``report`` counts all."""
    decoder, seen, now_ms = Decoder(roster, evidence=False), set[bytes](), wall_clock_ms()
    for row in _rows(file):
        report.rows += 1
        why = selection.skips(row)
        if why is not None:
            report.skipped[why] += 1
            continue
        message = Message(now_ms, row["topic"], 1, payload_bytes(row["payload"] or ""))
        mark = blake2b(b"\0".join((message.topic.encode(), message.payload)), digest_size=16).digest()
        if mark in seen:
            report.doubles += 1
            continue
        seen.add(mark)
        if _taken(decoder, message, report):
            yield message


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    columns = ["topic", "reason", "payload"]
    for batch in pq.ParquetFile(file).iter_batches(_ROWS_AT_ONCE, columns=columns):
        yield from batch.to_pylist()


def _taken(decoder: Decoder, message: Message, report: Report) -> bool:
    decoded = decoder.decode([Delivery((message.topic,), (message.payload,), message.received_ms)])
    count = sum(len(readings) for readings in decoded.readings)
    if decoded.decisions:
        report.skipped["a decision: say it again with meterflow verdicts"] += 1
        return False
    if not count:
        report.still_refused[str(decoded.rejected[0].row["reason"])] += 1
        return False
    report.messages += 1
    report.readings += count
    report.refused_readings += len(decoded.rejected)
    return True


def payload_bytes(text: str) -> bytes:
    """A message's payload, of the text that ``rejected`` has of it (``ingest.decode.payload_text``)."""
    if text.startswith("base64:"):
        try:
            return base64.b64decode(text.removeprefix("base64:"), validate=True)
        except binascii.Error:
            pass
    return text.encode()


def _publish(recording: Path, url: str, user: str | None, password: str | None, report: Report) -> None:
    with bar("messages") as told:

        def tell(progress: ReplayProgress) -> None:
            told(progress.done, report.messages)

        played = asyncio.run(replay([recording], url, user=user, password=password, progress=tell))
    report.acknowledged, report.refused = played.acknowledged, played.refused


def _tell(report: Report, out: Path | None, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({one.name: getattr(report, one.name) for one in fields(report)}))
        return
    for what, counts in (("not taken again", report.skipped), ("still refused", report.still_refused)):
        for reason, count in counts.most_common():
            click.echo(f"{count} rows {what}: {reason}", err=True)
    for reason, count in report.refused.items():
        click.echo(f"{count} messages refused: {reason}", err=True)
    done = f"written to {out}" if out else f"{report.acknowledged} acknowledged"
    click.echo(
        f"{report.rows} rows, {report.messages} messages with {report.readings} readings that are taken now:"
        f" {done}",
        err=True,
    )
    if report.refused_readings:
        click.echo(f"{report.refused_readings} readings of these messages are refused again", err=True)
