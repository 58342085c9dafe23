"""Policy packs: from a folder beside the site file, or from the package's own packs/."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from importlib import resources
from pathlib import Path as FilePath
from zoneinfo import ZoneInfo

from metering import policy_models as file
from metering.errors import UsageError
from metering.faults import Fault, FileFaults, Path, did_you_mean
from metering.measures import MEASURES
from metering.model_faults import validated
from metering.policy import Factor, Policy, PowerFactorStandard, SurchargeStep, Tariff, TariffBand
from metering.roster import FOR_EVER_MS
from metering.units import CANONICAL, UNITS
from metering.yaml_marks import Document, parse_document

_SECOND_MS = 1_000


class PolicyFaults(FileFaults):
    """A policy pack cannot be used; ``faults`` are all of them."""

    kind = "policy pack"


def load_policy(id: str, folders: Iterable[FilePath] = ()) -> Policy:
    """The pack ``id``; raises UsageError when there is none, PolicyFaults when it has faults."""
    return parse_policy(*read_policy(id, folders))


def read_policy(id: str, folders: Iterable[FilePath] = ()) -> tuple[bytes, str]:
    """Bytes and name of the first ``id.yaml`` of the folders, else of the one that comes with meterflow.

    Raises UsageError when there is none.
    """
    for folder in folders:
        path = folder / f"{id}.yaml"
        if path.is_file():
            return path.read_bytes(), str(path)
    packs = resources.files("metering") / "packs"
    own = packs / f"{id}.yaml"
    if id in _own_ids() and own.is_file():
        return own.read_bytes(), f"packs/{id}.yaml"
    raise UsageError(f"there is no policy pack '{id}'", hint=did_you_mean(id, _own_ids()))


def parse_policy(content: bytes, name: str) -> Policy:
    """A pack from its bytes; raises PolicyFaults."""
    document = parse_document(content, name)
    if document.faults or document.value is None:
        raise PolicyFaults(name, document.faults)
    model, faults = validated(document, file.PolicyFile)
    if model is not None:
        faults += _checked(document, model)
    if model is None or faults:
        raise PolicyFaults(name, faults)
    return _compiled(model, sha256(content).hexdigest())


def _own_ids() -> list[str]:
    packs = resources.files("metering") / "packs"
    return sorted(item.name.removesuffix(".yaml") for item in packs.iterdir() if item.name.endswith(".yaml"))


def _compiled(model: file.PolicyFile, digest: str) -> Policy:
    zone = ZoneInfo(model.time_zone)
    return Policy(
        id=model.policy,
        edition=model.edition,
        sha256=digest,
        kgce={measure: _factors(entries, zone) for measure, entries in model.kgce.items()},
        kgco2e={
            **{(measure, ""): _factors(entries, zone) for measure, entries in model.kgco2e.items()},
            **_grid_factors(model.grid, zone),
        },
        tariffs={name: _tariff(name, tariff) for name, tariff in model.tariffs.items()},
        power_factor={name: _power_factor(name, one) for name, one in model.power_factor.items()},
    )


def _factors(entries: Sequence[file.Coefficient], zone: ZoneInfo) -> tuple[Factor, ...]:
    factors = []
    for entry in entries:
        value = Fraction(entry.value) / UNITS[entry.per].factor
        factors.append(_factor(value, entry.from_day, entry.to_day, zone, entry.source, entry.verified))
    return tuple(sorted(factors, key=lambda factor: factor.from_ms))


def _grid_factors(
    years: Sequence[file.GridYear], zone: ZoneInfo
) -> dict[tuple[str, str], tuple[Factor, ...]]:
    factors: dict[tuple[str, str], list[Factor]] = {}
    for year in sorted(years, key=lambda year: year.from_day):
        for region, value in year.regions.items():
            verified = region not in year.unverified
            factor = _factor(Fraction(value), year.from_day, year.to_day, zone, year.source, verified)
            factors.setdefault(("electricity", region), []).append(factor)
    return {key: tuple(entries) for key, entries in factors.items()}


def _factor(
    value: Fraction, from_day: date, to_day: date | None, zone: ZoneInfo, source: str, verified: bool
) -> Factor:
    to_ms = FOR_EVER_MS if to_day is None else _midnight_ms(to_day, zone)
    return Factor(_midnight_ms(from_day, zone), to_ms, value.numerator, value.denominator, source, verified)


def _midnight_ms(day: date, zone: ZoneInfo) -> int:
    return int(datetime.combine(day, time(0), zone).timestamp()) * _SECOND_MS


def _tariff(id: str, tariff: file.Tariff) -> Tariff:
    bands = tuple(TariffBand(b.name, tuple(b.months), b.start, b.end) for b in tariff.bands)
    ratios = {name: Fraction(ratio) for name, ratio in tariff.ratios.items()}
    return Tariff(id, tariff.source, bands, ratios, tariff.verified)


def _power_factor(id: str, model: file.PowerFactor) -> PowerFactorStandard:
    below, above = (
        tuple(SurchargeStep(step.to, step.percent) for step in steps) for steps in (model.below, model.above)
    )
    return PowerFactorStandard(Decimal(id), model.source, model.verified, below, above)


def _checked(document: Document, model: file.PolicyFile) -> list[Fault]:
    """What the models alone cannot see."""
    faults: list[Fault] = []
    try:
        ZoneInfo(model.time_zone)
    except (KeyError, ValueError, OSError):
        faults.append(document.fault(("time_zone",), f"there is no time zone '{model.time_zone}'"))
    for key, table in (("kgce", model.kgce), ("kgco2e", model.kgco2e)):
        for measure, entries in table.items():
            faults += _coefficients(document, (key, measure), measure, entries)
    for name, tariff in model.tariffs.items():
        faults += _bands(document, ("tariffs", name, "bands"), tariff)
    for name in model.power_factor:
        if name not in ("0.80", "0.85", "0.90"):
            proposal = 'Standards are "0.80", "0.85" and "0.90", in quotes.'
            faults.append(
                document.fault(("power_factor", name), f"'{name}' is no standard", proposal, of_key=True)
            )
    return faults + _grid_years(document, model.grid)


def _coefficients(
    document: Document, path: Path, measure: str, entries: Sequence[file.Coefficient]
) -> list[Fault]:
    faults = []
    for i, entry in enumerate(entries):
        if UNITS[entry.per].dimension not in MEASURES[measure].dimensions:
            canonical = ", ".join(CANONICAL[d] for d in MEASURES[measure].dimensions)
            what = f"{measure} is not measured in {entry.per}"
            faults.append(document.fault((*path, i, "per"), what, f"Use a unit like {canonical}."))
    return faults + _spans(document, path, [(entry.from_day, entry.to_day) for entry in entries])


def _grid_years(document: Document, years: Sequence[file.GridYear]) -> list[Fault]:
    return _spans(document, ("grid",), [(year.from_day, year.to_day) for year in years])


def _spans(document: Document, path: Path, spans: Sequence[tuple[date, date | None]]) -> list[Fault]:
    """Faults of spans that end before they begin, or overlap."""
    faults = []
    for i, (start, end) in enumerate(spans):
        if end is not None and end <= start:
            what = f"it ends on {end}, before it begins"
            faults.append(document.fault((*path, i, "to"), what, "Put 'to' after 'from'."))
        for other_start, other_end in spans[:i]:
            if start < (other_end or date.max) and other_start < (end or date.max):
                what = f"its time overlaps with the one from {other_start}"
                faults.append(document.fault((*path, i), what, "End one where the other begins."))
    return faults


def _bands(document: Document, path: Path, tariff: file.Tariff) -> list[Fault]:
    """Every minute of every month must have a band."""
    faults = []
    for i, band in enumerate(tariff.bands):
        if band.end != time(0) and band.end <= band.start:
            what = "the band ends before it begins"
            faults.append(document.fault((*path, i), what, "Split a band at midnight into two."))
    compiled = _tariff("", tariff).bands
    edges = sorted({edge for band in compiled for edge in (time(0), band.start, band.end)})
    for month in range(1, 13):
        for edge in edges:
            if not any(band.holds(datetime.combine(date(2000, month, 1), edge)) for band in compiled):
                what = f"no band holds {edge:%H:%M} in month {month}"
                proposal = "Add a band, without months if for all."
                return [*faults, document.fault(path, what, proposal, of_key=True)]
    return faults
