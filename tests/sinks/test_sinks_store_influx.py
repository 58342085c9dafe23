"""Reading from InfluxDB: literals, stretches of time, answers that are none, and what is said then."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering import flux
from metering.errors import MeterflowError, Unavailable, UsageError
from metering.query import Query
from sinks import store_influx
from sinks.influx_client import InfluxSettings
from sinks.influx_layout import measurement
from sinks.store_influx import InfluxResults
from sinks.store_influx_ask import Influx as Asked
from sinks.store_influx_rows import rows
from sinks.store_influx_stride import Stride
from tests.real.influxd import Influx
from tests.sinks.conftest import NOON_MS
from tests.sinks.influx_filled import fill, settings_for, write

Builder = Callable[..., Any]
MINUTE_MS = 60_000
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


def results(influxdb: Influx, bucket: str, **more: Any) -> InfluxResults:
    return InfluxResults(settings_for(influxdb, bucket), **more)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The queries that were asked; they are answered as ever."""
    queries: list[str] = []
    ask = Asked.ask

    def listening(self: Asked, query: str, bytes_max: int | None = None) -> bytes:
        queries.append(query)
        return ask(self, query, bytes_max)

    monkeypatch.setattr(Asked, "ask", listening)
    return queries


@settings(max_examples=20, deadline=None)
@given(texts=st.lists(TEXTS | st.sampled_from(("${a}", '"', "\\", '\\"', "\\x41", "\n", "\r\n")), min_size=1))
def test_a_literal_means_exactly_its_text(influxdb: Influx, texts: list[str]) -> None:
    """Whatever is in it; InfluxDB itself says what it read, as JSON."""
    listed = f"string(v: json.encode(v: {flux.texts(texts)}))"
    query = f'import "array"\nimport "json"\narray.from(rows: [{{n: 1, v: {listed}}}])'
    asked = Asked(settings_for(influxdb, "first"))
    body = asked.ask(query).decode()
    asked.close()
    cell = body.split("\r\n")[1].split(",", 4)[-1]
    assert json.loads(cell[1:-1].replace('""', '"')) == texts


def test_a_name_is_never_code(influxdb: Influx, interval: Builder, frame: Builder) -> None:
    """A plant may be called like a piece of Flux; it selects itself and nothing else."""
    bucket, bad = influxdb.bucket(), '") or true //'
    fill(influxdb, bucket, *frame("interval", [interval(), interval(plant=bad)]))
    with closing(results(influxdb, bucket)) as found:
        for name in ("plant", "quality"):
            chosen = found.rows(Query("interval", equal={name: (bad,)}))
            assert [row["plant"] for row in chosen] == [bad] * (name == "plant")


@given(
    bounds=st.tuples(st.integers(-(10**13), 10**13), st.integers(0, 10**10)),
    sizes=st.lists(st.integers(0, 10**8), max_size=40),
    newest_first=st.booleans(),
    width_max_ms=st.none() | st.integers(0, 10**9),
)
def test_stretches_meet_and_leave_nothing_out(
    bounds: tuple[int, int], sizes: list[int], newest_first: bool, width_max_ms: int | None
) -> None:
    """Each begins where the last one ended, whatever sizes they had and however often one was too large."""
    first_ms, last_ms = bounds[0], sum(bounds)
    stride = Stride(first_ms, last_ms, newest_first=newest_first, width_max_ms=width_max_ms)
    edge = last_ms if newest_first else first_ms
    for (low, high), size in zip(stride, sizes, strict=False):
        assert first_ms <= low <= high <= last_ms
        assert (high if newest_first else low) == edge
        assert width_max_ms is None or high - low < max(1, width_max_ms)
        if size > 10**7 and not stride.indivisible:
            stride.too_large()
            continue
        stride.took(size)
        edge = low - 1 if newest_first else high + 1


def test_stretches_end() -> None:
    """Empty years are crossed in a few steps, and a time without room has none."""
    stride, steps = Stride(0, 50 * 365 * 86_400_000, newest_first=False), 0
    for _ in stride:
        stride.took(0)
        steps += 1
    assert steps < 12
    assert list(Stride(1, 0, newest_first=True)) == []


def test_an_instant_with_more_than_an_answer_may_have_is_still_read(
    influxdb: Influx, interval: Builder, frame: Builder
) -> None:
    """A midnight at which every point ends a span cannot be cut any smaller."""
    bucket = influxdb.bucket()
    fill(influxdb, bucket, *frame("interval", [interval(f"{i:03}", str(i)) for i in range(300)]))
    with closing(results(influxdb, bucket, target_bytes=1000, bytes_max=2000)) as found:
        assert len(found.rows(Query("interval"))) == 300


def test_an_export_is_read_as_it_is_taken(
    influxdb: Influx, interval: Builder, frame: Builder, asked: list[str]
) -> None:
    """So a table may be larger than any memory: what has not been taken has not been asked for."""
    bucket = influxdb.bucket()
    its = [interval(end=NOON_MS + i * MINUTE_MS, amount=str(i)) for i in range(3000)]
    fill(influxdb, bucket, *frame("interval", its))
    with closing(results(influxdb, bucket, target_bytes=20_000, bytes_max=80_000)) as found:
        chunks = found.export(Query("interval"), "csv")
        first = [next(chunks), next(chunks)]
        early = len(asked)
        assert early < 6
        every = [*first, *chunks]
    assert len(asked) > early + 10
    assert max(map(len, every)) < 80_000
    assert b"".join(every).count(b"\n") == 3001


def test_the_newest_rows_are_found_without_reading_the_others(
    influxdb: Influx, interval: Builder, frame: Builder, asked: list[str]
) -> None:
    """The page asks for the newest few, however many years there are."""
    bucket = influxdb.bucket()
    its = [interval(end=NOON_MS - i * 86_400_000, amount=str(i)) for i in range(200)]
    fill(influxdb, bucket, *frame("interval", its))
    with closing(results(influxdb, bucket)) as found:
        assert (
            found.rows(Query("interval", newest_first=True, limit=2)) == found.rows(Query("interval"))[:-3:-1]
        )
        asked.clear()
        found.rows(Query("interval", newest_first=True, limit=2))
    assert len(asked) < 9


def test_few_rows_among_many_are_looked_for_in_parts(
    influxdb: Influx, interval: Builder, frame: Builder, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small answers do not let InfluxDB look at all of a long time at once; the rest is not looked at."""
    monkeypatch.setattr(store_influx, "ROWS_MAX", 100)
    bucket = influxdb.bucket()
    its = [
        interval(end=NOON_MS + i * MINUTE_MS, quality="missing" if i in {700, 1500} else "valid")
        for i in range(3000)
    ]
    fill(influxdb, bucket, *frame("interval", its))
    with closing(results(influxdb, bucket)) as found:
        rows = found.rows(Query("interval", equal={"quality": ("missing",)}))
    assert [row["end"] for row in rows] == [NOON_MS + i * MINUTE_MS for i in (700, 1500)]
    stretches = [query for query in asked if "pivot" in query]
    assert 8 <= len(stretches) <= 12


def test_columns_that_no_row_has_are_unknown(influxdb: Influx, interval: Builder, frame: Builder) -> None:
    """InfluxDB leaves out a column without a value; the row has all its columns."""
    bucket = influxdb.bucket()
    fill(influxdb, bucket, *frame("interval", [interval(amount=None, measured_share=None, flags=None)]))
    with closing(results(influxdb, bucket)) as found:
        (row,) = found.rows(Query("interval"))
    assert (row["amount"], row["measured_share"], row["flags"]) == (None, None, None)


def test_a_row_that_stands_in_the_history_too_is_shown_once(
    influxdb: Influx, interval: Builder, frame: Builder
) -> None:
    """The sink writes the history before it overwrites the table, and may be killed in between."""
    bucket = influxdb.bucket()
    its = frame("interval", [interval()])
    fill(influxdb, bucket, *its)
    fill(influxdb, bucket, *its, history=True)
    with closing(results(influxdb, bucket)) as found:
        assert len(found.rows(Query("interval", history=True))) == 1


@pytest.mark.parametrize(
    "query", [Query("intervals"), Query("interval", equal={"color": ("red",)}), Query("ledger", history=True)]
)
def test_a_wrong_query_is_a_usage_error_before_anything_is_asked(query: Query) -> None:
    """As the embedded store has it, and without a connection."""
    with closing(InfluxResults(nowhere())) as found:
        with pytest.raises(UsageError):
            found.rows(query)
        with pytest.raises(UsageError):
            list(found.export(query, "csv"))


def nowhere(port: int = 1) -> InfluxSettings:
    return InfluxSettings(url=f"http://127.0.0.1:{port}", org="o", bucket="b", token="canary-token")


def said(error: pytest.ExceptionInfo[MeterflowError]) -> str:
    text = str(error.value)
    assert "canary-token" not in text
    return text


def test_no_connection_is_worth_a_retry() -> None:
    """It says where nothing answers."""
    with closing(InfluxResults(nowhere())) as found, pytest.raises(Unavailable) as error:
        found.rows(Query("interval"))
    assert "127.0.0.1:1" in said(error)


@pytest.mark.parametrize(
    ("token", "bucket", "says"),
    [("canary-token", "first", "401"), ("", "no-such-bucket", "404")],
)
def test_what_a_person_has_to_put_right_is_no_retry(
    influxdb: Influx, token: str, bucket: str, says: str
) -> None:
    """A wrong token or bucket, with what to do."""
    with closing(InfluxResults(settings_for(influxdb, bucket, token))) as found:
        with pytest.raises(MeterflowError, match=says) as error:
            found.rows(Query("interval"))
        assert not error.value.retry
        assert error.value.hint
        assert influxdb.token not in said(error)


def test_a_token_without_the_right_is_refused(influxdb: Influx) -> None:
    """A token that may only write is not the page's."""
    bucket = influxdb.bucket()
    write_only = influxdb.token_for(bucket, "write")
    with closing(InfluxResults(settings_for(influxdb, bucket, write_only))) as found:
        with pytest.raises(MeterflowError, match=r"40[34]") as error:
            found.rows(Query("interval"))
        assert not error.value.retry
        assert write_only not in said(error)


@contextmanager
def answering(*pieces: bytes) -> Iterator[int]:
    """A server that says this to one request, and goes; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                for piece in pieces:
                    connection.sendall(piece)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(5)


CSV = b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nContent-Length: 900\r\n\r\n"
HTML = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbusy"


@pytest.mark.parametrize(
    ("pieces", "retry"), [((CSV, b",result\r\n"), True), ((HTML,), False), ((BUSY,), True)]
)
def test_an_answer_that_is_none_is_no_empty_table(pieces: tuple[bytes, ...], retry: bool) -> None:
    """Cut off, a proxy's page, or busy: never taken for no rows."""
    with answering(*pieces) as port, closing(InfluxResults(nowhere(port))) as found:
        with pytest.raises(MeterflowError) as error:
            found.rows(Query("interval"))
        assert error.value.retry == retry
        said(error)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nTransfer-Encoding: chunked\r\n"


@pytest.mark.parametrize("torn", [HEAD, HEAD[:-4], HEAD[:-11], HEAD[:-25], CSV[:-11]])
def test_an_answer_that_ends_inside_its_head_is_no_empty_one(torn: bytes) -> None:
    """What is left of the head says nothing of an end: the connection's would be taken for it."""
    with answering(torn) as port, closing(Asked(nowhere(port))) as asked, pytest.raises(Unavailable):
        asked.ask("")


@pytest.mark.parametrize(
    "body",
    [
        b"error,reference\r\nout of memory,897\r\n",
        b",error,reference\r\n,out of memory,\r\n",
        b",result,table,_time\r\n,_result,0,2026-01-01T00:00:00Z\r\n\r\nerror,reference\r\nout of memory,",
    ],
)
def test_an_error_behind_a_good_status_is_an_error(body: bytes) -> None:
    """InfluxDB answers 200 and fails on the way; the rows before it are not all of them."""
    with pytest.raises(Unavailable, match="out of memory"):
        rows(measurement("interval"), body)


def test_a_query_that_fails_at_work_is_an_error(influxdb: Influx) -> None:
    """As InfluxDB really says it: a division by zero in the second of two rows."""
    asked = Asked(settings_for(influxdb, "first"))
    query = 'import "array"\narray.from(rows: [{n: 1}, {n: 0}]) |> map(fn: (r) => ({r with v: 1 / r.n}))'
    with closing(asked), pytest.raises(MeterflowError, match="zero"):
        rows(measurement("interval"), asked.ask(query))


def test_amounts_are_the_shortest_decimal_with_nine_places(
    influxdb: Influx, frame: Builder, interval: Builder
) -> None:
    """InfluxDB holds the nearest double; what is beyond it is not made up."""
    bucket = influxdb.bucket()
    _, its = frame("interval", [interval("exact", "0.1"), interval("rounded")])
    fill(influxdb, bucket, "interval", its.slice(0, 1))
    tags = "interval,length=60,plant=steel-1,point="
    for point, amount in (
        ("thirds", "0.6666666666666666"),
        ("tiny", "1e-12"),
        ("large", "12345678901234567890"),
    ):
        fields = f'position=1i,start={NOON_MS - MINUTE_MS}i,amount={amount},state="final"'
        write(influxdb, bucket, f"{tags}{point} {fields} {NOON_MS}000000".encode())
    with closing(results(influxdb, bucket)) as found:
        amounts = {row["point"]: str(row["amount"]) for row in found.rows(Query("interval"))}
        file = b"".join(found.export(Query("interval"), "csv")).decode()
    assert amounts == {
        "exact": "0.1",
        "thirds": "0.666666667",
        "tiny": "0",
        "large": "12345678901234567000",
    }
    assert "thirds,,2026-01-01T11:59:00Z,2026-01-01T12:00:00Z,0.666666667," in file


def test_position_is_what_it_is_given() -> None:
    """InfluxDB does not know how far the log is stored; whoever reads the log does."""
    with closing(InfluxResults(nowhere(), position=lambda: 42)) as found:
        assert found.position() == 42


def test_rows_that_are_not_ours_are_said_to_be(influxdb: Influx) -> None:
    """Somebody else's measurement of the same name is neither shown nor skipped."""
    bucket = influxdb.bucket()
    tags = "interval,length=60,plant=p,point=q"
    write(influxdb, bucket, f"{tags} position=1i,amount=1e300 {NOON_MS}000000".encode())
    with closing(results(influxdb, bucket)) as found, pytest.raises(MeterflowError, match="does not write"):
        found.rows(Query("interval"))
