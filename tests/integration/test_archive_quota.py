"""Quotas: what is kept is counted exactly, and no byte over the quota is ever kept, whoever fills it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest
import structlog

from isocenter.features.archive.committer import BatchRefused
from isocenter.features.archive.entry import Outcome, OutcomeKind
from isocenter.features.archive.holdings import Held, Holdings
from isocenter.features.archive.policies import REFRESH_S, BatchPolicy, ConflictPolicy, Policies, PolicyBook
from isocenter.features.archive.quota import QuotaReached
from isocenter.kit.clock import ManualClock
from isocenter.platform.storage.memory import MemoryStore
from services.archive import ORGANIZATION, Image, TestArchive, broken_promises, delete_for_good, opened
from services.schema import fresh_url

KIND = OutcomeKind
IMAGE = Image()
SIZE = len(IMAGE.file)


def image(number: int) -> Image:
    """Each as large as the others, of a study of its own."""
    return IMAGE.but(sop=f"1.2.3.1.1.{number + 2}", study=f"1.2.{number}", series=f"1.2.{number}.1")


SIZES = len(image(0).file)
BAD = image(9).but(modality=None)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def archive(url: str, tmp_path: Path) -> AsyncIterator[TestArchive]:
    async with opened(url, tmp_path) as made:
        yield made
        assert await broken_promises(made) == []
        assert made.spool.budget.used_bytes == 0


async def limit(archive: TestArchive, quota_bytes: int) -> None:
    await archive.policies.change(ORGANIZATION, quota_bytes=quota_bytes)


async def held(archive: TestArchive) -> Held:
    return await Holdings(archive.database, archive.clock).of(ORGANIZATION)


async def used(archive: TestArchive) -> tuple[int, int]:
    now = await held(archive)
    return now.objects, now.bytes


async def send_each(archive: TestArchive, *images: Image) -> list[Outcome | BaseException]:
    """All at once, each as a sender of its own."""
    return await asyncio.gather(*map(archive.send_one, images), return_exceptions=True)


def refused(results: list[Outcome | BaseException]) -> int:
    assert all(isinstance(one, Outcome | QuotaReached) for one in results), results
    return sum(isinstance(one, QuotaReached) for one in results)


# --- counting -------------------------------------------------------------------------------------------


async def test_what_is_kept_is_counted(archive: TestArchive) -> None:
    assert await used(archive) == (0, 0)
    await archive.send(image(1), image(2))
    assert await used(archive) == (2, 2 * SIZES)
    await archive.send(image(1), image(1))  # duplicates
    await archive.c_store(image(2))
    assert await used(archive) == (2, 2 * SIZES)
    await archive.send_one(BAD)
    await archive.send_one(BAD)
    assert await used(archive) == (3, 2 * SIZES + len(BAD.file))
    await delete_for_good(archive.database, archive.clock, ORGANIZATION, image(1).study)
    assert await used(archive) == (2, SIZES + len(BAD.file))
    [entry] = await archive.quarantine.list(ORGANIZATION)
    await archive.quarantine.discard(ORGANIZATION, entry.id)
    assert await used(archive) == (1, SIZES)
    await archive.sweep(timedelta(0)).run()
    assert await used(archive) == (1, SIZES)


async def test_an_accepted_object_changes_its_place(archive: TestArchive) -> None:
    await archive.send_one(BAD)
    [entry] = await archive.quarantine.list(ORGANIZATION)
    await archive.quarantine.accept(ORGANIZATION, entry.id)
    assert await used(archive) == (1, len(BAD.file))


@pytest.mark.parametrize("conflict", list(ConflictPolicy))
async def test_other_bytes_under_the_same_uid(url: str, tmp_path: Path, conflict: ConflictPolicy) -> None:
    larger = IMAGE.but(pixels=bytes(1000))
    async with opened(url, tmp_path, conflict=conflict) as archive:
        await archive.send(IMAGE, larger)
        await archive.send_one(IMAGE)
        expected = {
            ConflictPolicy.REJECT: (1, SIZE),
            ConflictPolicy.KEEP_FIRST: (1, SIZE),
            ConflictPolicy.REPLACE: (1, SIZE),  # and back again
            ConflictPolicy.KEEP_BOTH: (2, SIZE + len(larger.file)),  # retired versions take room too
        }[conflict]
        assert await used(archive) == expected
        assert await broken_promises(archive) == []
        await delete_for_good(archive.database, archive.clock, ORGANIZATION, IMAGE.study)
        assert await used(archive) == (0, 0)
        assert await broken_promises(archive) == []


async def test_a_refused_batch_counts_nothing(url: str, tmp_path: Path) -> None:
    async with opened(url, tmp_path, batch=BatchPolicy.ALL_OR_NOTHING) as archive:
        with pytest.raises(BatchRefused):
            await archive.send(image(1), BAD)
        assert await used(archive) == (0, 0)
        await limit(archive, 10 * SIZES)
        with pytest.raises(BatchRefused):  # what is wrong with it comes before what it is too large for
            await archive.send(*map(image, range(9)), BAD, image(8))
        assert await used(archive) == (0, 0)


# --- refusing -------------------------------------------------------------------------------------------


async def test_a_quota_is_filled_to_the_byte_and_not_beyond(archive: TestArchive) -> None:
    await limit(archive, 3 * SIZES)
    assert refused(await send_each(archive, *map(image, range(3)))) == 0
    assert await used(archive) == (3, 3 * SIZES)
    with pytest.raises(QuotaReached) as error:
        await archive.send_one(image(3))
    assert error.value.used_bytes == 3 * SIZES and error.value.remedy
    assert await used(archive) == (3, 3 * SIZES)
    assert (await held(archive)).percent_of_quota == 100.0
    assert len(await archive.keys()) == 3, "what is refused never reached the store"


async def test_one_byte_less_refuses_the_last(archive: TestArchive) -> None:
    await limit(archive, 3 * SIZES - 1)
    assert refused(await send_each(archive, *map(image, range(3)))) == 1
    assert await used(archive) == (2, 2 * SIZES)


async def test_what_is_kept_already_may_be_sent_again(archive: TestArchive) -> None:
    await archive.send(image(1), BAD)
    await limit(archive, 10)
    assert (await archive.send_one(image(1))).kind is KIND.DUPLICATE
    assert (await archive.c_store(image(1))).kind is KIND.DUPLICATE  # under another header
    assert (await archive.send_one(BAD)).kind is KIND.QUARANTINED
    with pytest.raises(QuotaReached):
        await archive.c_store(image(2))
    with pytest.raises(QuotaReached):
        await archive.send_one(BAD.but(sop="1.2.99"))


async def test_room_that_was_given_back_is_room(archive: TestArchive) -> None:
    await limit(archive, 2 * SIZES)
    await archive.send(image(1), image(2))
    with pytest.raises(QuotaReached):
        await archive.send_one(image(3))
    await delete_for_good(archive.database, archive.clock, ORGANIZATION, image(1).study)
    await archive.send_one(image(3))
    with pytest.raises(QuotaReached):
        await archive.send_one(image(4))
    await limit(archive, 3 * SIZES)
    await archive.send_one(image(4))
    with pytest.raises(QuotaReached):
        await archive.send_one(BAD)


async def test_accepting_needs_no_room(archive: TestArchive) -> None:
    await archive.send_one(BAD)
    await limit(archive, 10)
    [entry] = await archive.quarantine.list(ORGANIZATION)
    accepted = await archive.quarantine.accept(ORGANIZATION, entry.id, {"Modality": "CT"})
    assert accepted.kind is KIND.STORED
    assert (await used(archive))[0] == 1


async def test_a_smaller_replacement_fits_into_a_full_quota(url: str, tmp_path: Path) -> None:
    async with opened(url, tmp_path, conflict=ConflictPolicy.REPLACE) as archive:
        large = IMAGE.but(pixels=bytes(1000))
        await archive.send_one(large)
        received = await archive.receive(IMAGE.file)
        await limit(archive, 10)
        [outcome] = await archive.ingest.commit(ORGANIZATION, [received])
        assert outcome.kind is KIND.REPLACED
        assert await broken_promises(archive) == []


@pytest.mark.parametrize("batch", list(BatchPolicy))
async def test_a_submission_that_does_not_fit_leaves_nothing(
    url: str, tmp_path: Path, batch: BatchPolicy
) -> None:
    """Each of its objects alone would."""
    async with opened(url, tmp_path, batch=batch) as archive:
        await limit(archive, 3 * SIZES)
        await archive.send_one(image(0))
        with pytest.raises(QuotaReached):
            await archive.send(image(1), image(2), image(3))
        assert await used(archive) == (1, SIZES)
        for table in ("study", "series", "instance", "change_feed"):
            assert await archive.one(f"SELECT count(*) FROM {table}") == 1, table
        assert await broken_promises(archive) == []
        await archive.send(image(1), image(2))
        assert await used(archive) == (3, 3 * SIZES)


async def test_a_large_submission_does_not_fail_the_small_ones_of_its_commit(archive: TestArchive) -> None:
    await limit(archive, 4 * SIZES)
    large = [await archive.receive(image(n).file) for n in range(5)]
    small = [[await archive.receive(image(n).file)] for n in (7, 8)]
    results = await asyncio.gather(
        *(archive.ingest.commit(ORGANIZATION, one) for one in (small[0], large, small[1])),
        return_exceptions=True,
    )
    assert [isinstance(one, QuotaReached) for one in results] == [False, True, False]
    assert await used(archive) == (2, 2 * SIZES)


async def test_two_processes_fill_one_quota(url: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        both = [await stack.enter_async_context(opened(url, tmp_path)) for _ in range(2)]
        await limit(both[0], 20 * SIZES)
        images = [image(number) for number in range(40)]
        first, second = await asyncio.gather(
            send_each(both[0], *images[:20]), send_each(both[1], *images[20:])
        )
        assert refused(first) + refused(second) == 20
        assert await used(both[0]) == (20, 20 * SIZES), "to the byte"
        assert await broken_promises(both[0]) == []
        # Neither goes by what it alone has seen.
        for one in both:
            with pytest.raises(QuotaReached):
                await one.send_one(image(50))
        await delete_for_good(both[0].database, both[0].clock, ORGANIZATION, await any_study(both[0]))
        assert refused(await send_each(both[1], image(50))) == 0


async def any_study(archive: TestArchive) -> str:
    uid: str = await archive.one("SELECT min(study_instance_uid) FROM study")
    return uid


async def test_a_full_quota_lets_nobody_fill_the_disk(archive: TestArchive) -> None:
    """What is refused by the transaction lies in the store until the sweep: only what was on its way then."""
    await limit(archive, SIZES)
    await archive.send_one(image(0))
    for round_ in range(3):
        results = await send_each(archive, *(image(100 * round_ + n) for n in range(1, 30)))
        assert refused(results) == 29
    assert len(await archive.keys()) == 1


async def test_another_process_learns_of_a_quota_within_seconds(url: str, tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(url, tmp_path, clock=clock) as archive:
        await archive.send_one(image(0))
        other = PolicyBook(archive.database, Policies(), clock)
        await other.change(ORGANIZATION, quota_bytes=1)
        await archive.send_one(image(1))
        clock.advance(REFRESH_S)
        with pytest.raises(QuotaReached):
            await archive.send_one(image(2))


async def test_one_organisation_s_quota_is_none_of_the_other_s(archive: TestArchive) -> None:
    theirs = await archive.add_organization("theirs")
    await limit(archive, SIZES)
    await archive.send(image(1))
    await archive.send(image(1), image(2), to=theirs)
    with pytest.raises(QuotaReached):
        await archive.send(image(2))
    all_held = await Holdings(archive.database, archive.clock).of_all()
    assert [(one.slug, one.objects, one.quota_bytes) for one in all_held] == [
        ("default", 1, SIZES),
        ("theirs", 2, None),
    ]


@pytest.mark.parametrize("quota_bytes", [0, 1])
async def test_a_quota_of_nothing_keeps_nothing(archive: TestArchive, quota_bytes: int) -> None:
    await limit(archive, quota_bytes)
    with pytest.raises(QuotaReached):
        await archive.send_one(image(0))
    assert await used(archive) == (0, 0)


# --- warning --------------------------------------------------------------------------------------------


async def test_each_mark_is_told_once(archive: TestArchive) -> None:
    await limit(archive, 20 * SIZES)
    with structlog.testing.capture_logs() as logs:
        for number in range(20):
            await archive.send_one(image(number))
        for number in range(20, 25):
            with pytest.raises(QuotaReached):
                await archive.send_one(image(number))
        await archive.send(*map(image, range(20)))  # duplicates
    assert [(one["passed_percent"], one["used_bytes"]) for one in logs] == [
        (80, 16 * SIZES),
        (95, 19 * SIZES),
    ]
    assert {one["organization_id"] for one in logs} == {ORGANIZATION}


async def test_of_two_processes_one_tells(url: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        both = [await stack.enter_async_context(opened(url, tmp_path)) for _ in range(2)]
        await limit(both[0], 100 * SIZES)
        with structlog.testing.capture_logs() as logs:
            await asyncio.gather(
                send_each(both[0], *map(image, range(45))), send_each(both[1], *map(image, range(45, 90)))
            )
        assert [one["passed_percent"] for one in logs] == [80]


async def test_the_mark_may_be_passed_again_after_a_deletion(archive: TestArchive) -> None:
    await limit(archive, 10 * SIZES)
    with structlog.testing.capture_logs() as logs:
        await archive.send(*map(image, range(9)))
        for number in (0, 1):
            await delete_for_good(archive.database, archive.clock, ORGANIZATION, image(number).study)
        await archive.send_one(image(0))
    assert [one["passed_percent"] for one in logs] == [80, 80]


# --- storage check --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE archive_total SET objects = objects + 3, bytes = 7",
        "UPDATE archive_total SET bytes = bytes - 1",
        "UPDATE archive_total SET changes = 1",
        "DELETE FROM archive_total",
        "UPDATE quarantine SET state = 'accepted'",
    ],
)
async def test_a_wrong_count_is_found_and_mended(archive: TestArchive, spoil: str) -> None:
    await archive.send(image(1), image(2), BAD)
    assert (await archive.check.run(ORGANIZATION)).healthy
    await archive.execute(spoil)
    report = await archive.check.run(ORGANIZATION)
    assert report.miscounted and report.sick and not report.healthy
    assert (await archive.check.run(ORGANIZATION)).miscounted == report.miscounted, "looking mends nothing"
    mended = await archive.check.run(ORGANIZATION, repair=True)
    assert mended.repaired == ["counted again how much is kept"]
    assert not (await archive.check.run(ORGANIZATION)).sick
    await archive.send_one(image(3))
    assert await broken_promises(archive) == []


async def test_mending_while_others_file(archive: TestArchive) -> None:
    """It mends by the difference, so that what is filed between looking and mending stays counted."""
    from isocenter.features.archive.usage import find_miscount, mend_miscount

    await archive.send_one(image(0))
    await archive.execute("UPDATE archive_total SET objects = 100, bytes = 1")
    found = await archive.database.read(find_miscount, ORGANIZATION)
    await archive.send(image(1), image(2))
    await archive.database.write(mend_miscount, ORGANIZATION, found)
    assert await used(archive) == (3, 3 * SIZES)


async def test_orphans_are_adopted_whatever_the_quota(url: str, tmp_path: Path) -> None:
    """They lie in the store, and the sweep would take them: no quota is worth an object that can be saved."""
    clock = ManualClock()
    async with opened(url, tmp_path, store=MemoryStore(clock=clock), clock=clock) as archive:
        await archive.receive(image(1).file)
        await limit(archive, 1)
        clock.advance(3600)
        assert (await archive.check.run(ORGANIZATION, adopt_orphans=True)).adopted == 1
        assert await broken_promises(archive) == []
