"""Readings as they usually are, to be archived."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metering.readings import NO_SEQ, NO_TIME, Readings, absent, dictionary


def usual(
    time: NDArray[np.int64],
    mantissa: NDArray[np.int64],
    *,
    plant: str = "steel-1",
    exponent: int = 0,
    received_ms: int = 350,
) -> Readings:
    """Of one point, each received so many milliseconds later."""
    n = len(time)
    return Readings(
        plant=plant,
        point=dictionary(["main"] * n),
        time=time,
        start=np.full(n, NO_TIME),
        mantissa=mantissa,
        exponent=np.full(n, exponent, np.int8),
        unit=absent(n),
        serial=absent(n),
        product=absent(n),
        revision=np.zeros(n, np.int32),
        seq=np.full(n, NO_SEQ),
        quality=np.zeros(n, np.uint8),
        flags=np.zeros(n, np.uint8),
        received=time + received_ms,
    )
