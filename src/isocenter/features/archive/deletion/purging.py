"""What a server does by itself with deletions whose grace is over (``deletions.py``)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from isocenter.features.archive.clock_jumps import ClockJumps
from isocenter.features.archive.deletion.deletions import Deletions
from isocenter.features.archive.queries import FIND_ORGANIZATIONS
from isocenter.kit.clock import Clock
from isocenter.platform.db import Database, Work
from isocenter.platform.security import Action, Recorder, Subject, SubjectKind, event_of


@dataclass(slots=True)
class PurgeReport:
    deletions: int = 0
    held_off: bool = False


class Purging:
    def __init__(self, database: Database, deletions: Deletions, clock: Clock, recorder: Recorder) -> None:
        self._database = database
        self._deletions = deletions
        self._recorder = recorder
        self._jumps = ClockJumps(clock, "purging")

    async def run(self) -> PurgeReport:
        """One round over all organisations; it holds off when the clock has jumped. Raises Unavailable,
        OutOfSpace, Busy; what was purged by then is in the audit trail."""
        report = PurgeReport()
        if self._jumps.happened():
            report.held_off = True
            return report
        for organization_id in await self._database.read_across(_organizations):
            # A server that stops cancels its round: what is being purged then is told all the same.
            round_of_one = asyncio.create_task(self._run_for(organization_id, report))
            try:
                await asyncio.shield(round_of_one)
            except asyncio.CancelledError:
                await asyncio.gather(round_of_one, return_exceptions=True)
                raise
        return report

    async def _run_for(self, organization_id: int, report: PurgeReport) -> None:
        for purged in await self._deletions.purge_due(organization_id, by="purge"):
            report.deletions += 1
            self._recorder.record(
                event_of(
                    Subject(SubjectKind.SERVICE, "purge", organization_id, frozenset(), "purge"),
                    Action.DELETE,
                    resource_kind="deletion",
                    resource_id=purged.id,
                    details={"settled": "purged", "reason": "grace is over"},
                )
            )
        await self._recorder.settled()


def _organizations() -> Work[list[int]]:
    rows = yield FIND_ORGANIZATIONS()
    return sorted(row[0] for row in rows)
