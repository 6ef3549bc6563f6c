"""Restoring what was deleted: each stored object takes the road by which everything comes in (ADR 0022).

So what has been sent again meanwhile is met as what it is: the same bytes are a duplicate; other bytes under
the same SOP Instance UID stay, while the deleted ones go on waiting. A row that waits goes only once its
object is in the index: whenever this ends in the middle, doing it again ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Literal

import orjson

from isocenter.dicom.validation import Strictness
from isocenter.features.archive.committer import BatchRefused
from isocenter.features.archive.deletion import queries as statements
from isocenter.features.archive.deletion.deletions import find_deletion, lock_waiting, settle
from isocenter.features.archive.entry import OutcomeKind, Received, Source, Suspect
from isocenter.features.archive.ingest import Ingest
from isocenter.features.archive.policies import BatchPolicy, ConflictPolicy, Policies
from isocenter.features.archive.usage import Growth, advance
from isocenter.kit.clock import Clock, microseconds
from isocenter.kit.errors import Busy, Conflict, NotFound
from isocenter.platform.db import Database, Row, Work
from isocenter.platform.storage.sealing import ObjectDamaged

DOOR = "restore"
"""What an object's row says until what it said before is given back to it."""

_AT_ONCE = 8
_BUSY_ATTEMPTS = 5


Obstacle = Literal["in-the-way", "refused", "lost"]


@dataclass(frozen=True, slots=True)
class NotRestored:
    """An object that goes on waiting, and why: ``in-the-way`` (another object has its UID now), ``refused``
    (the archive does not take it under its rules of now), ``lost`` (its bytes are not there or not whole)."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    reason: Obstacle
    detail: str


@dataclass(slots=True)
class Restored:
    """``objects`` are back in the index; ``complete``: nothing of the deletion waits any more."""

    objects: int = 0
    complete: bool = False
    waiting: list[NotRestored] = field(default_factory=list)


class Restoring:
    def __init__(self, database: Database, ingest: Ingest, clock: Clock) -> None:
        self._database = database
        self._ingest = ingest
        self._clock = clock

    async def restore(self, organization_id: int, deletion_id: str, *, by: str = "") -> Restored:
        """All of a deletion that can come back, whatever the quota.

        Raises NotFound, Conflict where it was settled before, Unavailable, OutOfSpace; what came back by then
        is back, and restoring again goes on there.
        """
        rows = await self._database.read(_objects, organization_id, deletion_id)
        policies = replace(
            await self._ingest.policies.of(organization_id),
            strictness=Strictness.LENIENT,
            accept_unknown_sop_classes=True,
            batch=BatchPolicy.ALL_OR_NOTHING,
            quota_bytes=None,
        )
        restored = Restored()
        places = asyncio.Semaphore(_AT_ONCE)

        async def restore_one(versions: list[Row]) -> None:
            async with places:
                await self._restore_versions(organization_id, versions, policies, restored)

        by_uid = groupby(rows, key=lambda row: str(row["sop_instance_uid"]))
        tasks = [asyncio.create_task(restore_one(list(versions))) for _, versions in by_uid]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        now_us = microseconds(self._clock.now())
        restored.complete = await self._database.write(_finish, organization_id, deletion_id, by, now_us)
        restored.waiting.sort(key=lambda one: one.sop_instance_uid)
        return restored

    async def _restore_versions(
        self, organization_id: int, versions: Sequence[Row], policies: Policies, restored: Restored
    ) -> None:
        """Of one SOP Instance UID, the earliest first: what was kept beside each other is so again."""
        back: list[Row] = []
        for row in versions:
            conflict = ConflictPolicy.REJECT
            if bool(back) and await self._database.read(
                _is_filed_by_us, organization_id, row["sop_instance_uid"]
            ):
                conflict = ConflictPolicy.KEEP_BOTH
            problem = await self._restore(organization_id, row, replace(policies, conflict=conflict))
            if problem is None:
                back.append(row)
            else:
                restored.waiting.append(problem)
        if back:
            await self._database.write(_give_back, organization_id, back)
            restored.objects += len(back)

    async def _restore(self, organization_id: int, row: Row, policies: Policies) -> NotRestored | None:
        for attempt in range(1, _BUSY_ATTEMPTS + 1):
            try:
                return await self._file(organization_id, row, policies)
            except Busy as error:  # the sweep has a copy of it in its hands, or the queue is full
                if attempt == _BUSY_ATTEMPTS:
                    raise
                await asyncio.sleep(error.retry_after_s or 1)
            except (NotFound, ObjectDamaged):
                break
        return _waits(row, "lost", "Its bytes are not in the store any more, or not whole.")

    async def _file(self, organization_id: int, row: Row, policies: Policies) -> NotRestored | None:
        received = await self._received(organization_id, row, policies)
        if isinstance(received, Suspect):
            return _waits(row, "refused", " ".join(problem.detail for problem in received.problems))
        try:
            [outcome] = await self._ingest.commit(organization_id, [received], policies)
        except BatchRefused as refused:
            outcome = refused.outcomes[0]
        if outcome.kind.accepted:
            return None
        detail = " ".join(problem.detail for problem in outcome.problems)
        in_the_way = outcome.kind is OutcomeKind.REJECTED
        return _waits(row, "in-the-way" if in_the_way else "refused", detail)

    async def _received(self, organization_id: int, row: Row, policies: Policies) -> Received:
        pieces = self._ingest.store.stream(row["object_key"])
        received = await self._ingest.receive_all(organization_id, Source(DOOR), pieces, policies)
        if received.stored.sha256 != row["sha256"]:
            raise ObjectDamaged(f"the object {row['object_key']} is not what was stored")
        return received


def _waits(row: Row, reason: Obstacle, detail: str) -> NotRestored:
    return NotRestored(
        row["study_instance_uid"], row["series_instance_uid"], row["sop_instance_uid"], reason, detail
    )


def _objects(organization_id: int, deletion_id: str) -> Work[list[Row]]:
    row = yield from find_deletion(organization_id, deletion_id)
    if row["state"] != "waiting":
        raise Conflict(f"Deletion {deletion_id} was {row['state']} before.", code="already-settled")
    return (yield statements.LIST_OBJECTS(organization_id=organization_id, deletion_pk=row["id"]))


def _is_filed_by_us(organization_id: int, sop_instance_uid: str) -> Work[bool]:
    return bool(
        (
            yield statements.FIND_FILED(
                organization_id=organization_id, sop_instance_uid=sop_instance_uid, filed_by=DOOR
            )
        )
    )


def _give_back(organization_id: int, rows: Sequence[Row]) -> Work[None]:
    """The objects are in the index: they wait no longer, and their rows say again what they said."""
    growth = Growth()
    for row in rows:
        kept = orjson.loads(row["instance"])
        yield statements.GIVE_BACK(
            organization_id=organization_id,
            sop_instance_uid=row["sop_instance_uid"],
            object_key=row["object_key"],
            filed_by=DOOR,
            received_sha256=kept["received_sha256"],
            received_transfer_syntax_uid=kept["received_transfer_syntax_uid"],
            door=kept["door"],
            peer=kept["peer"],
            received_at_us=kept["received_at_us"],
            duplicate_count=kept["duplicate_count"],
        )
        for removed in (yield statements.REMOVE_OBJECT(organization_id=organization_id, id=row["id"])):
            growth.take(removed["size"])  # none where two restore at once, or it was purged meanwhile
    if growth.objects:
        yield statements.TAKE_FROM_DELETION(
            organization_id=organization_id,
            id=rows[0]["deletion_pk"],
            objects=-growth.objects,
            bytes=-growth.bytes,
        )
        yield from advance(organization_id, 0, growth)


def _finish(organization_id: int, deletion_id: str, by: str, now_us: int) -> Work[bool]:
    pk = yield from lock_waiting(organization_id, deletion_id)
    [waiting] = yield statements.COUNT_OBJECTS(organization_id=organization_id, deletion_pk=pk)
    if waiting["objects"]:
        return False
    yield from settle(organization_id, pk, "restored", by, now_us)
    return True
