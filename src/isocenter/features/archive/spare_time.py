"""Work that can wait gives way to what somebody waits for: it rests while the process is busy with that.

    async with spare_time.turn():
        ...  # one piece: some milliseconds

Without it, making the thumbnails of a large import trebled what a search cost and when it was answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

_REST_S_MIN = 0.02
_BUSY = 0.4
"""Of one core: what the process may use while we rest and still count as having time to spare."""
_RESTS_MAX = 19
"""For each second of work, at the least a twentieth of the time is ours: it is late, never starved."""


class SpareTime:
    """What a process has of it, for all that wants it: one piece at a time.

    ``cpu_s``: seconds that all threads of the process have used; ``now_s``: seconds that never run backwards.
    """

    def __init__(
        self,
        *,
        cpu_s: Callable[[], float] = time.process_time,
        now_s: Callable[[], float] = time.monotonic,
        rest: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._cpu_s = cpu_s
        self._now_s = now_s
        self._rest = rest
        self._turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """For one piece of work; it ends when the process has had time to spare again."""
        async with self._turn:
            begun_s = self._now_s()
            yield
            await self._give_way(self._now_s() - begun_s)

    async def _give_way(self, worked_s: float) -> None:
        end_s = self._now_s() + max(worked_s * _RESTS_MAX, _REST_S_MIN)
        while (resting_since_s := self._now_s()) < end_s:
            used_s = self._cpu_s()
            await self._rest(max(worked_s, _REST_S_MIN))
            if self._cpu_s() - used_s < _BUSY * (self._now_s() - resting_since_s):
                return
