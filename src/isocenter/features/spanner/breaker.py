"""Leaving a source alone that fails again and again, and trying it once before it is asked by all.

Pure: time is an argument.

After ``failures_max`` failures in a row it rests for ``rest_s``; then one question goes through. If that
one fails, it rests twice as long, up to ``rest_max_s``; if it is answered, everything is as before.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class BreakerState(StrEnum):
    CLOSED = "closed"  # questions go through
    OPEN = "open"  # none does
    HALF_OPEN = "half-open"  # one does


@dataclass(slots=True)
class Breaker:
    failures_max: int = 5
    rest_s: float = 5.0
    rest_max_s: float = 60.0
    _failures: int = 0
    _rests: int = 0
    _until_s: float = 0.0
    _trying: bool = False

    def state(self, now_s: float) -> BreakerState:
        if not self._rests:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now_s < self._until_s or self._trying else BreakerState.HALF_OPEN

    def resting_s(self, now_s: float) -> float:
        """How long it is still left alone; while the one question is under way, as long as its first rest."""
        if self.state(now_s) is not BreakerState.OPEN:
            return 0.0
        return max(self._until_s - now_s, self.rest_s if self._trying else 0.0)

    def admits(self, now_s: float) -> bool:
        """Whether a question may go through; of a source that rested, the first one that asks."""
        match self.state(now_s):
            case BreakerState.CLOSED:
                return True
            case BreakerState.OPEN:
                return False
            case BreakerState.HALF_OPEN:
                self._trying = True
                return True

    def answered(self) -> None:
        self._failures = self._rests = 0
        self._trying = False

    def failed(self, now_s: float) -> None:
        if self.state(now_s) is BreakerState.OPEN and not self._trying:
            return  # asked before it was left alone
        self._failures += 1
        if self._rests or self._failures >= self.failures_max:
            self._trying = False
            self._failures = 0
            self._until_s = now_s + min(self.rest_s * 2**self._rests, self.rest_max_s)
            self._rests += 1

    def abandoned(self) -> None:
        """The question ended without telling anything of the source: cancelled by who asked it."""
        self._trying = False
