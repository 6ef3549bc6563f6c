"""What a server does by itself, again and again, for all organisations."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from isocenter.features.archive.queries import FIND_ORGANIZATIONS
from isocenter.kit.clock import Clock
from isocenter.platform.db import Database, Work
from isocenter.platform.telemetry import get_logger

log = get_logger(__name__)

JUMP_S = 86_400.0
"""So far the wall clock may run ahead of the monotonic one between two looks."""


class ClockJumps:
    """A wall clock that was set wrong must not remove anything by what it says. From one round of some work
    to its next; ``work`` is what the log calls it."""

    def __init__(self, clock: Clock, work: str) -> None:
        self._clock = clock
        self._work = work
        self._wall, self._monotonic_s = clock.now(), clock.monotonic_s()

    def happened(self) -> bool:
        """Whether it has jumped ahead since the last look."""
        wall, monotonic_s = self._clock.now(), self._clock.monotonic_s()
        ahead_s = (wall - self._wall).total_seconds() - (monotonic_s - self._monotonic_s)
        self._wall, self._monotonic_s = wall, monotonic_s
        if ahead_s <= JUMP_S:
            return False
        log.warning(
            f"The clock has jumped: {self._work} removes nothing in this round",
            ahead_days=round(ahead_s / JUMP_S, 1),
            remedy="If the date is wrong, set it right before the next round.",
        )
        return True


async def all_organizations(database: Database) -> list[int]:
    """Their ids, in order."""
    return await database.read_across(_organizations)


async def to_its_end(step: Coroutine[Any, Any, None]) -> None:
    """A server that stops cancels its round: the step in hand is finished, and told to the trail, all the
    same."""
    task = asyncio.create_task(step)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


def _organizations() -> Work[list[int]]:
    rows = yield FIND_ORGANIZATIONS()
    return sorted(row[0] for row in rows)
