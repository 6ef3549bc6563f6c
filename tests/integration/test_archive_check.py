"""``storage check`` finds what index and store disagree about, and mends what can be mended."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from isocenter.features.archive.changes import read_changes
from isocenter.features.archive.check import CheckReport, StorageCheck
from isocenter.features.archive.entry import OutcomeKind
from isocenter.features.archive.patients.identity import PatientIdentity
from isocenter.features.archive.patients.merges import PatientMerges
from isocenter.features.archive.policies import BatchPolicy
from isocenter.kit.clock import ManualClock
from isocenter.platform.storage.memory import MemoryStore
from services.archive import ORGANIZATION, Image, TestArchive, broken_promises, opened
from services.schema import fresh_url

IMAGES = [Image(sop=f"1.2.3.{n}", pixels=bytes([n]) * 100) for n in range(6)]
BAD = Image(sop="1.2.9", modality=None)
KIND = OutcomeKind


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def archive(url: str, tmp_path: Path) -> AsyncIterator[TestArchive]:
    async with opened(url, tmp_path) as made:
        await made.send(*IMAGES, BAD)
        yield made


async def check(archive: TestArchive, **options: Any) -> CheckReport:
    return await archive.check.run(ORGANIZATION, **options)


def file_of(archive: TestArchive, key: str) -> Path:
    path = archive.store.local_path(key)
    assert path is not None
    return path


async def key_of(archive: TestArchive, sop: str) -> str:
    key: str = await archive.one("SELECT object_key FROM instance WHERE sop_instance_uid = :sop", sop=sop)
    return key


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "cut short":
        del content[-7:]
    else:
        content[{"in the header": 200, "in the data set": -7}[how]] ^= 1
    path.write_bytes(content)


async def test_a_sound_archive_is_healthy(archive: TestArchive):
    told: list[int] = []
    report = await check(archive, progress=lambda report: told.append(report.rows))
    assert report.healthy
    assert (report.rows, report.objects) == (7, 7)
    assert told[-1] == 7


@pytest.mark.parametrize("sop", [IMAGES[2].sop, "quarantine"])
async def test_a_missing_object_is_named_and_heals_when_it_is_sent_again(archive: TestArchive, sop: str):
    quarantined = sop == "quarantine"
    key = (
        await archive.one("SELECT object_key FROM quarantine") if quarantined else await key_of(archive, sop)
    )
    file_of(archive, key).unlink()
    report = await check(archive)
    assert (report.missing_count, report.healthy) == (1, False)
    [name] = report.missing
    assert name.startswith("quarantine entry" if quarantined else sop)
    await archive.send(*IMAGES, BAD)
    assert (await check(archive)).healthy
    assert await broken_promises(archive) == []


@pytest.mark.parametrize("how", ["cut short", "in the header", "in the data set"])
async def test_damage_is_found_moved_aside_and_healed(archive: TestArchive, how: str):
    key = await key_of(archive, IMAGES[1].sop)
    damage(file_of(archive, key), how)
    unverified = await check(archive, verify_hashes=False)
    assert unverified.damaged_count == (how == "cut short")
    report = await check(archive)
    assert (report.damaged_count, report.damaged, report.repaired) == (1, [IMAGES[1].sop], [])
    repaired = await check(archive, repair=True)
    assert len(repaired.repaired) == 1
    assert (await check(archive)).missing_count == 1
    assert (await archive.send_one(IMAGES[1])).kind is KIND.DUPLICATE
    assert (await check(archive)).healthy
    aside = [found async for found in archive.store.list("damaged")]
    assert len(aside) == 1
    assert list(archive.spool.folder.iterdir()) == []


async def test_the_same_object_may_be_damaged_twice(archive: TestArchive):
    key = await key_of(archive, IMAGES[1].sop)
    for how in ("cut short", "in the data set", "cut short"):
        damage(file_of(archive, key), how)
        assert len((await check(archive, repair=True)).repaired) == 1
        await archive.send_one(IMAGES[1])
    assert (await check(archive)).healthy
    assert len([found async for found in archive.store.list("damaged")]) == 2


async def test_orphans_are_counted_and_those_in_flight_are_not(url: str, tmp_path: Path):
    clock = ManualClock()
    async with opened(url, tmp_path, store=MemoryStore(clock=clock), clock=clock) as archive:
        await archive.send(*IMAGES)
        orphan = await archive.receive(Image(sop="1.2.8").file)
        clock.advance(3600)
        await archive.receive(Image(sop="1.2.7").file)  # its sender waits for an answer right now
        report = await check(archive)
        assert (report.orphan_count, report.orphan_bytes) == (1, orphan.stored.size)
        assert report.healthy is False


@pytest.mark.parametrize("batch", list(BatchPolicy))
async def test_orphans_are_adopted_where_they_can_be_filed(url: str, tmp_path: Path, batch: BatchPolicy):
    """As after restoring an older database: the index is gone, the objects are there."""
    clock = ManualClock()
    async with opened(url, tmp_path, store=MemoryStore(clock=clock), clock=clock, batch=batch) as archive:
        await archive.send(*IMAGES)
        await archive.receive(IMAGES[0].data_set, IMAGES[0].declared)
        await archive.receive(Image(sop="1.2.8", modality=None).file)
        await archive.receive(Image(sop="1.2.7", patient_id="P2").file)
        for table in ("instance", "series", "study", "patient", "change_feed", "archive_total"):
            await archive.execute(f"DELETE FROM {table}")
        await archive.send_one(Image(sop="1.2.6"))  # the study is P1's
        clock.advance(3600)
        report = await check(archive, adopt_orphans=True)
        assert (report.orphan_count, report.adopted) == (9, 6)
        assert await archive.one("SELECT instance_count FROM study") == 7
        assert await archive.one("SELECT count(*) FROM quarantine") == 0
        assert await broken_promises(archive) == []
        again = await check(archive)
        assert (again.missing_count, again.damaged_count, again.wrong_counters) == (0, 0, 0)


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE series SET instance_count = 99",
        "UPDATE study SET instance_count = 99",
        "UPDATE study SET series_count = 99",
        "UPDATE study SET instance_count = 0, series_count = 0",
        # Two series of a study that are wrong by the same number.
        "UPDATE series SET instance_count = 7 - instance_count WHERE series_instance_uid <> '1.2.12'",
    ],
)
async def test_counters_are_counted_again(archive: TestArchive, spoil: str):
    await archive.send_one(Image(sop="1.2.10", study="1.2.11", series="1.2.12"))
    await archive.send_one(Image(sop="1.2.13", series="1.2.14"))
    await archive.execute(spoil)
    assert await broken_promises(archive)
    report = await check(archive)
    assert report.wrong_counters
    assert not report.healthy
    assert (await check(archive, repair=True)).repaired
    assert (await check(archive)).healthy
    assert await broken_promises(archive) == []


async def test_counting_again_while_another_process_files(request: pytest.FixtureRequest, tmp_path: Path):
    """PostgreSQL: who waited for a counter's row would still count what was there before it waited."""
    with fresh_url(request, "postgresql", tmp_path) as url:
        async with opened(url, tmp_path) as archive:
            await archive.send_one(Image())
            await archive.execute("UPDATE series SET instance_count = 99")
            other = await asyncpg.connect(url)
            await other.execute(
                "SET isocenter.organization_id = 'all'"
            )  # a row that a policy hides is not locked
            filing = other.transaction()
            await filing.start()
            await other.execute(
                "INSERT INTO instance (organization_id, series_pk, sop_instance_uid, sop_class_uid, "
                "transfer_syntax_uid, object_key, size, header_size, sha256, received_at_us) "
                "SELECT organization_id, series_pk, '1.2.77', sop_class_uid, transfer_syntax_uid, "
                "object_key, size, header_size, sha256, received_at_us FROM instance"
            )
            await other.execute("UPDATE series SET instance_count = instance_count + 1")
            await other.execute("UPDATE study SET instance_count = instance_count + 1")
            repairing = asyncio.create_task(check(archive, repair=True))
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while not repairing.done() and not await archive.one(waiting):
                await asyncio.wait({repairing}, timeout=0.01)
            await filing.commit()
            await repairing
            await other.close()
            assert await broken_promises(archive) == []


async def test_nothing_is_ever_deleted(archive: TestArchive):
    os.utime(file_of(archive, await key_of(archive, IMAGES[0].sop)), (0, 0))
    orphan = await archive.receive(Image(sop="1.2.8").file)
    os.utime(file_of(archive, orphan.stored.key), (0, 0))
    before = await archive.keys()
    await check(archive, repair=True)
    assert await archive.keys() == before


async def test_a_large_archive_is_read_page_by_page(url: str, tmp_path: Path):
    async with opened(url, tmp_path, store=MemoryStore()) as archive:
        for batch in range(3):
            await archive.send(*(Image(sop=f"1.2.{batch}.{n}") for n in range(400)))
        report = await StorageCheck(archive.database, archive.store, archive.ingest, archive.clock).run(
            ORGANIZATION
        )
        assert (report.rows, report.objects) == (1200, 1200)
        assert report.healthy
        assert (await archive.sweep(timedelta(0)).run()).removed == 0


async def test_studies_under_the_wrong_patient_are_found_and_filed_again(archive: TestArchive):
    one = Image(study="1.1", series="1.1.1", sop="1.1.1.1", patient_id="A")
    await archive.send(one, one.but(study="1.2", series="1.2.1", sop="1.2.1.1", patient_id="B"))
    await PatientMerges(archive.database, archive.clock).merge(
        ORGANIZATION, PatientIdentity("A"), PatientIdentity("B")
    )
    assert (await archive.check.run(ORGANIZATION)).healthy
    await archive.execute("UPDATE study SET patient_pk = told_patient_pk")
    report = await archive.check.run(ORGANIZATION)
    assert (report.sick, report.misfiled, report.repaired) == (True, ["1.1"], [])
    mended = await archive.check.run(ORGANIZATION, repair=True)
    assert mended.repaired == ["filed 1 studies under their patients again"]
    assert (await archive.check.run(ORGANIZATION)).healthy
    assert await broken_promises(archive) == []
    assert (await read_changes(archive.database, ORGANIZATION))[-1].study_instance_uid == "1.1"
