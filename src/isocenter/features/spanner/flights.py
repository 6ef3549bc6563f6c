"""Questions under way and answers just given: who asks the same gets the same, and is told how old it is.

What is the same question is a key: organisation, configuration and its version, sources and theirs, and all
that was asked. It never leaves this process.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import StrEnum

from isocenter.features.spanner.asking import Asking, Result
from isocenter.kit.clock import Clock

_ANSWERS_MAX = 512
_ROWS_MAX = 50_000
"""Of all answers kept together: some hundred MB at the very most."""


@dataclass(frozen=True, slots=True)
class Kept:
    result: Result
    age_s: float


class CacheResult(StrEnum):
    HIT = "hit"  # an answer that was kept
    JOINED = "joined"  # the same question was under way
    MISS = "miss"  # the sources were asked


class Flights:
    """``results``: how often asking the sources was spared, and how often it was not."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._under_way: dict[Hashable, Asking] = {}
        self._kept: OrderedDict[Hashable, tuple[Result, float]] = OrderedDict()
        self._rows = 0
        self.results: Counter[CacheResult] = Counter()

    @property
    def pending(self) -> int:
        """Questions that sources owe an answer to, those in line included."""
        return sum(len(asking.waiting_for) for asking in self._under_way.values())

    def join(self, key: Hashable, begin: Callable[[Callable[[], None]], Asking]) -> Asking:
        """The one under way, or the one that ``begin(over)`` begins."""
        known = self._under_way.get(key)
        if known is not None and not (known.is_over or known.is_cancelled):
            self.results[CacheResult.JOINED] += 1
            return known
        asking = begin(lambda: self._over(key))
        self.results[CacheResult.MISS] += 1
        self._under_way[key] = asking
        return asking

    def _over(self, key: Hashable) -> None:
        asking = self._under_way.get(key)
        if asking is not None and asking.is_over:
            del self._under_way[key]

    def keep(self, key: Hashable, result: Result) -> None:
        """Only what is complete: a source that failed is asked again by the next who asks."""
        if not result.is_complete:
            return
        self._drop(key)
        self._kept[key] = (result, self._clock.monotonic_s())
        self._rows += len(result.answers)
        while len(self._kept) > _ANSWERS_MAX or (self._rows > _ROWS_MAX and self._kept):
            self._drop(next(iter(self._kept)))

    def kept(self, key: Hashable, *, age_max_s: float) -> Kept | None:
        found = self._kept.get(key)
        if found is None:
            return None
        result, since_s = found
        age_s = self._clock.monotonic_s() - since_s
        if age_s >= age_max_s:
            self._drop(key)
            return None
        self.results[CacheResult.HIT] += 1
        return Kept(result, age_s)

    def _drop(self, key: Hashable) -> None:
        if (found := self._kept.pop(key, None)) is not None:
            self._rows -= len(found[0].answers)

    def cancel(self) -> None:
        for asking in list(self._under_way.values()):
            asking.cancel()
