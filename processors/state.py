"""The engine's state as chunks of bytes: what changed since the last dump, and how to take it up again.

Chunk names: ``registers/N.P``, ``reads/N.P`` and ``gauges/N.P`` (runs of readings, in pieces), ``base/N`` and
``derived/N`` (4,096 cells each), ``gaps/N`` (of 64 points), ``small`` (everything else, always whole).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import astuple, fields
from typing import Any

import numpy as np

from processors.alerts import Change
from processors.choices import Choice
from processors.decided import Decided, Decision
from processors.doubt import Link, Region, Verdict
from processors.dumped import Under
from processors.engine import Engine
from processors.kernels.patience import Ways
from processors.memory import Memory
from processors.rulings import Ruling

FORMAT = 22


def dump(engine: Engine) -> tuple[dict[str, bytes], list[str]]:
    """Changed chunks by name, and names of chunks that are no more."""
    chunks: dict[str, bytes] = {"small": _small(engine)}
    dropped: list[str] = []
    for name, memory in _memories(engine).items():
        runs, gone = memory.dump()
        chunks |= {f"{name}/{key}": chunk for key, chunk in runs.items()}
        dropped += [f"{name}/{key}" for key in gone]
    for name, part in (("base", engine.spans.base), ("derived", engine.spans.derived), ("gaps", engine.gaps)):
        chunks |= {f"{name}/{key}": chunk for key, chunk in part.dump().items()}
    return chunks, dropped


def load(engine: Engine, chunks: Mapping[str, bytes]) -> None:
    """Brings a fresh engine of the same roster to the dumped state; nothing to do without chunks."""
    if not chunks:
        return
    for name, memory in _memories(engine).items():
        memory.load(Under(chunks, name))
    engine.spans.base.load(Under(chunks, "base"))
    engine.spans.derived.load(Under(chunks, "derived"))
    engine.gaps.load(Under(chunks, "gaps"))
    _take_small(engine, chunks["small"])


def _memories(engine: Engine) -> dict[str, Memory]:
    return {
        "registers": engine.books.memory,
        "reads": engine.reads.memory,
        "gauges": engine.gauges.memory,
    }


def fits(engine: Engine, chunks: Mapping[str, bytes]) -> bool:
    """Whether a dump is of this format and of exactly this roster (no dump at all fits any)."""
    if not chunks:
        return True
    with np.load(io.BytesIO(chunks["small"]), allow_pickle=False) as small:
        head = json.loads(bytes(small["head"]))
    return bool(head["format"] == FORMAT and head["roster"] == engine.roster.version)


def _arrays(engine: Engine) -> dict[str, Any]:
    ledger, reads, progress, hop = engine.books.ledger, engine.reads, engine.progress, engine.hop
    return {
        "booked": ledger.booked,
        "held": ledger.held,
        "written_off": ledger.written_off,
        "reads_booked": reads.booked,
        "reads_held": reads.held,
        "reads_written_off": reads.written_off,
        "longest_ms": reads.longest_ms,
        "seen": progress.seen,
        "waited": progress.waited,
        "received": hop.received,
        "accepted": hop.accepted,
        "duplicate": hop.duplicate,
        "rejected": hop.rejected,
    }


def _small(engine: Engine) -> bytes:
    progress, doubts = engine.progress, engine.books.doubts
    head = {
        "format": FORMAT,
        "roster": engine.roster.version,
        "log_time": progress.log_time,
        "unknown_refused": engine.unknown_refused,
        "overlapping": sorted(engine.reads.sharing.overlapping),
        "variants": [[k, r, sorted(v)] for k, (r, v) in engine.admission.variants.items()],
        "choices": [
            [k, [astuple(one) for one in sorted(v)]] for k, v in engine.admission.choices.every.items()
        ],
        "rulings": [
            [k, start, sorted(astuple(one) for one in said)]
            for k, starts in engine.rulings.every.items()
            for start, said in starts.items()
        ],
        "regions": [
            [series, [_region(one) for one in regions]] for series, regions in doubts.regions.items()
        ],
        "decided": [[series, _decided(known)] for series, known in doubts.decided.items()],
        "verdict_revisions": [[*key, value] for key, value in engine.books.verdict_revisions.items()],
        "alerts": [
            {
                "changes": [[c.at_ms, c.to, c.value] for c in h.changes.values()],
                "revisions": list(h.revisions.items()),
            }
            for h in engine.alerts
        ],
    }
    ways = {f"way_{field.name}": getattr(progress.ways, field.name) for field in fields(Ways)}
    out = io.BytesIO()
    np.savez(out, head=np.frombuffer(json.dumps(head).encode(), np.uint8), **_arrays(engine), **ways)
    return out.getvalue()


def _decided(known: Decided) -> dict[str, Any]:
    every = [astuple(one) for said in known.every.values() for one in sorted(said, key=astuple)]
    links = [list(astuple(link)) for link in known.said.values()]
    return {"every": every, "force": [one.span for one in known.force], "said": links}


def _as_decided(dumped: dict[str, Any]) -> Decided:
    known = Decided()
    for start, end, word, by, revision in dumped["every"]:
        known.take(Decision(start, end, Verdict(word), by, revision))
    known.force = [known.counts[start, end] for start, end in dumped["force"]]
    links = map(_as_link, dumped["said"])
    known.said = {(link.start, link.end): link for link in links}
    return known


def _region(region: Region) -> list[Any]:
    links = [list(astuple(link)) for link in region.links]
    return [region.start, region.end, region.breaks, region.reach, links]


def _as_region(dumped: list[Any]) -> Region:
    start, end, breaks, reach, links = dumped
    every = tuple(map(_as_link, links))
    return Region(start, end, (breaks[0], breaks[1]), (reach[0], reach[1]), every)


def _as_link(dumped: list[Any]) -> Link:
    columns = dict(zip([field.name for field in fields(Link)], dumped, strict=True))
    return Link(**columns | {"verdict": Verdict(columns["verdict"])})


def _take_small(engine: Engine, chunk: bytes) -> None:
    with np.load(io.BytesIO(chunk), allow_pickle=False) as small:
        head = json.loads(bytes(small["head"]))
        for name, array in _arrays(engine).items():
            array[:] = small[name]
        engine.progress.ways = Ways(*(small[f"way_{field.name}"] for field in fields(Ways)))
    engine.progress.log_time = head["log_time"]
    engine.resume()
    engine.unknown_refused = head["unknown_refused"]
    engine.reads.sharing.overlapping = set(head["overlapping"])
    engine.admission.variants = {
        k: (r, frozenset((a, b, c) for a, b, c in v)) for k, r, v in head["variants"]
    }
    for series, dumped in head["decided"]:
        engine.books.doubts.decided[series] = _as_decided(dumped)
        engine.books.doubts.watch(series)
    for series, regions in head["regions"]:
        engine.books.doubts.put(series, (), [_as_region(one) for one in regions])
    for key, start, said in head["rulings"]:
        engine.rulings.put(key, start, [Ruling(revision, Verdict(word), by) for revision, word, by in said])
    engine.books.resume()
    engine.reads.resume()
    engine.admission.choices.every.update({k: {Choice(*one) for one in v} for k, v in head["choices"]})
    engine.gauges.resume()
    engine.admission.resume()
    for link, series in (*engine.reads.told.links(), *engine.gauges.told.links(), *engine.admission.links()):
        engine.books.verdicts[series, link.start, link.end] = link
    engine.stated.resume(engine.books.memory)
    engine.books.verdict_revisions = {(a, b, c): d for a, b, c, d in head["verdict_revisions"]}
    for history, dumped in zip(engine.alerts, head["alerts"], strict=True):
        history.changes = {at: Change(at, to, value) for at, to, value in dumped["changes"]}
        history.revisions = {int(at): int(n) for at, n in dumped["revisions"]}
