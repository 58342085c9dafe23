"""Lanes: plants that share no account with others. What is reported of one has nothing to do with the rest.

Records of different lanes need not wait for each other: a pass takes a stretch of records of every lane.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metering.roster import Roster
from processors.accounts import Accounts

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Lanes:
    """The lane of every plant, point and account."""

    count: int
    of_plant: Ints
    of_point: Ints
    of_account: Ints

    @classmethod
    def of(cls, roster: Roster, accounts: Accounts) -> Lanes:
        """Plants of one group, or of groups that share a plant, are in one lane."""
        lane = np.arange(len(roster.plants))
        for group in roster.groups:
            joined = np.isin(lane, lane[list(group.plants)])
            lane[joined] = lane[joined].min(initial=len(lane))
        names, of_plant = np.unique(lane, return_inverse=True)
        of_point = of_plant[[point.plant for point in roster.points]]
        of_account = of_point[accounts.first_member()]
        return cls(max(len(names), 1), of_plant, of_point, of_account)
