"""``isocenter storage check``: do index and store agree, and if not, what can be mended?

Looked for: rows whose object is gone, objects whose bytes are not what was stored, objects without a row,
counters that are off. What the check never does is delete an object or a row.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

from isocenter.features.archive.committer import BatchRefused
from isocenter.features.archive.entry import OutcomeKind, Source, Suspect
from isocenter.features.archive.ingest import Ingest
from isocenter.features.archive.patients.misfiled import find_misfiled, mend_misfiled
from isocenter.features.archive.policies import BatchPolicy
from isocenter.features.archive.recount import recount_series
from isocenter.features.archive.sweep import batches, find_referenced
from isocenter.features.archive.usage import Miscount, find_miscount, mend_miscount
from isocenter.kit.clock import Clock, microseconds
from isocenter.kit.errors import Busy, NotFound
from isocenter.platform.db import Database, Row, Sql, Work
from isocenter.platform.storage.encrypted import EncryptedStore, KeyDestroyed, sealed_name
from isocenter.platform.storage.interface import ObjectInfo, ObjectStore, OnDisk
from isocenter.platform.storage.sealing import ObjectDamaged

_PAGE = 500
_LISTED_MAX = 1000
_IN_FLIGHT = timedelta(minutes=10)
"""An object this young may belong to a sender that has not been answered yet."""

PAGE_OF_OBJECTS = Sql("""
    SELECT id, object_key, size, header_size, sha256, sop_instance_uid AS name FROM instance
    WHERE organization_id = :organization_id AND id > :after ORDER BY id LIMIT :limit
""")

PAGE_OF_QUARANTINE = Sql("""
    SELECT id, object_key, size, header_size, sha256, 'quarantine entry ' || public_id AS name FROM quarantine
    WHERE organization_id = :organization_id AND state = 'waiting' AND id > :after ORDER BY id LIMIT :limit
""")

PAGE_OF_DELETED = Sql("""
    SELECT id, object_key, size, header_size, sha256, 'deleted ' || sop_instance_uid AS name
    FROM deleted_object WHERE organization_id = :organization_id AND id > :after ORDER BY id LIMIT :limit
""")

FIND_WRONG_SERIES = Sql("""
    SELECT series.id FROM series
    LEFT JOIN (SELECT series_pk, count(*) AS held FROM instance
               WHERE organization_id = :organization_id AND current = 1 GROUP BY series_pk) AS counted
      ON counted.series_pk = series.id
    WHERE series.organization_id = :organization_id AND series.instance_count <> coalesce(counted.held, 0)
""")

FIND_SERIES_OF_WRONG_STUDIES = Sql("""
    SELECT series.id FROM series JOIN (
        SELECT study.id FROM study LEFT JOIN series AS held ON held.study_pk = study.id
        WHERE study.organization_id = :organization_id
        GROUP BY study.id, study.series_count, study.instance_count
        HAVING study.series_count <> count(held.id)
            OR study.instance_count <> coalesce(sum(held.instance_count), 0)) AS wrong
      ON wrong.id = series.study_pk
    WHERE series.organization_id = :organization_id
""")


@dataclass(slots=True)
class CheckReport:
    """Keys and UIDs are listed up to a thousand each; the counts are complete."""

    rows: int = 0
    objects: int = 0
    missing_count: int = 0
    missing: list[str] = field(default_factory=list)
    damaged_count: int = 0
    damaged: list[str] = field(default_factory=list)
    orphan_count: int = 0
    orphan_bytes: int = 0
    adopted: int = 0
    wrong_counters: int = 0
    misfiled_count: int = 0
    misfiled: list[str] = field(default_factory=list)
    """Studies that are not filed under who is left of whom their objects name."""
    miscounted: Miscount = field(default_factory=Miscount)
    """Of the organisation's usage."""
    repaired: list[str] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        return not (self.orphan_count or self.sick)

    @property
    def sick(self) -> bool:
        """More than orphans, which go by themselves."""
        wrong = self.wrong_counters or self.misfiled_count or self.miscounted
        return bool(self.missing_count or self.damaged_count or wrong)


class StorageCheck:
    def __init__(self, database: Database, store: ObjectStore, ingest: Ingest, clock: Clock) -> None:
        self._database = database
        self._store = store
        self._ingest = ingest
        self._clock = clock

    async def run(
        self,
        organization_id: int,
        *,
        verify_hashes: bool = True,
        repair: bool = False,
        adopt_orphans: bool = False,
        progress: Callable[[CheckReport], None] = lambda report: None,
    ) -> CheckReport:
        """Compare both sides of one organisation.

        ``repair`` sets counters, usage and whose studies are right and moves damaged objects aside (under
        ``damaged/``), so that sending them again heals them. ``adopt_orphans`` files objects without a row,
        as after restoring an older database, whatever the quota; it also brings back what was purged and
        not yet swept.
        """
        report = CheckReport()
        await self._check_rows(organization_id, verify_hashes, repair, report, progress)
        await self._check_objects(organization_id, adopt_orphans, report, progress)
        await self._check_counters(organization_id, repair, report)
        await self._check_patients(organization_id, repair, report)
        await self._check_usage(organization_id, repair, report)
        return report

    async def _check_rows(
        self,
        organization_id: int,
        verify_hashes: bool,
        repair: bool,
        report: CheckReport,
        progress: Callable[[CheckReport], None],
    ) -> None:
        for page in (PAGE_OF_OBJECTS, PAGE_OF_QUARANTINE, PAGE_OF_DELETED):
            after = 0
            while rows := await self._database.read(_page, organization_id, page, after):
                for row in rows:
                    report.rows += 1
                    await self._check_row(row, verify_hashes, repair, report)
                progress(report)
                after = rows[-1]["id"]

    async def _check_row(self, row: Row, verify_hashes: bool, repair: bool, report: CheckReport) -> None:
        key = row["object_key"]
        info = await self._store.stat(key)
        if info is None:
            report.missing_count += 1
            _list(report.missing, row["name"])
        elif info.size != row["size"] or (verify_hashes and not await self._is_intact(row)):
            report.damaged_count += 1
            _list(report.damaged, row["name"])
            if repair:
                await self._move_aside(key)
                _list(report.repaired, f"moved the damaged {key} aside: send the object again")

    async def _is_intact(self, row: Row) -> bool:
        """Whether the bytes are still those that the address names (``ingest.py``)."""
        sha256, header, header_size = hashlib.sha256(), hashlib.blake2b(digest_size=4), row["header_size"]
        position = 0
        try:
            async for piece in self._store.stream(row["object_key"]):
                in_header = max(0, min(len(piece), header_size - position))
                header.update(piece[:in_header])
                sha256.update(piece[in_header:])
                position += len(piece)
        except (NotFound, ObjectDamaged):
            return False
        address: str = row["object_key"]
        return sha256.hexdigest() == row["sha256"] and address.endswith(header.hexdigest())

    async def _move_aside(self, key: str) -> None:
        """The object under ``damaged/``, with its contents' digest: a key may be damaged more than once.

        What cannot be decrypted any more is kept as it lies in the store.
        """
        try:
            await self._copy_aside(self._store, key)
        except (ObjectDamaged, KeyDestroyed):
            assert isinstance(self._store, EncryptedStore)
            await self._copy_aside(self._store.inner, sealed_name(key))
        await self._store.delete(key)

    async def _copy_aside(self, store: ObjectStore, key: str) -> None:
        path = self._ingest.spool.new_path()
        digest = hashlib.blake2b(digest_size=8)
        try:
            with await asyncio.to_thread(path.open, "xb") as copy:
                async for piece in store.stream(key):
                    digest.update(piece)
                    await asyncio.to_thread(copy.write, piece)
            await store.put(f"damaged/{key}.{digest.hexdigest()}", OnDisk(path))
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def _check_objects(
        self,
        organization_id: int,
        adopt: bool,
        report: CheckReport,
        progress: Callable[[CheckReport], None],
    ) -> None:
        young = self._clock.now() - _IN_FLIGHT
        async for _, batch in batches(self._store, str(organization_id)):
            report.objects += len(batch)
            keys = [info.key for info in batch]
            referenced = await self._database.read(find_referenced, organization_id, keys)
            for info in batch:
                if info.key.startswith(f"{organization_id}/derived/"):
                    continue  # made of others and made again; what is out of use is the sweep's
                if info.key not in referenced and info.modified_at < young:
                    report.orphan_count += 1
                    report.orphan_bytes += info.size
                    if adopt and await self._adopt(organization_id, info):
                        report.adopted += 1
            progress(report)

    async def _adopt(self, organization_id: int, info: ObjectInfo) -> bool:
        # All or nothing: what cannot be filed stays the orphan that it is. Its bytes need no room any more.
        policies = replace(
            await self._ingest.policies.of(organization_id),
            batch=BatchPolicy.ALL_OR_NOTHING,
            quota_bytes=None,
        )
        source = Source("check", "adopted orphan")
        pieces = self._store.stream(info.key)
        received = await self._ingest.receive_all(organization_id, source, pieces, policies)
        if isinstance(received, Suspect):
            return False
        try:
            [outcome] = await self._ingest.commit(organization_id, [received], policies)
        except (BatchRefused, Busy):  # Busy: a sweep was faster
            return False
        return outcome.kind is OutcomeKind.STORED

    async def _check_counters(self, organization_id: int, repair: bool, report: CheckReport) -> None:
        wrong = await self._database.read(_find_wrong_counters, organization_id)
        report.wrong_counters = len(wrong)
        if wrong and repair:
            now_us = microseconds(self._clock.now())
            await self._database.write(recount_series, organization_id, wrong, now_us)
            _list(report.repaired, f"counted {len(wrong)} series again")

    async def _check_patients(self, organization_id: int, repair: bool, report: CheckReport) -> None:
        found = await self._database.read(find_misfiled, organization_id)
        report.misfiled_count = len(found)
        for row in found:
            _list(report.misfiled, row["study_instance_uid"])
        if found and repair:
            now_us = microseconds(self._clock.now())
            filed = await self._database.write(mend_misfiled, organization_id, found, now_us)
            _list(report.repaired, f"filed {filed} studies under their patients again")

    async def _check_usage(self, organization_id: int, repair: bool, report: CheckReport) -> None:
        report.miscounted = await self._database.read(find_miscount, organization_id)
        if report.miscounted and repair:
            await self._database.write(mend_miscount, organization_id, report.miscounted)
            _list(report.repaired, "counted again how much is kept")


def _list(listed: list[str], name: str) -> None:
    if len(listed) < _LISTED_MAX:
        listed.append(name)


def _page(organization_id: int, page: Sql, after: int) -> Work[list[Row]]:
    return (yield page(organization_id=organization_id, after=after, limit=_PAGE))


def _find_wrong_counters(organization_id: int) -> Work[list[int]]:
    series = yield FIND_WRONG_SERIES(organization_id=organization_id)
    in_studies = yield FIND_SERIES_OF_WRONG_STUDIES(organization_id=organization_id)
    return sorted({row[0] for row in series} | {row[0] for row in in_studies})
