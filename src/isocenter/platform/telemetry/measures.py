"""What is measured while the program works, in plain objects: adding to one costs less than a microsecond,
and whoever adds knows nothing of who reads it. Counts are `collections.Counter`."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""How long an answer may take: 0.5 and 2 are what was promised of them (MISSION B6, B9)."""


class Distribution:
    """How many values fell between which ``bounds`` (ascending; a value that equals one is below it), the
    last of ``counts`` above them all; and their ``sum``."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def copy(self) -> Distribution:
        made = Distribution(self.bounds)
        made.counts, made.sum = self.counts.copy(), self.sum
        return made

    def up_to(self) -> list[tuple[float, int]]:
        """How many values are at most as large as each bound, and in the end as infinity."""
        found, below = [], 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            below += count
            found.append((bound, below))
        return found
