"""An archive on a folder and a database of its own, small objects to put into it, and what must always hold.

What must hold is looked up with SQL written here, not with the archive's own check: the two prove each other.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from isocenter.dicom.validation import Strictness
from isocenter.features.archive.check import StorageCheck
from isocenter.features.archive.committer import GroupCommitter
from isocenter.features.archive.deletion.deleting import Scope
from isocenter.features.archive.deletion.deletions import Deletions
from isocenter.features.archive.entry import Declared, Outcome, Received, Source
from isocenter.features.archive.ingest import Ingest, Reception
from isocenter.features.archive.policies import BatchPolicy, ConflictPolicy, Policies, PolicyBook
from isocenter.features.archive.presented import PresentingStore
from isocenter.features.archive.quarantine import Quarantine
from isocenter.features.archive.spool import Spool
from isocenter.features.archive.sweep import OrphanSweep
from isocenter.kit.clock import Clock, SystemClock
from isocenter.platform.db import Database, composed, open_database
from isocenter.platform.storage.interface import ObjectStore
from isocenter.platform.storage.local import LocalStore

ORGANIZATION = 1
SOURCE = Source("stow", "tester")
EXPLICIT = "1.2.840.10008.1.2.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
_LONG_VRS = frozenset({"OB", "OW", "SQ", "UN", "UT"})
_PADS = {"UI": b"\0", "OB": b"\0", "OW": b"\0", "UN": b"\0"}


def element(tag: int, vr: str, value: bytes | str) -> bytes:
    """One explicit little-endian element, padded to even length."""
    raw = value.encode("latin-1") if isinstance(value, str) else value
    if len(raw) % 2:
        raw += _PADS.get(vr, b" ")
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    length = struct.pack("<HI", 0, len(raw)) if vr in _LONG_VRS else struct.pack("<H", len(raw))
    return head + length + raw


@dataclass(frozen=True)
class Image:
    """What a test says of an object; the rest is that of a small CT image. ``None`` leaves an element out."""

    sop: str = "1.2.3.1.1.1"
    series: str = "1.2.3.1.1"
    study: str = "1.2.3.1"
    patient_id: str | bytes | None = "P1"
    name: str | bytes | None = "DOE^JANE"
    issuer: str | None = None
    birth_date: str | None = "19700101"
    sex: str | None = "F"
    modality: str | None = "CT"
    sop_class: str | None = CT
    description: str | None = None
    pixels: bytes = b"\1\2\3\4"
    more: tuple[tuple[int, str, bytes | str], ...] = ()

    def but(self, **changes: Any) -> Image:
        return replace(self, **changes)

    @property
    def data_set(self) -> bytes:
        elements: dict[int, tuple[str, bytes | str | None]] = {
            0x00080016: ("UI", self.sop_class),
            0x00080018: ("UI", self.sop),
            0x00080020: ("DA", "20260101"),
            0x00080060: ("CS", self.modality),
            0x00081030: ("LO", self.description),
            0x00100010: ("PN", self.name),
            0x00100020: ("LO", self.patient_id),
            0x00100021: ("LO", self.issuer),
            0x00100030: ("DA", self.birth_date),
            0x00100040: ("CS", self.sex),
            0x0020000D: ("UI", self.study),
            0x0020000E: ("UI", self.series),
            0x00200013: ("IS", "1"),
            0x00280010: ("US", struct.pack("<H", 1)),
            0x00280011: ("US", struct.pack("<H", min(65535, max(1, len(self.pixels) // 2)))),
            0x7FE00010: ("OW", self.pixels),
        }
        elements |= {tag: (vr, value) for tag, vr, value in self.more}
        return b"".join(
            element(tag, vr, value) for tag, (vr, value) in sorted(elements.items()) if value is not None
        )

    @property
    def file(self) -> bytes:
        return part10(self.data_set, self.sop, self.sop_class or CT)

    @property
    def declared(self) -> Declared:
        return Declared(self.sop_class or CT, self.sop, EXPLICIT)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data_set).hexdigest()


def part10(data_set: bytes, sop: str = "1.2.3.1.1.1", sop_class: str = CT, syntax: str = EXPLICIT) -> bytes:
    group = (
        element(0x00020001, "OB", b"\0\1")
        + element(0x00020002, "UI", sop_class)
        + element(0x00020003, "UI", sop)
        + element(0x00020010, "UI", syntax)
        + element(0x00020012, "UI", "1.2.3.99")
    )
    return bytes(128) + b"DICM" + element(0x00020000, "UL", struct.pack("<I", len(group))) + group + data_set


@dataclass
class TestArchive:
    """One process's share of an archive. Several may be opened on one database and one folder."""

    __test__ = False

    database: Database
    store: ObjectStore
    leaving: PresentingStore
    spool: Spool
    committer: GroupCommitter
    policies: PolicyBook
    ingest: Ingest
    quarantine: Quarantine
    check: StorageCheck
    clock: Clock

    def sweep(self, grace: timedelta = timedelta(0)) -> OrphanSweep:
        return OrphanSweep(self.database, self.store, self.clock, grace=grace)

    async def receive(
        self,
        content: bytes,
        declared: Declared | None = None,
        *,
        source: Source = SOURCE,
        piece_bytes: int = 1 << 20,
        to: int = ORGANIZATION,
    ) -> Received:
        return await fill(self.ingest.receive(to, source, declared), content, piece_bytes)

    async def send(self, *images: Image | bytes, to: int = ORGANIZATION) -> list[Outcome]:
        """The images as one batch of files; plain bytes go as they are."""
        received = [await self.receive(one.file if isinstance(one, Image) else one, to=to) for one in images]
        return await self.ingest.commit(to, received)

    async def send_one(self, image: Image | bytes, to: int = ORGANIZATION) -> Outcome:
        [outcome] = await self.send(image, to=to)
        return outcome

    async def c_store(self, image: Image) -> Outcome:
        received = await self.receive(image.data_set, image.declared, source=Source("dimse", "SCANNER"))
        [outcome] = await self.ingest.commit(ORGANIZATION, [received])
        return outcome

    async def rows(self, text: str, **params: Any) -> list[dict[str, Any]]:
        def work() -> Any:
            return (yield composed(text)(**params))

        return [dict(row) for row in await self.database.read_across(work)]

    async def execute(self, text: str, **params: Any) -> None:
        def work() -> Any:
            yield composed(text)(**params)

        await self.database.write_across(work)

    async def add_organization(self, slug: str) -> int:
        """Another organisation; its id."""
        text = "INSERT INTO organization (slug, name, created_at_us) VALUES (:slug, :slug, 0) RETURNING id"

        def work() -> Any:
            return (yield composed(text)(slug=slug))[0][0]

        made: int = await self.database.write_across(work)
        return made

    async def one(self, text: str, **params: Any) -> Any:
        [row] = await self.rows(text, **params)
        return next(iter(row.values()))

    async def damage(self, image: Image) -> None:
        """Its stored object (kept in a folder): the length of the first element runs over the whole."""
        key = await self.one("SELECT object_key FROM instance WHERE sop_instance_uid = :uid", uid=image.sop)
        path = self.store.local_path(key)
        assert path is not None
        content = bytearray(path.read_bytes())
        at = content.index(image.data_set[:8])
        content[at + 6 : at + 8] = b"\xff\xff"
        path.chmod(0o600)
        path.write_bytes(content)

    async def keys(self) -> set[str]:
        return {info.key async for info in self.store.list()}


async def delete_for_good(
    database: Database,
    clock: Clock,
    organization_id: int,
    study: str,
    *,
    series: str = "",
    instance: str = "",
) -> int:
    """Deleted and purged, as where an organisation keeps nothing of what it deletes."""
    deletions = Deletions(database, clock)
    deleted = await deletions.delete(organization_id, Scope(study, series, instance))
    if deleted.deletion:
        await deletions.purge(organization_id, deleted.deletion)
    return deleted.instances


async def fill(reception: Reception, content: bytes, piece_bytes: int = 1 << 20) -> Received:
    try:
        for start in range(0, len(content), piece_bytes):
            waiting = reception.write(memoryview(content)[start : start + piece_bytes])
            if waiting is not None:
                await waiting
    except BaseException:
        await reception.abort()
        raise
    return await reception.finish()


@asynccontextmanager
async def opened(
    url: str,
    folder: Path,
    *,
    store: ObjectStore | None = None,
    clock: Clock | None = None,
    conflict: ConflictPolicy = ConflictPolicy.REJECT,
    batch: BatchPolicy = BatchPolicy.ACCEPT_VALID,
    strictness: Strictness = Strictness.STANDARD,
    accept_unknown_sop_classes: bool = False,
    memory_budget_bytes: int = 64 << 20,
    threshold_bytes: int = 8 << 20,
    min_free_bytes: int = 0,
    object_bytes_max: int | None = None,
    waiting_max: int = 10_000,
) -> AsyncIterator[TestArchive]:
    """An archive as ``isocenter serve`` composes it."""
    clock = clock or SystemClock()
    database = await open_database(url, migrate=False)
    store = store or LocalStore(folder / "objects")
    spool = Spool(
        folder / "spool",
        memory_budget_bytes=memory_budget_bytes,
        threshold_bytes=threshold_bytes,
        min_free_bytes=min_free_bytes,
    )
    spool.prepare()
    committer = GroupCommitter(database, clock, waiting_max=waiting_max)
    policies = PolicyBook(database, Policies(conflict, batch, strictness, accept_unknown_sop_classes), clock)
    ingest = Ingest(store, spool, committer, policies, object_bytes_max=object_bytes_max)
    try:
        yield TestArchive(
            database,
            store,
            PresentingStore(store),
            spool,
            committer,
            policies,
            ingest,
            Quarantine(database, ingest, clock),
            StorageCheck(database, store, ingest, clock),
            clock,
        )
    finally:
        await committer.close()
        spool.close()
        await store.close()
        await database.close()


async def broken_promises(archive: TestArchive) -> list[str]:
    """What does not hold of index and store; empty for a sound archive."""
    broken: list[str] = []
    for table in ("instance", "quarantine", "deleted_object"):
        waiting = " WHERE state = 'waiting'" if table == "quarantine" else ""
        for row in await archive.rows(f"SELECT object_key, size, header_size, sha256 FROM {table}{waiting}"):
            broken += await _object_problems(archive, table, row)
    broken += await _feed_problems(archive)
    broken += await _usage_problems(archive)
    for text, what in _COUNTERS:
        broken += [f"{what}: {row}" for row in await archive.rows(text)]
    return broken


async def _object_problems(archive: TestArchive, table: str, row: dict[str, Any]) -> Sequence[str]:
    if await archive.store.stat(row["object_key"]) is None:
        return [f"{table} row without object: {row['object_key']}"]
    content = await archive.store.get(row["object_key"])
    if len(content) != row["size"]:
        return [f"{table} object of another size: {row['object_key']}"]
    if hashlib.sha256(content[row["header_size"] :]).hexdigest() != row["sha256"]:
        return [f"{table} object with other bytes: {row['object_key']}"]
    return []


async def _feed_problems(archive: TestArchive) -> Sequence[str]:
    """Each organisation counts its changes from one, and no number is missing: none can appear later."""
    numbers: dict[int, list[int]] = {}
    for row in await archive.rows("SELECT organization_id, number FROM change_feed ORDER BY number"):
        numbers.setdefault(row["organization_id"], []).append(row["number"])
    totals = await archive.rows("SELECT organization_id, changes FROM archive_total WHERE changes > 0")
    counted = {row["organization_id"]: list(range(1, row["changes"] + 1)) for row in totals}
    return [] if numbers == counted else [f"numbers of changes are {numbers}, counted were {counted}"]


async def _usage_problems(archive: TestArchive) -> Sequence[str]:
    """What is counted is what is there, of each organisation."""
    there: dict[int, tuple[int, int]] = {}
    for table in ("instance", "quarantine WHERE state = 'waiting'", "deleted_object"):
        for row in await archive.rows(f"SELECT organization_id, size FROM {table}"):
            objects, size = there.get(row["organization_id"], (0, 0))
            there[row["organization_id"]] = (objects + 1, size + row["size"])
    totals = await archive.rows("SELECT organization_id, objects, bytes FROM archive_total")
    counted = {row["organization_id"]: (row["objects"], row["bytes"]) for row in totals}
    wrong = {one for one in there | counted if there.get(one, (0, 0)) != counted.get(one, (0, 0))}
    return [f"organisation {one} keeps {there.get(one)}, counted {counted.get(one)}" for one in wrong]


_COUNTERS = (
    (
        "SELECT id, objects FROM deletion WHERE objects <> CASE WHEN state <> 'waiting' THEN 0 ELSE "
        "(SELECT count(*) FROM deleted_object WHERE deletion_pk = deletion.id) END",
        "deletion counts wrongly",
    ),
    (
        "SELECT study.id, patient_pk FROM study JOIN patient told ON told.id = study.told_patient_pk "
        "WHERE patient_pk <> coalesce(told.survivor_pk, told.id)",
        "study of another patient than whom its objects name",
    ),
    (
        "SELECT patient.id FROM patient JOIN patient AS next ON next.id = patient.merged_into_pk "
        "WHERE patient.survivor_pk <> coalesce(next.survivor_pk, next.id)",
        "merged patient follows another survivor",
    ),
    (
        "SELECT id, instance_count FROM series WHERE instance_count <> (SELECT count(*) FROM instance "
        "WHERE instance.series_pk = series.id AND current = 1)",
        "series counts wrongly",
    ),
    (
        "SELECT id, series_count FROM study WHERE series_count <> "
        "(SELECT count(*) FROM series WHERE series.study_pk = study.id)",
        "study counts series wrongly",
    ),
    (
        "SELECT id, instance_count FROM study WHERE instance_count <> (SELECT count(*) FROM instance "
        "JOIN series ON series.id = instance.series_pk WHERE series.study_pk = study.id AND current = 1)",
        "study counts instances wrongly",
    ),
    (
        "SELECT id FROM series WHERE NOT EXISTS (SELECT 1 FROM instance WHERE series_pk = series.id)",
        "empty series",
    ),
    ("SELECT id FROM study WHERE NOT EXISTS (SELECT 1 FROM series WHERE study_pk = study.id)", "empty study"),
    (
        "SELECT id FROM patient WHERE NOT EXISTS (SELECT 1 FROM study WHERE patient_pk = patient.id) "
        "AND survivor_pk IS NULL AND NOT EXISTS "
        "(SELECT 1 FROM patient merged WHERE merged.survivor_pk = patient.id)",
        "patient without study",
    ),
    (
        "SELECT organization_id, sop_instance_uid FROM instance GROUP BY organization_id, sop_instance_uid "
        "HAVING sum(current) <> 1",
        "not one current version",
    ),
)
