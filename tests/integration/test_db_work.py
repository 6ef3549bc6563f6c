"""Units of work: all or nothing, on one snapshot, with the same errors on both databases."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from isocenter.kit.errors import InternalError, IsocenterError, Unavailable
from isocenter.platform.db import Database, IntegrityViolation, Sql, Work, composed, one, open_database
from services.schema import fresh_url

INSERT = Sql("INSERT INTO organization (slug, created_at_us) VALUES (:slug, :at) RETURNING id")
COUNT = Sql("SELECT count(*) FROM organization WHERE slug <> 'default'")
FIND = Sql("SELECT slug, created_at_us FROM organization WHERE slug IN :slugs ORDER BY slug")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = await open_database(url, migrate=False)
    yield opened
    await opened.close()


def count() -> Work[int]:
    return int(one((yield COUNT())))


def insert(*slugs: str) -> Work[list[int]]:
    ids: list[int] = []
    for slug in slugs:
        rows = yield INSERT(slug=slug, at=0)
        ids += [one(rows)]
    return ids


async def test_a_unit_returns_what_its_generator_returns(database: Database):
    ids = await database.write_across(insert, "a", "b")
    assert len(set(ids)) == 2
    assert await database.read_across(count) == 2


async def test_rows_are_read_by_name_and_position(database: Database):
    await database.write_across(insert, "a")

    def find() -> Work[tuple[Any, ...]]:
        [row] = yield FIND(slugs=["a", "not there"])
        return row[0], row["slug"], row["created_at_us"], row[1]

    assert await database.read_across(find) == ("a", "a", 0, 0)


async def test_many_rows_at_once(database: Database):
    def many() -> Work[None]:
        rows = yield INSERT.many([{"slug": f"s{n}", "at": n} for n in range(500)])
        assert rows == []

    await database.write_across(many)
    assert await database.read_across(count) == 500


async def test_what_a_unit_raises_undoes_it(database: Database):
    class Planted(Exception):
        pass

    def fails() -> Work[None]:
        yield from insert("a")
        raise Planted

    with pytest.raises(Planted):
        await database.write_across(fails)
    assert await database.read_across(count) == 0
    await database.write_across(insert, "a")  # and the connection is as good as before


async def test_a_constraint_refuses_with_its_own_error(database: Database):
    await database.write_across(insert, "a")
    with pytest.raises(IntegrityViolation) as refused:
        await database.write_across(insert, "b", "a")
    assert "a" not in refused.value.detail.split(), "no values in what may be logged"
    assert await database.read_across(count) == 1


@pytest.mark.parametrize("value", [2**70, "\ud800", "nul\0"])
async def test_a_value_that_cannot_be_kept_is_our_fault_and_undoes_the_unit(database: Database, value: Any):
    def fails() -> Work[None]:
        yield from insert("before")
        slug, at = ("x", value) if isinstance(value, int) else (value, 0)
        yield INSERT(slug=slug, at=at)

    if database.dialect == "sqlite" and value == "nul\0":
        pytest.skip("SQLite keeps NUL in text")
    with pytest.raises(InternalError):
        await database.write_across(fails)
    assert await database.read_across(count) == 0


async def test_wrong_sql_is_a_typed_error(database: Database):
    def wrong() -> Work[None]:
        yield composed("SELEKT 1")()

    with pytest.raises(IsocenterError):
        await database.read_across(wrong)
    assert await database.read_across(count) == 0


async def test_a_reader_sees_one_moment(database: Database):
    """Rows that are committed between two statements of a read are not seen by the second."""
    between: dict[str, Any] = {"reached": threading.Event(), "go": threading.Event()}
    loop = asyncio.get_running_loop()
    reached = asyncio.Event()

    def twice() -> Work[tuple[int, int]]:
        first = int(one((yield COUNT())))
        loop.call_soon_threadsafe(reached.set)
        if database.dialect == "sqlite":
            between["go"].wait(30)
        else:
            yield composed("SELECT pg_advisory_xact_lock(1)")()  # held below until the writer is through
        second = int(one((yield COUNT())))
        return first, second

    def hold() -> Work[None]:
        yield composed("SELECT pg_advisory_lock(1)")()

    def release() -> Work[None]:
        yield composed("SELECT pg_advisory_unlock_all()")()

    if database.dialect == "sqlite":
        reading = asyncio.create_task(database.read_across(twice))
        await reached.wait()
        await database.write_across(insert, "meanwhile")
        between["go"].set()
        assert await reading == (0, 0)
    else:
        import asyncpg

        holder = await asyncpg.connect(database._url)  # type: ignore[attr-defined]
        await holder.execute("SELECT pg_advisory_lock(1)")
        reading = asyncio.create_task(database.read_across(twice))
        await reached.wait()
        await database.write_across(insert, "meanwhile")
        await holder.close()
        assert await reading == (0, 0)
    assert await database.read_across(count) == 1


async def test_reading_cannot_write_on_postgresql(database: Database):
    if database.dialect == "sqlite":
        pytest.skip("a transaction of SQLite is not told that it only reads")
    with pytest.raises(IsocenterError):
        await database.read_across(insert, "a")
    assert await database.read_across(count) == 0


async def test_statements_for_the_other_database_answer_nothing(database: Database):
    def skipping() -> Work[list[Any]]:
        rows = yield Sql("SELECT pg_advisory_xact_lock(1)", only="postgresql")()
        other = yield Sql("SELECT sqlite_version()", only="sqlite")()
        return [len(rows), len(other)]

    assert await database.read_across(skipping) == ([0, 1] if database.dialect == "sqlite" else [1, 0])


async def test_a_waiter_that_is_cancelled_harms_nobody(database: Database):
    for number in range(20):
        task = asyncio.create_task(database.write_across(insert, f"s{number}"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await database.write_across(insert, "after")
    assert await database.read_across(count) >= 1


async def test_many_units_at_once(database: Database):
    async with asyncio.TaskGroup() as tasks:
        for number in range(100):
            tasks.create_task(database.write_across(insert, f"s{number}"))
            tasks.create_task(database.read_across(count))
    assert await database.read_across(count) == 100


async def test_a_deadlock_is_settled_by_running_again(database: Database):
    """Two units that lock two rows in opposite orders: one of them is begun anew."""
    await database.write_across(insert, "a", "b")
    update = Sql("UPDATE organization SET created_at_us = created_at_us + 1 WHERE slug = :slug")
    runs: list[str] = []

    def both(first: str, second: str) -> Work[None]:
        runs.append(first)
        yield update(slug=first)
        yield update(slug=second)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(2):
            tasks.create_task(database.write_across(both, "a", "b"))
            tasks.create_task(database.write_across(both, "b", "a"))
    rows = await database.read_across(find_all)
    assert rows == [("a", 4), ("b", 4)]
    assert len(runs) >= 4


def find_all() -> Work[list[tuple[str, int]]]:
    rows = yield FIND(slugs=["a", "b"])
    return [(row[0], row[1]) for row in rows]


async def test_several_may_enter_a_new_file_at_once(request: pytest.FixtureRequest, tmp_path: Path):
    """A file becomes write-ahead logged when it is first used, whoever is first."""
    for number in range(8):
        (tmp_path / str(number)).mkdir()
        with fresh_url(request, "sqlite", tmp_path / str(number)) as url:
            databases = [await open_database(url, migrate=False) for _ in range(4)]
            async with asyncio.TaskGroup() as tasks:
                for nth, database in enumerate(databases):
                    tasks.create_task(database.read_across(count))
                    tasks.create_task(database.read_across(count))
                    tasks.create_task(database.write_across(insert, f"s{nth}"))
            assert await databases[0].read_across(count) == 4
            for database in databases:
                await database.close()


async def test_after_closing_it_is_unavailable(url: str):
    database = await open_database(url, migrate=False)
    await database.read_across(count)
    await database.close()
    await database.close()
    if database.dialect == "sqlite":
        with pytest.raises(Unavailable):
            await database.read_across(count)


async def test_ping(database: Database):
    await database.ping()
