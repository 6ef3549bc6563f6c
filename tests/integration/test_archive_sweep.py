"""The orphan sweep takes what nobody refers to, and nothing that is just being filed again."""

from __future__ import annotations

import itertools
import os
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from isocenter.features.archive.entry import OutcomeKind, Received
from isocenter.features.archive.sweep import OrphanSweep, SweepReport
from isocenter.kit.clock import ManualClock
from isocenter.kit.errors import Busy, Unavailable
from isocenter.platform.storage.faults import FaultyStore, Operation
from isocenter.platform.storage.interface import InMemory
from isocenter.platform.storage.memory import MemoryStore
from services.archive import ORGANIZATION, Image, TestArchive, broken_promises, delete_for_good, opened
from services.schema import fresh_url

KIND = OutcomeKind
IMAGE = Image()
GRACE = timedelta(hours=1)
HOUR_S = 3600


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
def sqlite_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, "sqlite", tmp_path) as found:
        yield found


async def orphan(archive: TestArchive, image: Image = IMAGE) -> str:
    """The object lies in the store, and its sender was gone before it was filed."""
    received = await archive.receive(image.file)
    return received.stored.key


async def test_only_old_orphans_go(url: str, tmp_path: Path):
    clock = ManualClock()
    async with opened(url, tmp_path, store=MemoryStore(clock=clock), clock=clock) as archive:
        await archive.send(IMAGE, IMAGE.but(sop="1.2.6", modality=None))
        old = await orphan(archive, IMAGE.but(sop="1.2.7"))
        await archive.store.put("thumbnails/1/x.png", InMemory([b"not the archive's"]))
        clock.advance(HOUR_S + 1)
        young = await orphan(archive, IMAGE.but(sop="1.2.8"))
        before = await archive.keys()
        report = await archive.sweep(GRACE).run()
        assert (report.examined, report.removed) == (4, 1)
        assert report.removed_bytes > 0
        assert await archive.keys() == before - {old}
        assert young in before
        assert await broken_promises(archive) == []


async def test_on_a_folder_age_is_the_files(url: str, tmp_path: Path):
    async with opened(url, tmp_path) as archive:
        await archive.send_one(IMAGE)
        old, young = [await orphan(archive, IMAGE.but(sop=f"1.2.{n}")) for n in (7, 8)]
        for key in await archive.keys() - {young}:
            path = archive.store.local_path(key)
            assert path is not None
            os.utime(path, (0, 0))
        assert (await archive.sweep(GRACE).run()).removed == 1
        assert old not in await archive.keys()
        assert young in await archive.keys()
        assert await broken_promises(archive) == []


async def test_a_duplicate_or_discarded_objects_copy_goes(url: str, tmp_path: Path):
    clock = ManualClock()
    async with opened(url, tmp_path, store=MemoryStore(clock=clock), clock=clock) as archive:
        await archive.send_one(IMAGE)
        await archive.c_store(IMAGE)
        await archive.send_one(IMAGE.but(sop="1.2.6", modality=None))
        [entry] = await archive.quarantine.list(ORGANIZATION)
        clock.advance(HOUR_S + 1)
        assert (await archive.sweep(GRACE).run()).removed == 1
        await archive.quarantine.discard(ORGANIZATION, entry.id)
        assert (await archive.sweep(GRACE).run()).removed == 1
        assert len(await archive.keys()) == 1
        assert await broken_promises(archive) == []


async def test_a_store_out_of_reach_stops_the_sweep_and_the_next_one_goes_on(url: str, tmp_path: Path):
    clock = ManualClock()
    store = FaultyStore(MemoryStore(clock=clock))
    async with opened(url, tmp_path, store=store, clock=clock) as archive:
        for number in range(3):
            await orphan(archive, IMAGE.but(sop=f"1.2.{number}"))
        clock.advance(HOUR_S + 1)
        store.fail(Operation.DELETE, lambda: Unavailable("gone"), nth=2)
        with pytest.raises(Unavailable):
            await archive.sweep(GRACE).run()
        assert len(await archive.keys()) == 2
        clock.advance(HOUR_S)
        assert (await archive.sweep(GRACE).run()).removed == 2


async def test_what_was_swept_can_be_sent_again_at_once_and_twice(url: str, tmp_path: Path):
    """The mark outlives the object, and must not keep its successors out."""
    clock = ManualClock()
    async with opened(url, tmp_path, store=MemoryStore(clock=clock), clock=clock) as archive:
        await orphan(archive)
        clock.advance(HOUR_S + 1)
        assert (await archive.sweep(GRACE).run()).removed == 1
        clock.advance(1)
        assert (await archive.send_one(IMAGE)).kind is KIND.STORED
        assert (await archive.send_one(IMAGE)).kind is KIND.DUPLICATE
        assert (await archive.sweep(GRACE).run()).removed == 0
        assert await broken_promises(archive) == []


async def test_nor_what_was_sent_and_deleted_meanwhile(url: str, tmp_path: Path):
    """Its bytes lie there still, and no sweep has looked at them."""
    clock = ManualClock()
    async with opened(url, tmp_path, store=MemoryStore(clock=clock), clock=clock) as archive:
        await orphan(archive)
        clock.advance(HOUR_S + 1)
        assert (await archive.sweep(GRACE).run()).removed == 1
        for _ in range(2):
            clock.advance(1)
            assert (await archive.send_one(IMAGE)).kind is KIND.STORED
            await delete_for_good(archive.database, clock, ORGANIZATION, IMAGE.study)
        assert (await archive.sweep(timedelta(0)).run()).removed == 0, "as old as now is"
        clock.advance(1)
        assert (await archive.sweep(timedelta(0)).run()).removed == 1
        assert await broken_promises(archive) == []


# --- interleavings --------------------------------------------------------------------------------------

Hook = Callable[[str], Awaitable[None]]


class SweptStore(MemoryStore):
    """Tells where in its work a sweep is. ``remote``: as S3, which looks at the age, then deletes whatever
    is there by then."""

    def __init__(self, clock: ManualClock, *, remote: bool) -> None:
        super().__init__(clock=clock)
        self.remote = remote
        self.hook: Hook | None = None

    async def reach(self, point: str) -> None:
        if self.hook is not None:
            await self.hook(point)

    async def list(self, prefix: str = "") -> Any:
        found = [info async for info in super().list(prefix)]
        await self.reach("listed")
        for info in found:
            yield info

    async def delete(self, key: str, *, unmodified_since: datetime | None = None) -> bool:
        await self.reach("before delete")
        if not self.remote:
            deleted = await super().delete(key, unmodified_since=unmodified_since)
        else:
            info = await self.stat(key)
            if info is None or (unmodified_since is not None and info.modified_at > unmodified_since):
                deleted = False
            else:
                await self.reach("age seen")
                deleted = await super().delete(key)
        await self.reach("deleted")
        return deleted


class SweptDatabase:
    """The database as the sweep sees it; tells before and after each transaction."""

    def __init__(self, database: Any, store: SweptStore) -> None:
        self._database, self._store = database, store
        self.dialect = database.dialect

    async def read(self, work: Any, *args: Any) -> Any:
        await self._store.reach(f"before read {self._next()}")
        result = await self._database.read(work, *args)
        await self._store.reach(f"after read {self._count}")
        return result

    async def write(self, work: Any, *args: Any) -> Any:
        if work.__name__ != "_mark":
            return await self._database.write(work, *args)
        await self._store.reach("before mark")
        result = await self._database.write(work, *args)
        await self._store.reach("after mark")
        return result

    async def read_across(self, work: Any, *args: Any) -> Any:
        return await self._database.read_across(work, *args)

    async def write_across(self, work: Any, *args: Any) -> Any:
        return await self._database.write_across(work, *args)

    _count = 0

    def _next(self) -> int:
        self._count += 1
        return self._count


POINTS = [
    "listed",
    "before read 1",
    "after read 1",
    "before mark",
    "after mark",
    "before read 2",
    "after read 2",
    "before delete",
    "age seen",
    "deleted",
    "finished",
]


@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
@pytest.mark.parametrize(
    ("put_at", "file_at"),
    list(itertools.combinations_with_replacement(POINTS, 2)),
    ids=lambda point: point.replace(" ", "-"),
)
async def test_an_object_sent_again_while_it_is_swept_is_never_lost(
    sqlite_url: str, tmp_path: Path, put_at: str, file_at: str, remote: bool
):
    if not remote and "age seen" in (put_at, file_at):
        pytest.skip("a local store looks and deletes in one step")
    clock = ManualClock()
    store = SweptStore(clock, remote=remote)
    async with opened(sqlite_url, tmp_path, store=store, clock=clock) as archive:
        await orphan(archive)
        clock.advance(HOUR_S + 1)
        received: list[Received] = []
        filed: list[bool] = []

        async def meanwhile(point: str) -> None:
            clock.advance(1)
            if point == put_at and not received:
                received.append(await archive.receive(IMAGE.file))
            if point == file_at and received and not filed:
                filed.append(await try_to_file(archive, received))

        store.hook = meanwhile
        await OrphanSweep(
            SweptDatabase(archive.database, store),  # type: ignore[arg-type]
            store,
            clock,
            grace=GRACE,
        ).run()
        store.hook = None
        if not filed:  # the sweep spared the object before it came so far
            if not received:
                received.append(await archive.receive(IMAGE.file))
            filed.append(await try_to_file(archive, received))
        assert await broken_promises(archive) == []
        if not filed[0]:
            clock.advance(1)
            outcome = await archive.send_one(IMAGE)  # as the sender was told to
            assert outcome.kind is KIND.STORED
        assert await archive.one("SELECT count(*) FROM instance") == 1
        assert await broken_promises(archive) == []


async def try_to_file(archive: TestArchive, received: list[Received]) -> bool:
    try:
        [outcome] = await archive.ingest.commit(ORGANIZATION, received)
    except Busy:
        return False
    assert outcome.kind is KIND.STORED
    return True


@pytest.mark.parametrize("point", POINTS)
async def test_a_first_object_that_waits_to_be_filed_is_never_lost(
    sqlite_url: str, tmp_path: Path, point: str
):
    """Put before a sweep that has no patience at all, filed while it works."""
    clock = ManualClock()
    store = SweptStore(clock, remote=True)
    async with opened(sqlite_url, tmp_path, store=store, clock=clock) as archive:
        received = [await archive.receive(IMAGE.file)]
        filed: list[bool] = []

        async def meanwhile(reached: str) -> None:
            clock.advance(1)
            if reached == point and not filed:
                filed.append(await try_to_file(archive, received))

        clock.advance(1)
        store.hook = meanwhile
        database: Any = SweptDatabase(archive.database, store)
        await OrphanSweep(database, store, clock, grace=timedelta(0)).run()
        store.hook = None
        assert await broken_promises(archive) == []
        if filed != [True]:
            assert (await archive.send_one(IMAGE)).kind is KIND.STORED
        assert await broken_promises(archive) == []


async def test_a_batch_that_gathered_for_longer_than_the_grace_is_not_half_filed(url: str, tmp_path: Path):
    clock = ManualClock()
    async with opened(url, tmp_path, store=MemoryStore(clock=clock), clock=clock) as archive:
        first = await archive.receive(IMAGE.file)
        clock.advance(2 * HOUR_S)
        assert (await archive.sweep(GRACE).run()).removed == 1
        clock.advance(HOUR_S)
        await archive.sweep(GRACE).run()  # the marks are forgotten by now
        second = await archive.receive(IMAGE.but(sop="1.2.9").file)
        with pytest.raises(Busy):
            await archive.ingest.commit(ORGANIZATION, [first, second])
        assert await archive.one("SELECT count(*) FROM instance") == 0


async def test_a_sweep_that_takes_hours_marks_as_of_the_moment(sqlite_url: str, tmp_path: Path):
    """Else its marks would have expired before anybody looked for them."""
    clock = ManualClock()
    store = SweptStore(clock, remote=True)
    async with opened(sqlite_url, tmp_path, store=store, clock=clock) as archive:
        await orphan(archive)
        clock.advance(HOUR_S + 1)
        filed: list[bool] = []

        async def meanwhile(point: str) -> None:
            if point == "listed":
                clock.advance(10 * HOUR_S)
            if point == "age seen" and not filed:
                filed.append(await try_to_file(archive, [await archive.receive(IMAGE.file)]))

        store.hook = meanwhile
        await archive.sweep(GRACE).run()
        assert filed == [False]
        assert await broken_promises(archive) == []


async def test_two_sweeps_at_once_share_the_work(url: str, tmp_path: Path):
    clock = ManualClock()
    store = SweptStore(clock, remote=True)
    async with opened(url, tmp_path, store=store, clock=clock) as archive:
        for number in range(5):
            await orphan(archive, IMAGE.but(sop=f"1.2.{number}"))
        clock.advance(HOUR_S + 1)
        others: list[SweepReport] = []

        async def meanwhile(point: str) -> None:
            if point == "listed" and not others:
                others.append(SweepReport())
                others.append(await archive.sweep(GRACE).run())

        store.hook = meanwhile
        report = await archive.sweep(GRACE).run()
        assert (report.removed, others[1].removed) == (0, 5)
