"""The change feed: what happened to objects, in order, for whoever reacts to it (DESIGN §4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from isocenter.features.archive import queries
from isocenter.features.archive.usage import Growth, Usage, advance
from isocenter.platform.db import Database, Work


@dataclass(frozen=True, slots=True)
class Told:
    """A change to append. UIDs are empty where it is of more than one object, or they could not be read."""

    kind: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    detail: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Change:
    """``number`` counts the organisation's changes from one, without ever skipping one that appears later:
    keep the last as a cursor."""

    number: int
    at_us: int
    kind: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    detail: dict[str, Any]


def append(organization_id: int, told: Sequence[Told], growth: Growth, now_us: int) -> Work[Usage]:
    """Append to the feed; ``growth`` is what the changes come to. The usage with it.

    Last in a transaction: whoever else changes this organisation's objects waits from here on until it ends.
    """
    newest, usage = yield from advance(organization_id, len(told), growth)
    yield queries.APPEND_TO_FEED.many(
        [
            {
                "organization_id": organization_id,
                "number": number,
                "now_us": now_us,
                "kind": one.kind,
                "study_instance_uid": one.study_instance_uid,
                "series_instance_uid": one.series_instance_uid,
                "sop_instance_uid": one.sop_instance_uid,
                "detail": orjson.dumps(one.detail).decode() if one.detail else "{}",
            }
            for number, one in enumerate(told, newest - len(told) + 1)
        ]
    )
    return usage


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
            row["number"],
            row["at_us"],
            row["kind"],
            row["study_instance_uid"],
            row["series_instance_uid"],
            row["sop_instance_uid"],
            orjson.loads(row["detail"]),
        )
        for row in rows
    ]
