"""Exact scaling of whole numbers, and what helps to look at arrays group by group."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from metering.units import MICRO, UNITS, Unit, convertible

Ints = NDArray[np.int64]
FACTOR_MAX = 2**61


def distinct(values: Ints) -> Ints:
    """The different values, ascending; counted where they lie close together: that is faster.

    Else sorted: numpy's own way puts them into a table first, which takes several times as long.
    """
    if len(values) == 0:
        return values
    low, high = int(values.min()), int(values.max())
    if high - low < 4 * len(values) + 1024:
        return np.flatnonzero(np.bincount(values - low)) + low
    ordered = np.sort(values)
    return np.asarray(ordered[np.append(True, ordered[1:] != ordered[:-1])])


def grouped(numbers: Ints, size: int) -> Ints:
    """The order that brings equal numbers below ``size`` together; small ones are sorted in linear time."""
    return np.argsort(numbers.astype(np.uint16) if size <= 1 << 16 else numbers, kind="stable")


def spread(counts: Ints) -> tuple[Ints, Ints]:
    """So many rows of each: which one a row is of, and its number among those, from 0."""
    row = np.repeat(np.arange(len(counts)), counts)
    return row, np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)


def ratio_of(of_point: Unit, word: str | None, exponent: int) -> tuple[int, int] | None:
    """What a mantissa is multiplied by to be millionths of the canonical unit; None: no such unit."""
    unit = of_point if word is None else UNITS.get(word)
    if unit is None or not convertible(unit, of_point):
        return None
    return unit.numerator * MICRO * 10 ** max(exponent, 0), unit.denominator * 10 ** max(-exponent, 0)


def factor_of(of_point: Unit, word: str | None, exponent: int, step: int) -> int:
    """What a mantissa is multiplied by, -1 where that is no whole number of steps, or no such unit."""
    ratio = ratio_of(of_point, word, exponent)
    if ratio is None or ratio[0] % (ratio[1] * step):
        return -1
    factor = ratio[0] // ratio[1]
    return factor if factor < FACTOR_MAX else -1


def scale(
    values: Ints, numerator: int, denominator: int, magnitude_max: int
) -> tuple[Ints, NDArray[np.bool_], NDArray[np.bool_]]:
    """values * numerator / denominator, rounded half to even: result, inexact?, below the maximum?"""
    divisor = math.gcd(numerator, denominator)
    numerator, denominator = numerator // divisor, denominator // divisor
    largest = int(np.abs(values).max(initial=0))
    if largest * numerator >= 2**62 or denominator >= 2**62:
        return _scale_slow(values, numerator, denominator, magnitude_max)
    product = values * numerator
    if denominator == 1:
        return product, np.zeros(len(values), bool), np.abs(product) < magnitude_max
    quotient, rest = np.divmod(product, denominator)
    up = (rest > denominator - rest) | ((rest == denominator - rest) & (quotient & 1 == 1))
    result = quotient + (up & (rest > 0))
    return result, rest > 0, np.abs(result) < magnitude_max


def _scale_slow(
    values: Ints, numerator: int, denominator: int, magnitude_max: int
) -> tuple[Ints, NDArray[np.bool_], NDArray[np.bool_]]:
    result, inexact, fits = (
        np.zeros(len(values), np.int64),
        np.zeros(len(values), bool),
        np.zeros(len(values), bool),
    )
    for i, value in enumerate(values.tolist()):
        quotient, rest = divmod(value * numerator, denominator)
        quotient += 2 * rest > denominator or (2 * rest == denominator and quotient & 1 == 1)
        inexact[i], fits[i] = rest > 0, abs(quotient) < magnitude_max
        result[i] = quotient if fits[i] else 0
    return result, inexact, fits
