"""The worklist's change feed: what was scheduled, claimed, performed, in order, for whoever reacts to it."""

from __future__ import annotations

from dataclasses import dataclass

from isocenter.features.worklist import queries
from isocenter.platform.db import Database, Work


@dataclass(frozen=True, slots=True)
class WorklistChange:
    """``number`` ascends without ever skipping one that appears later. ``kind``: workitem, worklist-item,
    performed-step; ``uid``: its own, or ``study UID/step ID`` of a worklist item."""

    number: int
    at_us: int
    kind: str
    uid: str
    state: str


async def read_changes(
    database: Database, organization_id: int, *, after: int = 0, limit: int = 1000
) -> list[WorklistChange]:
    return await database.read(_read, organization_id, after, limit)


def _read(organization_id: int, after: int, limit: int) -> Work[list[WorklistChange]]:
    rows = yield queries.READ_CHANGES(organization_id=organization_id, after=after, limit=limit)
    return [WorklistChange(row["id"], row["at_us"], row["kind"], row["uid"], row["state"]) for row in rows]
