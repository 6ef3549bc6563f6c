"""Whether objects are really here: their rows, and behind each the object with the right size and hash. After
such an answer (storage commitment) others delete their copies, so that nothing is believed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from enum import StrEnum

from isocenter.kit.errors import NotFound
from isocenter.platform.db import Database, Row, Sql, Work
from isocenter.platform.storage.encrypted import KeyDestroyed
from isocenter.platform.storage.interface import ObjectStore
from isocenter.platform.storage.sealing import ObjectDamaged

_READ_AT_ONCE = 4

FIND_HELD = Sql("""
    SELECT sop_instance_uid, sop_class_uid, object_key, size, header_size, sha256 FROM instance
    WHERE organization_id = :organization_id AND current = 1 AND sop_instance_uid IN :uids
""")


class Holding(StrEnum):
    HELD = "held"
    ABSENT = "absent"  # no such instance
    OTHER_CLASS = "other-class"  # there is one, of another SOP class
    DAMAGED = "damaged"  # the index knows it; the object is gone or is not what it was


async def holdings(
    database: Database, store: ObjectStore, organization_id: int, wanted: Sequence[tuple[str, str]]
) -> list[Holding]:
    """Of each pair of SOP Class and SOP Instance UID, in order; every object is read to its end.

    Raises Unavailable where database or store cannot tell now.
    """
    rows = await database.read(_find, organization_id, [instance for _, instance in wanted])
    places = asyncio.Semaphore(_READ_AT_ONCE)

    async def held(sop_class_uid: str, sop_instance_uid: str) -> Holding:
        row = rows.get(sop_instance_uid)
        if row is None:
            return Holding.ABSENT
        if row["sop_class_uid"] != sop_class_uid:
            return Holding.OTHER_CLASS
        async with places:
            return Holding.HELD if await _is_whole(store, row) else Holding.DAMAGED

    async with asyncio.TaskGroup() as group:
        looks = [group.create_task(held(*one)) for one in wanted]
    return [look.result() for look in looks]


async def _is_whole(store: ObjectStore, row: Row) -> bool:
    sha256, skip, size = hashlib.sha256(), row["header_size"], 0
    try:
        async for piece in store.stream(row["object_key"]):
            size += len(piece)
            if skip < len(piece):
                await asyncio.to_thread(sha256.update, memoryview(piece)[skip:])
            skip = max(0, skip - len(piece))
    except (NotFound, ObjectDamaged, KeyDestroyed):
        return False
    return bool(size == row["size"] and sha256.hexdigest() == row["sha256"])


def _find(organization_id: int, uids: list[str]) -> Work[dict[str, Row]]:
    rows = yield FIND_HELD(organization_id=organization_id, uids=uids)
    return {row["sop_instance_uid"]: row for row in rows}
