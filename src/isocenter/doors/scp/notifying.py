"""Who is told of studies that have come to rest: the archive, and the destinations that want to know."""

from __future__ import annotations

from dataclasses import dataclass

from isocenter.doors.scp.outgoing import Outgoing
from isocenter.features.archive.changes import last_change, read_changes
from isocenter.features.archive.entry import OutcomeKind
from isocenter.features.archive.selection import Selection, select_instances
from isocenter.features.availability.notices import Notices
from isocenter.features.availability.notifier import Arrived, AvailabilityNotifier, Available, Listener
from isocenter.kit.clock import Clock
from isocenter.platform.db import Database
from isocenter.platform.security import Recorder

_ARRIVALS = frozenset({OutcomeKind.STORED, OutcomeKind.REPLACED, OutcomeKind.KEPT_BOTH})


def availability_notifier(
    database: Database, clock: Clock, outgoing: Outgoing, recorder: Recorder
) -> AvailabilityNotifier:
    async def listeners() -> list[Listener]:
        told = await outgoing.destinations.told_of_studies()
        return [Listener(of, one.title, one.availability_after_s or 0) for of, one in told]

    return AvailabilityNotifier(
        Notices(database, clock),
        _Archive(database),
        listeners,
        outgoing.association,
        recorder,
        ae_title=outgoing.ae_title,
    )


@dataclass(frozen=True, slots=True)
class _Archive:
    database: Database

    async def last_change(self, organization_id: int) -> int:
        return await last_change(self.database, organization_id)

    async def arrived(self, organization_id: int, after: int, limit: int) -> tuple[int, list[Arrived]]:
        changes = await read_changes(self.database, organization_id, after=after, limit=limit)
        arrived = [
            Arrived(one.number, one.study_instance_uid, one.at_us) for one in changes if one.kind in _ARRIVALS
        ]
        return (changes[-1].number if changes else after), arrived

    async def available(self, organization_id: int, study_instance_uid: str) -> list[Available]:
        selection = Selection(studies=(study_instance_uid,))
        found = await select_instances(self.database, organization_id, selection)
        return [Available(one.series_instance_uid, one.sop_class_uid, one.sop_instance_uid) for one in found]
