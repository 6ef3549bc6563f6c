"""Time as a collaborator: whoever needs the hour is given a clock, so that a test can set it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

DAY_US = 86_400 * 1_000_000


class Clock(Protocol):
    def now(self) -> datetime:
        """The wall clock: an aware datetime in UTC."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never run backwards; only differences mean anything."""
        ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is told to ``advance``."""

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 1, 1, tzinfo=UTC)
        self._monotonic_s = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._monotonic_s += seconds

    def jump(self, seconds: float) -> None:
        """As when somebody sets the wall clock: no time passes."""
        self._now += timedelta(seconds=seconds)


def microseconds(moment: datetime) -> int:
    """Since 1970 in UTC: how the database keeps times."""
    return int(moment.timestamp() * 1_000_000)


def now_us(clock: Clock) -> int:
    return microseconds(clock.now())
