"""The archive on a real S3 server (one that checks signatures): in, again, swept, checked, healed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from isocenter.features.archive.entry import OutcomeKind
from isocenter.features.archive.sweep import OrphanSweep
from isocenter.kit.clock import SystemClock
from isocenter.platform.storage.interface import InMemory
from isocenter.platform.storage.open import open_store
from services.archive import ORGANIZATION, Image, TestArchive, broken_promises, opened
from services.radosgw import RadosGateway
from services.schema import fresh_url

KIND = OutcomeKind
_A_WHILE = timedelta(minutes=5)  # the gateway tells whole seconds: even the newest object shall count as old
IMAGES = [Image(sop=f"1.2.3.{n}", pixels=bytes([n]) * 1000) for n in range(8)]
LARGE = Image(sop="1.2.9", pixels=b"large" * 4_000_000)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def archive(url: str, tmp_path: Path, radosgw: RadosGateway) -> AsyncIterator[TestArchive]:
    account = radosgw.account
    store = open_store(
        f"s3://{radosgw.bucket()}/objects",
        endpoint=account.endpoint,
        region=account.region,
        access_key=account.access_key_id,
        secret_key=account.secret_access_key,
    )
    async with opened(url, tmp_path, store=store) as made:
        yield made
        assert list(made.spool.folder.iterdir()) == []


async def test_objects_come_in_and_are_known_again(archive: TestArchive):
    outcomes = await archive.send(*IMAGES, LARGE)
    assert {outcome.kind for outcome in outcomes} == {KIND.STORED}
    assert {outcome.kind for outcome in await archive.send(*IMAGES, LARGE)} == {KIND.DUPLICATE}
    assert (await archive.c_store(IMAGES[0])).kind is KIND.DUPLICATE
    assert await broken_promises(archive) == []


async def test_orphans_go_and_nothing_else(archive: TestArchive):
    await archive.send(*IMAGES)
    await archive.send_one(Image(sop="1.2.8", modality=None))
    orphan = (await archive.receive(LARGE.file)).stored.key
    report = await OrphanSweep(archive.database, archive.store, SystemClock(), grace=-_A_WHILE).run()
    assert (report.examined, report.removed) == (10, 1)
    assert orphan not in await archive.keys()
    assert (await archive.send_one(LARGE)).kind is KIND.STORED, "an old mark keeps nobody out"
    assert await broken_promises(archive) == []


async def test_what_is_missing_or_damaged_is_found_and_healed(archive: TestArchive):
    await archive.send(*IMAGES)
    missing, damaged = [
        await archive.one("SELECT object_key FROM instance WHERE sop_instance_uid = :sop", sop=image.sop)
        for image in IMAGES[:2]
    ]
    await archive.store.delete(missing)
    content = bytearray(await archive.store.get(damaged))
    content[-1] ^= 1
    await archive.store.delete(damaged)
    await archive.store.put(damaged, InMemory([bytes(content)]))
    report = await archive.check.run(ORGANIZATION, repair=True)
    assert (report.missing, report.damaged) == ([IMAGES[0].sop], [IMAGES[1].sop])
    assert {outcome.kind for outcome in await archive.send(*IMAGES)} == {KIND.DUPLICATE}
    assert (await archive.check.run(ORGANIZATION)).healthy
