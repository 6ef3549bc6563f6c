"""What a server does once an interval by itself: retention and purging, then the sweep, which frees what they
let go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from isocenter.features.archive.deletion.purging import Purging
from isocenter.features.archive.retention import Retention
from isocenter.features.archive.sweep import OrphanSweep
from isocenter.kit.errors import IsocenterError
from isocenter.platform.telemetry import get_logger

log = get_logger(__name__)


class Housekeeping:
    """``tidy`` clears what crashes left half-written."""

    def __init__(
        self,
        retention: Retention,
        purging: Purging,
        sweep: OrphanSweep,
        tidy: Callable[[], Awaitable[None]],
        *,
        interval_s: float,
    ) -> None:
        self._retention = retention
        self._purging = purging
        self._sweep = sweep
        self._tidy = tidy
        self._interval_s = interval_s

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            await self.once()

    async def once(self) -> None:
        """What ails one part of it puts off that part alone."""
        parts = (
            ("Retention", self._retain),
            ("Purging", self._purge),
            ("Sweep", self._sweep_orphans),
            ("Tidying up", self._tidy),
        )
        for name, work in parts:
            try:
                await work()
            except IsocenterError as error:
                log.warning(f"{name} put off", reason=error.detail, remedy=error.remedy)

    async def _retain(self) -> None:
        report = await self._retention.run()
        if report.studies:
            log.info("Retention removed", studies=report.studies, instances=report.instances)

    async def _purge(self) -> None:
        report = await self._purging.run()
        if report.deletions:
            log.info("Purged what was deleted", deletions=report.deletions)

    async def _sweep_orphans(self) -> None:
        report = await self._sweep.run()
        log.info("Swept", examined=report.examined, removed=report.removed)
