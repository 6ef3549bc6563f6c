"""What a server does by itself with deletions whose grace is over (``deletions.py``)."""

from __future__ import annotations

from dataclasses import dataclass

from isocenter.features.archive.deletion.deletions import Deletions
from isocenter.features.archive.rounds import ClockJumps, all_organizations, to_its_end
from isocenter.kit.clock import Clock
from isocenter.platform.db import Database
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
        for organization_id in await all_organizations(self._database):
            await to_its_end(self._run_for(organization_id, report))
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
