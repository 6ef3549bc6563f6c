"""What a source is spared, and how it did: questions at once, in line and per second; leaving it alone."""

from __future__ import annotations

import asyncio
import statistics
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from isocenter.features.spanner.breaker import Breaker, BreakerState
from isocenter.features.spanner.entries import Limits
from isocenter.features.spanner.failures import Ended, SourceFailed
from isocenter.features.spanner.plan import Condition
from isocenter.kit.clock import Clock

_REMEMBERED = 32


@dataclass(frozen=True, slots=True)
class Mishap:
    """``at_us``: µs since 1970 UTC."""

    at_us: int
    ended: Ended
    detail: str


@dataclass(slots=True)
class Record:
    """How a source did of late."""

    took_s: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    mishaps: deque[Mishap] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    @property
    def median_s(self) -> float | None:
        return statistics.median(self.took_s) if self.took_s else None


class Turnstile:
    """Of one source, in one process."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self.breaker = Breaker()
        self.record = Record()
        self._clock = clock
        self._turns = asyncio.Semaphore(limits.at_once)
        self._limits = limits
        self._in_line = 0
        self._next_s = 0.0

    def condition(self) -> Condition:
        return Condition(self.breaker.resting_s(self._clock.monotonic_s()), self.record.median_s)

    @property
    def waiting(self) -> int:
        """Questions in line."""
        return self._in_line

    def state(self) -> BreakerState:
        return self.breaker.state(self._clock.monotonic_s())

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One question, whose failure counts against the source. Raises SourceFailed where the line is full,
        or the source is left alone since it was planned for."""
        if self._in_line >= self._limits.waiting:
            raise SourceFailed(
                Ended.REFUSED,
                f"{self._in_line} questions wait for it already",
                remedy="Ask again in a moment, or let it be asked more at once.",
                blamed=False,
            )
        self._in_line += 1
        try:
            await self._turns.acquire()
        finally:
            self._in_line -= 1
        try:
            await self._pace()
            if not self.breaker.admits(self._clock.monotonic_s()):
                raise SourceFailed(
                    Ended.NOT_ASKED, "it has just failed others and is left alone", blamed=False
                )
            try:
                yield
            except SourceFailed as failure:
                self.failed(failure)
                raise
            except BaseException:
                self.breaker.abandoned()  # whoever asked no longer wants to know
                raise
        finally:
            self._turns.release()

    async def _pace(self) -> None:
        """Questions begin a fixed time apart: after a pause nothing is made up for."""
        if not self._limits.per_second:
            return
        loop = asyncio.get_running_loop()
        begin_s = max(loop.time(), self._next_s)
        self._next_s = begin_s + 1 / self._limits.per_second
        await asyncio.sleep(begin_s - loop.time())

    def answered(self, took_s: float) -> None:
        self.breaker.answered()
        self.record.took_s.append(took_s)

    def failed(self, failure: SourceFailed) -> None:
        """Of a question that had its turn."""
        if failure.blamed:
            self.breaker.failed(self._clock.monotonic_s())
            at_us = int(self._clock.now().timestamp() * 1_000_000)
            self.record.mishaps.append(Mishap(at_us, failure.ended, failure.detail))
        else:
            self.breaker.abandoned()
