"""The orphan sweep: removing objects that no row refers to.

Orphans are what crashes, cut connections, duplicates, deletions and replacements leave in the store. The
sweep is the only place that deletes objects, and it must never take one that is just being filed again:

- Only objects last put longer than a grace period ago are looked at; a put of bytes that are already there
  counts as one (``ObjectStore.put`` refreshes the time), and an object renewed since is not deleted.
- A victim is first marked in the database, by one sweep at a time. Whoever files an object looks for the mark
  in the same transaction, and has the sender try again when it is there (``filing.py``): between a store's
  look at an object's age and its deletion somebody may have put it once more.
- Only then is it looked up once more and deleted. Marks stay for half an hour, longer than anything between a
  put and its commit. They stand in nobody's way meanwhile: a put of what was deleted creates it anew, and
  filing that takes the mark away; an object that rows refer to is none of the sweep's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from isocenter.features.archive import queries
from isocenter.features.archive.filing import MARKS_KEPT_US
from isocenter.features.archive.rounds import all_organizations
from isocenter.kit.clock import Clock, microseconds
from isocenter.platform.db import Database, Work
from isocenter.platform.storage.interface import ObjectInfo, ObjectStore

_BATCH = 500


@dataclass(slots=True)
class SweepReport:
    examined: int = 0
    removed: int = 0
    removed_bytes: int = 0


class OrphanSweep:
    def __init__(self, database: Database, store: ObjectStore, clock: Clock, *, grace: timedelta) -> None:
        self._database = database
        self._store = store
        self._clock = clock
        self._grace = grace

    async def run(self) -> SweepReport:
        """Sweep the whole store once. Raises Unavailable when store or database are out of reach."""
        report = SweepReport()
        now = self._clock.now()
        await self._database.write_across(_forget_marks, microseconds(now) - MARKS_KEPT_US)
        known = set(await all_organizations(self._database))
        async for organization_id, batch in batches(self._store):
            report.examined += len(batch)
            if organization_id not in known:
                continue  # whose rows are not here (an older database was restored?): not ours to judge
            old = [info for info in batch if info.modified_at < now - self._grace]
            if old:
                await self._sweep(organization_id, old, now, report)
        return report

    async def _sweep(
        self, organization_id: int, old: list[ObjectInfo], now: datetime, report: SweepReport
    ) -> None:
        keys = [info.key for info in old]
        referenced = await self._database.read(find_referenced, organization_id, keys)
        orphans = [key for key in keys if key not in referenced]
        if not orphans:
            return
        marked = await self._database.write(_mark, organization_id, orphans, microseconds(self._clock.now()))
        referenced = await self._database.read(find_referenced, organization_id, sorted(marked))
        spared = list(referenced)
        for info in old:
            if info.key not in marked or info.key in referenced:
                continue
            if await self._store.delete(info.key, unmodified_since=now - self._grace):
                report.removed += 1
                report.removed_bytes += info.size
            else:
                spared.append(info.key)  # it was put again meanwhile
        if spared:
            await self._database.write(_unmark, organization_id, spared)


async def batches(store: ObjectStore, folder: str = "") -> AsyncIterator[tuple[int, list[ObjectInfo]]]:
    """Everything in the store that has an archive key (``{organisation}/…``), a few hundred at a time;
    ``folder``: of one organisation."""
    waiting: dict[int, list[ObjectInfo]] = {}
    async for info in store.list(folder):
        head, _, _ = info.key.partition("/")
        if not head.isdecimal():
            continue  # not the archive's: another feature's prefix
        batch = waiting.setdefault(int(head), [])
        batch.append(info)
        if len(batch) >= _BATCH:
            yield int(head), waiting.pop(int(head))
    for organization_id, batch in waiting.items():
        yield organization_id, batch


def find_referenced(organization_id: int, keys: list[str]) -> Work[set[str]]:
    """Those of the keys that an instance or a waiting quarantine entry refers to."""
    rows = yield queries.FIND_REFERENCED(organization_id=organization_id, keys=keys)
    return {row[0] for row in rows}


def _mark(organization_id: int, keys: list[str], now_us: int) -> Work[set[str]]:
    """The keys that are this sweep's to delete: those that no other has marked."""
    yield queries.LOCK_OUT_FILING(organization_id=organization_id)
    rows = yield queries.FIND_MARKED(organization_id=organization_id, keys=keys, after_us=0)
    others = {row[0] for row in rows}
    ours = set(keys) - others
    yield queries.MARK_FOR_SWEEP.many(
        [{"organization_id": organization_id, "object_key": key, "now_us": now_us} for key in sorted(ours)]
    )
    return ours


def _unmark(organization_id: int, keys: list[str]) -> Work[None]:
    yield queries.UNMARK_FOR_SWEEP(organization_id=organization_id, keys=keys)


def _forget_marks(before_us: int) -> Work[None]:
    yield queries.FORGET_OLD_MARKS(before_us=before_us)
