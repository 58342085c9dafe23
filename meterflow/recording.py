"""The verbs ``record`` and ``replay``."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Literal

import click

from meterflow.files import bar
from meterflow.given import instant_ms, secret
from metering.errors import MeterflowError, UsageError
from metering.site_types import duration_ms
from simulators.recorder import Recorder, RecordReport, check_filters
from simulators.recording_live import LiveRecording
from simulators.replay import Replay, ReplayReport
from simulators.replay_plan import Part, Unstamped

EVERYTHING = ("#",)
LAG_TOLD_S = 0.1


def record(
    *,
    out: Path,
    url: str,
    topics: Sequence[str],
    qos: int,
    retained: bool,
    duration: str | None,
    append: bool,
    user: str | None,
    password_file: Path | None,
    as_json: bool,
) -> int:
    """Records until SIGINT, SIGTERM or the duration; 1 when messages are missing, or may be."""
    password = secret(password_file, "password")
    for_s = _seconds(duration)
    filters = check_filters(topics or EVERYTHING)
    stop = threading.Event()
    live = LiveRecording(str(out), append=append)
    if live.cut_bytes:
        _say(f"{out}: the last line was cut off: its {live.cut_bytes} bytes are taken off")
    try:
        with bar("messages") as told, stopped_by_signals(stop):
            recorder = Recorder(
                url, filters, live, stop, user=user, password=password, qos=qos, retained=retained,
                say=_say, progress=lambda count: told(count, None),
            )  # fmt: skip
            try:
                recorder.run(None if for_s is None else time.monotonic() + for_s)
            finally:
                live.close()
                _tell(out, recorder.report, as_json)
    except OSError as error:
        hint = "what was written until then can be replayed; check the folder, its rights and the space left"
        raise MeterflowError(f"cannot be written: {error.strerror}", where=str(out), hint=hint) from error
    return 1 if recorder.report.gaps else 0


def replay(
    recordings: Sequence[Path],
    *,
    url: str,
    speed: str,
    begin: str | None,
    end: str | None,
    rounds: int,
    stamps: str,
    unstamped: Unstamped,
    skip: int,
    user: str | None,
    password_file: Path | None,
    as_json: bool,
) -> int:
    """Plays recordings; 1 when some messages were refused or not acknowledged, or not all were played."""
    password = secret(password_file, "password")
    bounds = [None if one is None else instant_ms(one) for one in (begin, end)]
    part = Part(recordings, bounds[0], bounds[1], rounds, _stamps(stamps), unstamped)
    stop = threading.Event()
    with bar("messages") as told, stopped_by_signals(stop):
        player = Replay(
            part, url, _speed(speed), user=user, password=password, skip=skip, stop=stop,
            progress=lambda progress: told(progress.done, None),
        )  # fmt: skip
        try:
            player.run()
        except BaseException:
            if as_json or player.report().messages:  # else there is nothing to tell but the mistake
                _tell_of_replay(player.report(), as_json)
            raise
        report = player.report()
        _tell_of_replay(report, as_json)
    if not report.messages + report.left_out + report.stopped and (begin or end):
        _say("no message was received in that window")
    unfinished = report.stopped and rounds != 0
    return 1 if report.refused or report.unacknowledged or report.cut or unfinished else 0


def _tell_of_replay(report: ReplayReport, as_json: bool) -> None:
    for reason, count in report.refused.items():
        click.echo(f"{count} messages refused: {reason}", err=True)
    for cut in report.cut:
        click.echo(f"meterflow: {cut}", err=True)
    if as_json:
        click.echo(json.dumps(asdict(report)))
        return
    refused = sum(report.refused.values())
    text = (
        f"{report.messages} messages, {report.acknowledged} acknowledged, {report.resent} resent,"
        f" {refused} refused, {report.seconds:.1f} s, {_short(report.rate_hz)}/s,"
        f" {_short(report.reached)} times as fast as recorded"
    )
    more = {
        "sent at QoS 0, which nobody acknowledges": report.at_qos_0,
        "NOT acknowledged": report.unacknowledged,
        "left out": report.left_out,
        "sent with a lower QoS, or without retain": report.lowered,
        "gaps in what was recorded": report.gaps,
    }
    text += "".join(f"; {count} {what}" for what, count in more.items() if count)
    if report.lag_max_s >= LAG_TOLD_S:
        text += f"; behind by up to {report.lag_max_s:.1f} s, {report.lag_s:.1f} s at the end"
    if report.stopped:
        done = report.messages - report.unacknowledged
        text += f"; stopped: --skip {done} goes on from there"
    click.echo(text, err=True)


def _short(number: float) -> str:
    """Three digits, or all before the point."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _stamps(text: str) -> int | Literal["now"] | None:
    if text in ("original", "now"):
        return "now" if text == "now" else None
    return instant_ms(text, "--stamps")


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{text!r} is no speed", hint="Give 1, a number above 0, or max.") from None


def _seconds(duration: str | None) -> float | None:
    if duration is None:
        return None
    try:
        return duration_ms(duration) / 1_000
    except ValueError as error:
        raise UsageError(f"--for: {error}", hint="Write it like 30s, 10m or 6h.") from error


def _say(text: str) -> None:
    click.echo(f"meterflow: {text}", err=True)


def _tell(out: Path, report: RecordReport, as_json: bool) -> None:
    """What was recorded; gaps were told when they were found."""
    if as_json:
        click.echo(json.dumps(asdict(report)), err=str(out) == "-")
        return
    rate_hz = report.messages / report.seconds if report.seconds else 0.0
    text = f"{out}: {report.messages} messages, {report.seconds:.1f} s, {_short(rate_hz)}/s"
    if report.again:
        text += f"; {report.again} were sent again and may be there twice"
    if report.gaps:
        text += f"; {len(report.gaps)} gaps, see above"
    if report.drops_told_until is not None and not report.gaps:
        text += f"; the broker has told of nothing dropped until {report.drops_told_until}"
    click.echo(text, err=True)


@contextmanager
def stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """SIGINT and SIGTERM set ``stop``; a second one ends at once."""

    def asked(number: int, _frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
