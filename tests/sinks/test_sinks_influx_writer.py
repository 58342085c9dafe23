"""What the writer makes of every answer: what waits, what is halved, what needs a person."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest

from sinks import influx_writer
from sinks.influx_client import Busy, InfluxClient, InfluxSettings, retry_after_s
from sinks.influx_lines import Lines
from sinks.influx_writer import InfluxWriter, Refused, Stopped
from tests.sinks.influx_moody import Moody, Says, refusal

TOKEN = "canary-4f1c9b"
JSON_503 = refusal(503, "unavailable", "later")


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only a person can help, it is tried again sooner than in five seconds."""
    monkeypatch.setattr(influx_writer, "PERSON_S", 0.05)


def writer_to(server: Moody, *, timeout_s: float = 10.0, batch_lines: int = 5000) -> InfluxWriter:
    settings = InfluxSettings(server.url, "o", "b", TOKEN, timeout_s=timeout_s, batch_lines=batch_lines)
    return InfluxWriter(InfluxClient(settings))


def some(count: int) -> list[bytes]:
    return [b"m,t=a v=%di %d\n" % (i, i) for i in range(count)]


def written(server: Moody, count: int, **options: float) -> tuple[InfluxWriter, list[Refused]]:
    writer = writer_to(server, **options)  # type: ignore[arg-type]
    return writer, writer.write(Lines.of(some(count)))


def test_only_204_counts_as_stored() -> None:
    """A proxy's login page with status 200, a redirect and a 202 are no proof; it goes on asking."""
    html = {"Content-Type": "text/html"}
    odd = [Says(200, b"<html>", html), Says(302, b"", {"Location": "http://127.0.0.1:1/"}), Says(202)]
    with Moody(*odd, Says(400, b"<html>Bad Request", html), Says(502, b"\xff\xfe", html)) as server:
        writer, refused = written(server, 10)
        assert server.stored == some(10)
    assert refused == []
    assert writer.failures == 5


def test_synchronous_mode_has_no_retry_of_its_own() -> None:
    """The trap: influxdb-client drops the batch at the first error. Here resets and 5xx are tried again."""
    with Moody(Says(0), JSON_503, Says(0), Says(500, b"oops"), Says(429)) as server:
        writer, refused = written(server, 10)
        assert server.stored == some(10)
    assert refused == []
    assert writer.failures == 5
    assert not writer.stalled


def test_a_server_that_hangs_is_asked_again() -> None:
    """After the time-out nobody knows whether it was stored: the same lines again change nothing."""
    with Moody(Says(204, hang_s=1.0)) as server:
        writer, _ = written(server, 10, timeout_s=0.3)
        assert server.stored == some(10)
    assert writer.failures == 1


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_obeyed_within_a_second(status: int, form: str) -> None:
    """In both its forms; a date counts from the answer's own clock, which is years behind here."""
    then = {"Retry-After": "1"}
    if form == "date":
        then = {"Retry-After": formatdate(1e9 + 1, usegmt=True), "Date": formatdate(1e9, usegmt=True)}
    headers = {"Content-Type": "application/json"} | then
    with Moody(Says(status, b"{}", headers)) as server:
        written(server, 1)
        first, second = server.asked_s
    assert 0.99 <= second - first <= 2.0


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("2", 2.0), ("0", 0.0), ("-5", 0.0), ("1e99", 3600.0), ("nan", None), ("soon", None), ("", None)],
)
def test_odd_values_of_retry_after_do_no_harm(said: str, seconds: float | None) -> None:
    """Nonsense is as if it were not there, and nothing makes it wait for ever."""
    assert retry_after_s({"Retry-After": said}) == seconds


def test_a_request_that_is_too_large_is_halved() -> None:
    """413: a proxy that takes 3 lines at once gets them by threes."""
    limit = Moody(judge=lambda lines: Says(413) if len(lines) > 3 else None)
    with limit as server:
        _, refused = written(server, 20)
        assert server.stored == some(20)
    assert refused == []


def test_a_line_that_is_too_large_by_itself_is_refused() -> None:
    """413 for one line ends the halving; all the others are stored."""
    with Moody(judge=lambda lines: Says(413) if some(9)[7] in lines else None) as server:
        _, refused = written(server, 9)
        assert sorted(server.stored) == sorted(some(9)[:7] + some(9)[8:])
    assert [(each.index, each.reason, each.line) for each in refused] == [(7, "store_too_large", some(9)[7])]


def test_only_the_bad_lines_of_a_batch_are_refused() -> None:
    """400: InfluxDB stores nothing of such a batch, so it is halved down to the lines that are no good."""
    bad = {some(5000)[i] for i in (0, 2345, 4999)}

    def judge(lines: list[bytes]) -> Says | None:
        return refusal(400, "invalid", "unable to parse") if bad & set(lines) else None

    with Moody(judge=judge) as server:
        _, refused = written(server, 5000)
        assert sorted(server.stored) == sorted(set(some(5000)) - bad)
    assert [(each.index, each.reason) for each in refused] == [
        (i, "store_not_parsed") for i in (0, 2345, 4999)
    ]


def test_a_batch_that_is_dropped_whole_is_not_taken_apart() -> None:
    """422 with as many dropped as there were: thousands of lines that are too old cost one request."""

    def judge(lines: list[bytes]) -> Says:
        what = f"partial write: points beyond retention policy dropped={len(lines)}"
        return refusal(422, "unprocessable entity", what)

    with Moody(judge=judge) as server:
        writer, refused = written(server, 5000)
    assert writer.requests == 1
    assert {each.reason for each in refused} == {"store_too_old"}
    assert len(refused) == 5000


@pytest.mark.parametrize(
    ("status", "code", "setting"),
    [(401, "unauthorized", "token_file"), (403, "forbidden", "token_file"), (404, "not found", "bucket")],
)
def test_what_needs_a_person_is_said_at_once_and_goes_on_by_itself(
    status: int, code: str, setting: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The setting and the remedy are named, in one log line; put right, it goes on without a restart."""
    says = refusal(status, code, "no")
    with Moody(judge=lambda _: says) as server, caplog.at_level(logging.WARNING):
        writer = writer_to(server)
        thread = threading.Thread(target=writer.write, args=(Lines.of(some(3)),))
        thread.start()
        until = time.monotonic() + 10
        while not writer.person and time.monotonic() < until:
            time.sleep(0.01)
        assert (writer.stalled, writer.person) == (True, True)
        assert f"influxdb.{setting}" in writer.reason
        server.judge = lambda _: None
        thread.join(10)
        assert server.stored == some(3)
    assert (writer.stalled, writer.person, writer.reason) == (False, False, "")
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_a_stop_ends_waiting() -> None:
    """A store that is away does not keep a process from stopping."""
    with Moody(judge=lambda _: JSON_503) as server:
        writer = writer_to(server)
        threading.Timer(0.3, writer.stop).start()
        with pytest.raises(Stopped):
            writer.write(Lines.of(some(3)))


def test_the_token_is_in_no_text(caplog: pytest.LogCaptureFixture) -> None:
    """Neither in the settings' repr nor in a log line nor in an error, however it goes wrong."""
    answers = [Says(0), refusal(401, "unauthorized", "no"), Says(200, b"x"), JSON_503]
    with Moody(*answers) as server, caplog.at_level(logging.DEBUG):
        writer = writer_to(server)
        writer.write(Lines.of(some(1)))
        assert server.tokens == {f"Token {TOKEN}"}
        client = InfluxClient(InfluxSettings("http://127.0.0.1:1", "o", "b", TOKEN))
        with pytest.raises(Busy) as error:
            client.write(b"")
    assert TOKEN not in caplog.text + str(error.value) + repr(error.value) + repr(client.settings)


@pytest.fixture
def moody() -> Iterator[Moody]:
    with Moody() as server:
        yield server


def test_batches_have_at_most_so_many_lines(moody: Moody) -> None:
    """5,000 by default, as InfluxDB's documentation has it."""
    writer = writer_to(moody)
    writer.write(Lines.of(some(12_000)))
    assert writer.requests == 3
    assert moody.stored == some(12_000)
