"""Questions that somebody comes back for (MISSION B5): under way, or ended and not yet fetched.

They live in this process, and are forgotten some minutes after they were asked.
"""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from dataclasses import dataclass

from isocenter.features.spanner.asking import Asking
from isocenter.kit.clock import Clock
from isocenter.kit.errors import Busy, NotFound

PER_ORGANIZATION_MAX = 256
KEPT_S = 600.0


@dataclass(frozen=True, slots=True)
class Running:
    """``subject_id``: who asked; nobody else gets to see it."""

    id: str
    organization_id: int
    subject_id: str
    asking: Asking
    config_id: int
    _interest: ExitStack
    _since_s: float

    def release(self) -> None:
        self._interest.close()

    def is_stale(self, now_s: float) -> bool:
        return self.asking.is_over and now_s - self._since_s > KEPT_S


class RunningQueries:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._running: dict[str, Running] = {}

    def check_room(self, organization_id: int) -> None:
        """Raises Busy where too many are kept already."""
        self._expire()
        if (
            sum(one.organization_id == organization_id for one in self._running.values())
            >= PER_ORGANIZATION_MAX
        ):
            raise Busy(
                f"{PER_ORGANIZATION_MAX} queries are kept already.",
                code="too-many-queries",
                remedy="Fetch their results and delete them, or wait until they are forgotten.",
                retry_after_s=30,
            )

    def keep(self, organization_id: int, subject_id: str, config_id: int, asking: Asking) -> Running:
        interest = ExitStack()
        interest.enter_context(asking.interest())
        name = secrets.token_urlsafe(16)
        running = Running(
            name, organization_id, subject_id, asking, config_id, interest, self._clock.monotonic_s()
        )
        self._running[name] = running
        return running

    def get(self, organization_id: int, subject_id: str, name: str) -> Running:
        """Raises NotFound, also for somebody else's."""
        self._expire()
        found = self._running.get(name)
        if found is None or (found.organization_id, found.subject_id) != (organization_id, subject_id):
            raise NotFound(
                "There is no such query.",
                code="no-such-query",
                remedy=f"Queries are forgotten {KEPT_S / 60:.0f} minutes after they were asked. Ask again.",
            )
        return found

    def remove(self, organization_id: int, subject_id: str, name: str) -> None:
        """Cancels it at the sources, unless somebody else waits for the same. Raises NotFound."""
        self.get(organization_id, subject_id, name)
        self._running.pop(name).release()

    def _expire(self) -> None:
        now_s = self._clock.monotonic_s()
        for name in [name for name, one in self._running.items() if one.is_stale(now_s)]:
            self._running.pop(name).release()
