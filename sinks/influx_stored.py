"""What InfluxDB has already of the keys that new rows have: looked up before they are overwritten."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa

from bus.frames import schema
from metering import flux
from metering.errors import Unavailable
from metering.query import Query
from metering.tables import POSITION
from sinks.influx_client import InfluxSettings
from sinks.influx_layout import LENGTH, MS_NS, TIME_MAX_NS, TIME_MIN_NS, WITHOUT, Measurement
from sinks.influx_points import Points, Tags, points, series
from sinks.store_influx_ask import Influx, TooLarge
from sinks.store_influx_flux import stretch
from sinks.store_influx_rows import rows as rows_of

Key = tuple[str, int]
"""Series (its tags as they stand in a line) and time in nanoseconds."""
_ROWS_BETWEEN = 200
"""What else may stand between two keys that are asked for together: to read it costs as much as to ask."""
_SPANS_S = {"15m": 900, "hour": 3600, "day": 86_400, "month": 31 * 86_400, "year": 366 * 86_400}
_ROLLING_S, _RARE_S = 60, 600
"""How far apart rows of a rolling window are at the least, and rows of tables that have no grain."""
_KEYS_MAX = 2000
_NAMED_MAX = 100
_ANSWER_BYTES_MAX = 8 << 20
_GRAINS = ("span", "window", LENGTH)
_Answer = TypeVar("_Answer")
Persist = Callable[[Callable[[], _Answer]], _Answer]


@dataclass(frozen=True)
class Found:
    """Stored rows, with the columns of ``bus.frames.schema``, and where each key's is among them."""

    rows: pa.Table
    where: dict[Key, int]


class Lookup:
    """Asks one InfluxDB; blocks. Raises MeterflowError when it has no answer."""

    def __init__(self, settings: InfluxSettings) -> None:
        self._bucket = settings.bucket
        self._influx = Influx(settings)

    def last_times(self, layout: Measurement) -> dict[str, int]:
        """The newest time of every series that a table has, in nanoseconds."""
        body = self._influx.ask(_last(self._bucket, layout)).decode()
        if body.lstrip(",").startswith("error,"):
            raise Unavailable(f"InfluxDB failed on a query: {body.strip()[-500:]}")
        found = csv.DictReader(io.StringIO(body, newline=""))
        names = (*layout.tags, *layout.marks, WITHOUT)
        return {
            series(tuple(sorted((name, row[name]) for name in names if row.get(name)))): int(row["last"])
            for row in found
            if row.get("last")
        }

    def find(self, layout: Measurement, keys: Sequence[tuple[Tags, int]]) -> Found:
        """The stored rows of these keys; those that have none are not in it."""
        parts, where = [schema(layout.table).empty_table()], dict[Key, int]()
        wanted = {(series(tags), time) for tags, time in keys}
        count = 0
        for cluster in _clusters(keys):
            for rows in self._cluster(layout, cluster):
                its = points(layout, rows)
                parts.append(rows)
                where |= {key: count + i for i, key in enumerate(_keys(its)) if key in wanted}
                count += len(rows)
        return Found(pa.concat_tables(parts), where)

    def _cluster(self, layout: Measurement, keys: Sequence[tuple[Tags, int]]) -> Iterable[pa.Table]:
        """Rows that have all those wanted among them."""
        first, last = (time // MS_NS for time in (keys[0][1], keys[-1][1]))
        flux_text = stretch(self._bucket, layout, layout.name, _narrowed(layout, keys), first, last)
        try:
            yield rows_of(layout, self._influx.ask(flux_text, None if len(keys) == 1 else _ANSWER_BYTES_MAX))
        except TooLarge:
            half = len(keys) // 2
            yield from self._cluster(layout, keys[:half])
            yield from self._cluster(layout, keys[half:])

    def close(self) -> None:
        """Lets go of the connections."""
        self._influx.close()


def _keys(its: Points) -> list[Key]:
    names = [series(tags) for tags in its.tags]
    return [(names[s], t) for s, t in zip(its.series.tolist(), its.times.tolist(), strict=True)]


def _clusters(keys: Sequence[tuple[Tags, int]]) -> Iterable[list[tuple[Tags, int]]]:
    """Keys of one grain that are near in time: few enough other rows stand between them."""
    grains: dict[Tags, list[tuple[Tags, int]]] = {}
    for tags, time in keys:
        grain = tuple(tag for tag in tags if tag[0] in _GRAINS)
        grains.setdefault(grain, []).append((tags, time))
    for grain, its in grains.items():
        its.sort(key=lambda key: key[1])
        count = len({tags for tags, _ in its})
        gap_ns = _step_s(grain) * max(_ROWS_BETWEEN // count, 1) * 1_000_000_000
        begin = 0
        for i in range(1, len(its) + 1):
            if i == len(its) or its[i][1] - its[i - 1][1] > gap_ns or i - begin == _KEYS_MAX:
                yield its[begin:i]
                begin = i


def _step_s(grain: Tags) -> int:
    """How far apart in time the rows of one series are."""
    for name, value in grain:
        if name == LENGTH:
            return max(int(value), 1)
        return _SPANS_S[value] if value in _SPANS_S and (name, value) != ("window", "15m") else _ROLLING_S
    return _RARE_S


def _narrowed(layout: Measurement, keys: Sequence[tuple[Tags, int]]) -> Query:
    """The tags that these keys have, where they are few. What has none of a tag is asked for with all."""
    equal = {}
    for name in layout.tags:
        values = {dict(tags).get(name, "") for tags, _ in keys}
        if "" not in values and len(values) <= _NAMED_MAX:
            equal[name] = tuple(sorted(values))
    return Query(layout.name, equal=equal)


def _last(bucket: str, layout: Measurement) -> str:
    names = ["_time", *layout.tags, *layout.marks, WITHOUT]
    return "\n".join(
        (
            f"from(bucket: {flux.text(bucket)})",
            f"  |> range(start: time(v: {TIME_MIN_NS}), stop: time(v: {TIME_MAX_NS}))",
            f"  |> filter(fn: (r) => r._measurement == {flux.text(layout.name)}",
            f"      and r._field == {flux.text(POSITION)})",
            "  |> last()",
            f"  |> keep(columns: {flux.texts(names)})",
            "  |> group()",
            "  |> map(fn: (r) => ({r with last: int(v: r._time)}))",
        )
    )
