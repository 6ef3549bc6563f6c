"""The change feed: what happened to objects, in order, for whoever reacts to it (DESIGN §4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from isocenter.features.archive import queries
from isocenter.platform.db import Database, Work


@dataclass(frozen=True, slots=True)
class Change:
    """``number`` ascends without ever skipping one that appears later: keep the last as a cursor."""

    number: int
    at_us: int
    kind: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    detail: dict[str, Any]


async def read_changes(
    database: Database, organization_id: int, *, after: int = 0, limit: int = 1000
) -> list[Change]:
    """The next changes after the cursor ``after``, at most ``limit``."""
    return await database.read(_read, organization_id, after, limit)


async def last_change(database: Database, organization_id: int) -> int:
    """The number of the latest change; 0 before the first."""
    return await database.read(_last, organization_id)


def _last(organization_id: int) -> Work[int]:
    rows = yield queries.LAST_CHANGE(organization_id=organization_id)
    return int(rows[0]["number"] or 0)


def _read(organization_id: int, after: int, limit: int) -> Work[list[Change]]:
    rows = yield queries.READ_FEED(organization_id=organization_id, after=after, limit=limit)
    return [
        Change(
            row["id"],
            row["at_us"],
            row["kind"],
            row["study_instance_uid"],
            row["series_instance_uid"],
            row["sop_instance_uid"],
            orjson.loads(row["detail"]),
        )
        for row in rows
    ]
