"""A register event as a person decides it: what its row says, what can be said, what each word would do.

For the command and the page. ``docs/books.md`` (Decisions) is where the words are defined.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from metering.decisions import CONFLICT, PLAIN, WORDS

HELD: Final = "held"
DECIDED_BY_PEOPLE: Final = ("confirmed", "refused")
ID_SIZE: Final = 8
_LEAVE_OUT: Final = ("glitch", "spike", "stuck", "clock_jump")
"""Words for readings that are wrong, and are left out."""
_FALLS: Final = ("reset", "decrease", "rollover")
_OF_A_READ: Final = ("plain", "spike", "overlap")
"""Words for an interval read, or what a gauge showed: it counts, or does not."""
_SEEN: Final = {
    "from_value": "from",
    "to_value": "to",
    "factor": "in another unit from here on, by a factor of",
    "left_out": "left out",
    "lowest": "lowest",
    "highest": "highest",
    "from_serial": "from",
    "to_serial": "to",
    "value": "value",
    "possible": "the limit allows at most",
    "limit_needed": "it would need one of",
    "values": "values",
    "counts": "counts",
}
"""Evidence by its name in the row, and what it is called."""
_NEEDED: Final = "limit_needed"
IN_A_ROW_MIN: Final = 5
"""So many rises beyond a limit, one behind the other, are hardly wrong readings."""
ALIKE_MAX: Final = 10
"""So many times as fast as the one before it a rise may be to be like it."""
_TURNS: Final = "most_turns"
"""Evidence of an event that may hide turns of the register."""
_Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Choice:
    """A word that can be said of an event, and what it would do to the amount."""

    verdict: str
    effect: str


@dataclass(frozen=True, slots=True)
class Doubt:
    """A register event. ``id``: short, of its key, the same for ever. ``from_ms``, ``to_ms``: UTC.

    ``installed_ms``: when its installation begins, None where the site file does not say. Installations of
    one point share no time, so that the key of ``id`` and of a decision needs no more than the instants.

    ``choices``: what can be said of it, its own verdict first, none where only other readings can settle it.
    ``evidence``: texts by name. ``revision``: what the next decision on it has to have to count.
    """

    id: str
    plant: str
    point: str
    serial: str
    from_ms: int
    to_ms: int
    verdict: str
    status: str
    by: str
    evidence: dict[str, Any]
    choices: tuple[Choice, ...]
    revision: int
    installed_ms: int | None = None

    @property
    def seen(self) -> str:
        """The evidence in words."""
        told = ((words, self._shown(name)) for name, words in _SEEN.items() if name in self.evidence)
        out = [f"{words} {' or '.join(map(str, w)) if isinstance(w, list) else w}" for words, w in told]
        if _TURNS in self.evidence:
            fewest, most, end = (self.evidence.get(name) for name in ("fewest_turns", _TURNS, "rolls_at"))
            out.append(f"may have passed its end at {end} {fewest} to {most} times")
        return ", ".join(out)

    def _shown(self, name: str) -> object:
        """Evidence of a name; of reads that begin apart the values with their starts."""
        found, starts = self.evidence[name], self.evidence.get("starts")
        if name != "values" or not isinstance(starts, list):
            return found
        return [f"{value} from {start}" for value, start in zip(found, starts, strict=False)]

    @property
    def own(self) -> str:
        """The word that confirms it; empty where its own is none that decides anything."""
        return self.verdict if any(choice.verdict == self.verdict for choice in self.choices) else ""

    @property
    def refusal(self) -> str:
        """The word that refuses it; empty where that it counted on is what is to be confirmed."""
        return "" if self.own == PLAIN and _TURNS in self.evidence else PLAIN

    def effect(self, verdict: str) -> str:
        """What a word would do to the amount; empty for one that says nothing of it."""
        return next((choice.effect for choice in self.choices if choice.verdict == verdict), "")

    def message(self, verdict: str, by: str, value: str = "", start_ms: int | None = None) -> dict[str, Any]:
        """The payload of a decision that counts more than those before it.

        ``value``, ``start_ms``: of a conflict, the value that counts and, of interval reads, its start (UTC).
        """
        from_ms = self.from_ms
        if verdict == CONFLICT:  # its row's from is the start of one of its reads
            from_ms = self.to_ms if start_ms is None else start_ms
        said: dict[str, Any] = {"from": from_ms, "to": self.to_ms, "verdict": verdict, "by": by}
        said |= {"revision": self.revision}
        return said | {name: text for name, text in (("serial", self.serial), ("value", value)) if text}

    def plain_values(self) -> dict[str, Any]:
        """For JSON; ``own``, ``refusal`` and ``seen`` too, the instants as they are."""
        return asdict(self) | {"own": self.own, "refusal": self.refusal, "seen": self.seen}


def doubt(row: _Row) -> Doubt:
    """The event of a row of ``verdict``, instants in UTC milliseconds, evidence as JSON text."""
    evidence = _evidence(row["evidence"])
    key = [str(row[name] or "") for name in ("plant", "point", "serial", "from", "to")]
    return Doubt(
        id=hashlib.sha256("\0".join(key).encode()).hexdigest()[:ID_SIZE],
        plant=key[0],
        point=key[1],
        serial=key[2],
        from_ms=int(row["from"]),
        to_ms=int(row["to"]),
        verdict=str(row["verdict"]),
        status=str(row["status"]),
        by=str(row["by"] or ""),
        evidence=evidence,
        choices=tuple(
            Choice(word, _effect(word, row, evidence) + _behind(evidence)) for word in _words(row, evidence)
        ),
        revision=1 + int(evidence.get("decision", -1)),
        installed_ms=row.get("installed"),
    )


def doubts(rows: Iterable[_Row]) -> list[Doubt]:
    """The events of some rows of ``verdict``."""
    return [doubt(row) for row in rows]


@dataclass(frozen=True, slots=True)
class TooSmall:
    """Rises of a point, one behind the other, that its limit does not allow, and that a larger one would.

    ``count``: how many; ``from_ms``, ``to_ms``: UTC; ``needed``: the limit that would allow all of them.
    """

    plant: str
    point: str
    count: int
    from_ms: int
    to_ms: int
    needed: str

    @property
    def words(self) -> str:
        """What there is, and what to do."""
        return (
            f"{self.plant}/{self.point}: {self.count} rises in a row are held, as its limit does not allow "
            f"them. If that was used, its limit in the site file is too small: {self.needed} would allow all "
            "of them, and with it they are booked."
        )


def limits_too_small(found: Iterable[Doubt]) -> list[TooSmall]:
    """Of each point the longest row of held rises that begin where the one before ends and are alike, where
    it is long: a register that counts on beyond its limit. What is in another unit says nothing of it.
    """
    rises = [one for one in found if one.status == HELD and _needed(one)]
    longest: dict[str, list[Doubt]] = {}
    for row in _in_a_row(sorted(rises, key=lambda one: (_place(one), one.from_ms))):
        place = f"{row[0].plant}/{row[0].point}"
        if len(row) >= max(IN_A_ROW_MIN, len(longest.get(place, ()))):
            longest[place] = row
    return [_too_small(row) for _, row in sorted(longest.items())]


def _in_a_row(rises: Iterable[Doubt]) -> Iterator[list[Doubt]]:
    row: list[Doubt] = []
    for one in rises:
        if row and not _goes_on(row[-1], one):
            yield row
            row = []
        row.append(one)
    if row:
        yield row


def _goes_on(before: Doubt, one: Doubt) -> bool:
    low, high = sorted((_needed(before), _needed(one)))
    return _place(before) == _place(one) and before.to_ms == one.from_ms and high <= ALIKE_MAX * low


def _place(one: Doubt) -> str:
    return f"{one.plant}/{one.point}/{one.serial}"


def _needed(one: Doubt) -> Decimal:
    """The limit that a rise would need; 0 where that is not said."""
    return _number(one.evidence.get(_NEEDED)) or Decimal(0)


def _too_small(row: list[Doubt]) -> TooSmall:
    most, (first, *_, last) = max(row, key=_needed), row
    needed = str(most.evidence[_NEEDED])
    return TooSmall(first.plant, first.point, len(row), first.from_ms, last.to_ms, needed)


def decision_topic(plant: str, point: str) -> str:
    """Where decisions on a point are published."""
    return f"meterflow/v1/{plant}/{point}/decision"


def _evidence(text: object) -> dict[str, Any]:
    try:
        found = json.loads(str(text or "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _words(row: _Row, evidence: Mapping[str, Any]) -> list[str]:
    """What can be said, the row's own verdict first."""
    own = str(row["verdict"])
    if own == CONFLICT:
        return [CONFLICT]
    if "value" in evidence:
        several = own != "spike" and row["from"] != row["to"]
        return sorted(_OF_A_READ[: 2 + several], key=lambda word: word != own)
    if own == "replacement" or row["from"] == row["to"]:
        return []
    if evidence.get("left_out"):
        words = [*_LEAVE_OUT, PLAIN]
    elif (_rise(evidence) or Decimal(0)) < 0:
        words = [*_FALLS]
    elif _TURNS in evidence:
        words = [PLAIN, "rollover", "spike", "reset"]
    else:  # what passed in a gap cannot be booked
        words = ["spike", "reset", *([PLAIN] if own != "gap" else [])]
    if row["status"] in DECIDED_BY_PEOPLE:  # the readings between may be among what a person said of it
        words += [word for word in WORDS if word != CONFLICT and word not in words]
    return sorted(words, key=lambda word: word != own)


def _effect(word: str, row: _Row, evidence: Mapping[str, Any]) -> str:
    rise, left = _rise(evidence), evidence.get("left_out")
    amount = _amount(rise, evidence)
    if word == CONFLICT:
        return "the value you name counts, the others do not"
    if "value" in evidence:
        of = _effect_on_a_gauge if row["from"] == row["to"] else _effect_on_a_read
        return of(word, str(evidence["value"]))
    once = _over_the_end(rise, evidence)
    if word in _LEAVE_OUT and left:
        if once is not None and rise is not None and rise < 0:
            rise, amount = once, _amount(once, evidence)
        books = f"books {amount}, estimated" if rise is None or rise >= 0 else f"keeps {amount} held"
        return f"leaves {left} reading{'s' if left != 1 else ''} out and {books}"
    if word == PLAIN and left:
        return f"keeps the {left} reading{'s' if left != 1 else ''} left out; what then is doubtful is listed"
    if word == PLAIN:
        fall = rise is not None and rise < 0
        sure = "" if once is None else ": the register did not pass its end"
        return "changes nothing: a fall cannot be booked" if fall else f"books {amount}, estimated{sure}"
    if word == "rollover":
        way = "the way over the register's end" if once is None else _amount(once, evidence)
        return f"books {way}, estimated" + ("" if once is None else ": the register passed its end once")
    if word in _LEAVE_OUT and word != "spike":
        return "leaves out what lies between, if there is anything"
    return f"writes {amount} off; what was used between stays unknown"


def _over_the_end(rise: Decimal | None, evidence: Mapping[str, Any]) -> Decimal | None:
    """What the register counted if it passed its end once more than it shows; None: that is not in doubt."""
    width = _number(evidence.get("rolls_at")) if _TURNS in evidence else None
    return None if rise is None or width is None else rise + width


def _behind(evidence: Mapping[str, Any]) -> str:
    """What any word does to what a register counts behind a step into another unit."""
    return "; what follows counts as it is shown" if "factor" in evidence else ""


def _effect_on_a_read(word: str, value: str) -> str:
    if word == PLAIN:
        return f"books {value} as it was read; reads that share time with it are written off"
    return f"writes {value} off; what was used is what other reads say, else unknown"


def _effect_on_a_gauge(word: str, value: str) -> str:
    if word == PLAIN:
        return f"counts {value} as it was read, until the next reading"
    return f"writes {value} off; what was until the next reading stays unknown"


def _rise(evidence: Mapping[str, Any]) -> Decimal | None:
    """Between the readings at both ends, as the meter shows them."""
    ends = [_number(evidence.get(name)) for name in ("from_value", "to_value")]
    return None if ends[0] is None or ends[1] is None else ends[1] - ends[0]


def _number(text: object) -> Decimal | None:
    try:
        return Decimal(str(text).partition(" ")[0])
    except InvalidOperation:
        return None


def _amount(rise: Decimal | None, evidence: Mapping[str, Any]) -> str:
    if rise is None:
        return "what lies between"
    unit = str(evidence.get("to_value")).partition(" ")[2]
    return f"{rise.normalize():f} {unit}".rstrip().replace("-", "−")
