"""Questions under way and answers just given: who asks the same gets the same, and is told how old it is.

What is the same question is a key: organisation, configuration and its version, sources and theirs, and all
that was asked. It never leaves this process.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import StrEnum

from isocenter.features.spanner.asking import Asking
from isocenter.features.spanner.shared import UnderWay
from isocenter.kit.clock import Clock

_ANSWERS_MAX = 512
_ROWS_MAX = 50_000
"""Of all answers kept together: some hundred MB at the very most."""


@dataclass(frozen=True, slots=True)
class Kept:
    asking: Asking
    age_s: float


class CacheResult(StrEnum):
    HIT = "hit"  # an answer that was kept
    JOINED = "joined"  # the same question was under way
    MISS = "miss"  # the sources were asked


class Flights:
    """``results``: how often asking the sources was spared, and how often it was not."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._under_way: UnderWay[Asking] = UnderWay()
        self._kept: OrderedDict[Hashable, tuple[Asking, float]] = OrderedDict()
        self._rows = 0
        self.results: Counter[CacheResult] = Counter()

    @property
    def pending(self) -> int:
        """Questions that sources owe an answer to, those in line included."""
        return sum(len(asking.waiting_for) for asking in self._under_way)

    def join(self, key: Hashable, begin: Callable[[], Asking]) -> Asking:
        """The one under way, or the one that is begun."""
        known = self._under_way.get(key)
        if known is not None:
            self.results[CacheResult.JOINED] += 1
            return known
        asking = begin()
        self.results[CacheResult.MISS] += 1
        return self._under_way.put(key, asking)

    def keep(self, key: Hashable, asking: Asking) -> None:
        """Only what is complete: a source that failed is asked again by the next who asks."""
        if not asking.so_far().is_complete:
            return
        self._drop(key)
        self._kept[key] = (asking, self._clock.monotonic_s())
        self._rows += _rows_of(asking)
        while len(self._kept) > _ANSWERS_MAX or (self._rows > _ROWS_MAX and self._kept):
            self._drop(next(iter(self._kept)))

    def kept(self, key: Hashable, *, age_max_s: float) -> Kept | None:
        found = self._kept.get(key)
        if found is None:
            return None
        asking, since_s = found
        age_s = self._clock.monotonic_s() - since_s
        if age_s >= age_max_s:
            self._drop(key)
            return None
        self.results[CacheResult.HIT] += 1
        return Kept(asking, age_s)

    def _drop(self, key: Hashable) -> None:
        if (found := self._kept.pop(key, None)) is not None:
            self._rows -= _rows_of(found[0])

    def cancel(self) -> None:
        self._under_way.cancel()


def _rows_of(asking: Asking) -> int:
    return sum(one.rows for one in asking.so_far().outcomes)
