"""PostgreSQL: two persons merge the same patients at once; each waits for the other and then looks again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from isocenter.features.archive.filing import stripes
from isocenter.features.archive.patients.identity import PatientIdentity
from isocenter.features.archive.patients.merges import PatientMerges
from isocenter.kit.errors import Conflict
from services.archive import ORGANIZATION, Image, TestArchive, broken_promises, opened
from services.schema import fresh_url

A, B, C = PatientIdentity("A"), PatientIdentity("B"), PatientIdentity("C")
WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)
HELD = (
    "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND classid = 731908 AND granted "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


@pytest.fixture
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    with fresh_url(request, "postgresql", tmp_path) as found:
        yield found


@pytest.fixture
async def archive(url: str, tmp_path: Path) -> AsyncIterator[TestArchive]:
    async with opened(url, tmp_path) as made:
        await made.send(
            *(
                Image(patient_id=patient_id, study=f"1.{n}", series=f"1.{n}.1", sop=f"1.{n}.1.1")
                for n, patient_id in enumerate("ABC", 1)
            )
        )
        yield made


class Holder:
    """Holds the row that each merge counts its changes in: the last that it does before it commits."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._transaction = connection.transaction()

    async def hold(self) -> None:
        await self._transaction.start()
        await self._connection.execute("SET LOCAL isocenter.organization_id = 'all'")
        await self._connection.execute("SELECT * FROM archive_total FOR UPDATE")

    async def release(self) -> None:
        await self._transaction.commit()


@asynccontextmanager
async def holder(url: str) -> AsyncIterator[Holder]:
    connection = await asyncpg.connect(url)
    yield Holder(connection)
    await connection.close()


async def until_waiting(archive: TestArchive, how_many: int, *tasks: asyncio.Task[object]) -> None:
    while await archive.one(WAITING) < how_many and not any(task.done() for task in tasks):
        await asyncio.wait(tasks, timeout=0.01)


def begun(doing: Callable[[], Awaitable[object]]) -> asyncio.Task[object]:
    async def run() -> object:
        return await doing()

    return asyncio.create_task(run())


@pytest.mark.parametrize("second", [(B, C), (B, A), (C, A), (A, C)])
async def test_merges_at_once_follow_one_another(
    archive: TestArchive, url: str, second: tuple[PatientIdentity, PatientIdentity]
) -> None:
    service = PatientMerges(archive.database, archive.clock)
    async with holder(url) as held:
        await held.hold()
        one = begun(lambda: service.merge(ORGANIZATION, A, B))
        await until_waiting(archive, 1, one)
        two = begun(lambda: service.merge(ORGANIZATION, *second))
        await until_waiting(archive, 2, one, two)
        await held.release()
        outcomes = await asyncio.gather(one, two, return_exceptions=True)
    assert await broken_promises(archive) == []
    assert not isinstance(outcomes[0], Exception)
    refused = isinstance(outcomes[1], Conflict) and outcomes[1].code == "patient-merged"
    assert refused == (A in second)


async def test_whoever_waited_locks_what_came_meanwhile(archive: TestArchive, url: str) -> None:
    service = PatientMerges(archive.database, archive.clock)
    async with AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(holder(url)) for _ in range(2)]
        await first.hold()
        one = begun(lambda: service.merge(ORGANIZATION, A, B))
        await until_waiting(archive, 1, one)
        next_hold = begun(second.hold)  # in line before the other merge
        await until_waiting(archive, 2, one, next_hold)
        two = begun(lambda: service.merge(ORGANIZATION, B, C))
        await until_waiting(archive, 3, one, two, next_hold)
        await first.release()
        await asyncio.gather(one, next_hold)
        await until_waiting(archive, 1, two)
        locked = {row["objid"] for row in await archive.rows(HELD)}
        assert set(stripes(ORGANIZATION, {"1.1", "1.2", "1.3"}, {"A", "B", "C"})) <= locked
        await second.release()
        await two
    assert await broken_promises(archive) == []
