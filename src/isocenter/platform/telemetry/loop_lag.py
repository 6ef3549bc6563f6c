"""How late the event loop comes to what it has to do: everybody waits so long when somebody holds it up."""

from __future__ import annotations

import asyncio

from isocenter.platform.telemetry.measures import Distribution

_BOUNDS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class LoopLag:
    """``every_s``: how often it looks; ``lag_s``: how many seconds late it was woken."""

    def __init__(self, every_s: float = 0.25) -> None:
        self._every_s = every_s
        self.lag_s = Distribution(_BOUNDS_S)

    async def watch(self) -> None:
        """Until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + self._every_s
            await asyncio.sleep(self._every_s)
            self.lag_s.add(max(loop.time() - due_s, 0.0))
