"""Reads on the event loop's thread: given up when they are slow, have to wait or hold up the loop."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from isocenter.kit.errors import NotFound, Unavailable
from isocenter.platform.db import Sql, Work, one, open_database, quick_reads
from isocenter.platform.db.interface import Database
from isocenter.platform.db.quick_reads import NotQuick, QuickReads

COUNT = Sql("SELECT count(*) FROM organization")
FOREVER = Sql("""
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT count(*) FROM n
""")


class Machine:
    """Its clock, and what was read from its disk."""

    at_s = 0.0
    disk_reads = 0

    def __call__(self) -> float:
        return self.at_s


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await open_database(f"sqlite:///{tmp_path / 'index.db'}", migrate=True)
    await opened.read_across(count)
    yield opened
    await opened.close()


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def quick(machine: Machine) -> Iterator[QuickReads]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        yield QuickReads(connection, now_s=machine, disk_reads=lambda: machine.disk_reads)


def count() -> Work[tuple[int, str]]:
    number = int(one((yield COUNT())))
    return number, threading.current_thread().name


def count_forever() -> Work[tuple[int, str]]:
    number = int(one((yield FOREVER())))
    return number, threading.current_thread().name


async def test_a_quick_read_stays_on_the_thread_of_the_event_loop(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quick is what takes no second here: the machine may be slow, or have stalled while the file opened."""
    monkeypatch.setattr(quick_reads, "_AT_MOST_S", 1.0)
    database._quick._pause_until_s = 0.0  # type: ignore[attr-defined]
    read = asyncio.create_task(_read(database))  # a task of its own has not read before
    assert await read == (1, threading.current_thread().name)


async def _read(database: Database) -> tuple[int, str]:
    return await database.read_across(count)


async def test_a_slow_one_ends_on_a_reader_s(database: Database) -> None:
    number, thread = await database.read_across(count_forever)
    assert number == 300_000
    assert thread.startswith("db-reader")


async def test_what_was_committed_is_seen_at_once(database: Database) -> None:
    def insert(slug: str) -> Work[None]:
        yield Sql("INSERT INTO organization (slug, created_at_us) VALUES (:slug, 0)")(slug=slug)

    for number in range(20):
        await database.write_across(insert, f"o{number}")
        assert (await database.read_across(count))[0] == number + 2


async def test_a_unit_s_own_error_is_raised_and_ends_its_snapshot(database: Database) -> None:
    def fail() -> Work[None]:
        yield COUNT()
        raise NotFound("nothing")

    for _ in range(3):
        with pytest.raises(NotFound):
            await database.read_across(fail)
    assert (await database.read_across(count))[0] == 1


async def test_a_lock_is_waited_for_elsewhere(tmp_path: Path) -> None:
    def connect() -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(tmp_path / "locked.db", isolation_level=None, timeout=0))

    with connect() as writer, connect() as reader:
        writer.execute("CREATE TABLE t (x)")
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(NotQuick):
            QuickReads(reader).attempt(lambda connection: connection.execute("SELECT * FROM t").fetchall())


async def test_the_connection_of_the_event_loop_never_waits(database: Database) -> None:
    def timeout_ms() -> Work[int]:
        return int(one((yield Sql("PRAGMA busy_timeout")())))

    assert await database.read_across(timeout_ms) == 0


async def test_a_task_that_only_reads_lets_others_run(database: Database) -> None:
    others_ran = asyncio.Event()
    asyncio.get_running_loop().call_soon(others_ran.set)
    while not others_ran.is_set():
        await database.read_across(count)


async def test_none_after_the_end(database: Database) -> None:
    await database.close()
    with pytest.raises(Unavailable):
        await database.read_across(count)


def one_row(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT 1").fetchone()[0])


async def test_after_a_stall_the_threads_read_for_a_while(quick: QuickReads, machine: Machine) -> None:
    def stall(connection: sqlite3.Connection) -> int:
        machine.at_s += 0.5
        machine.disk_reads += 40
        return one_row(connection)

    assert quick.attempt(stall) == 1
    await _refused(quick)
    machine.at_s += 5.1
    assert await asyncio.create_task(_attempt(quick, one_row)) == 1


async def test_a_busy_processor_is_no_reason_for_that(quick: QuickReads, machine: Machine) -> None:
    def stall(connection: sqlite3.Connection) -> int:
        machine.at_s += 0.5
        return one_row(connection)

    assert quick.attempt(stall) == 1
    assert await asyncio.create_task(_attempt(quick, one_row)) == 1


async def test_one_task_has_a_millisecond_and_then_makes_way_once(
    quick: QuickReads, machine: Machine
) -> None:
    def some(connection: sqlite3.Connection) -> int:
        machine.at_s += 0.0006
        return one_row(connection)

    assert [quick.attempt(some), quick.attempt(some)] == [1, 1]
    with pytest.raises(NotQuick):
        quick.attempt(some)
    assert quick.attempt(some) == 1
    assert await asyncio.create_task(_attempt(quick, some)) == 1, "another task has its own"


async def test_another_thread_s_loop_is_refused(quick: QuickReads) -> None:
    assert quick.attempt(one_row) == 1
    outcomes: list[bool] = []

    def elsewhere() -> None:
        async def attempt() -> None:
            try:
                quick.attempt(one_row)
            except NotQuick:
                outcomes.append(True)

        asyncio.run(attempt())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert outcomes == [True]


async def _attempt(quick: QuickReads, transact: Callable[[sqlite3.Connection], int]) -> int:
    return quick.attempt(transact)


async def _refused(quick: QuickReads) -> None:
    with pytest.raises(NotQuick):
        await asyncio.create_task(_attempt(quick, one_row))
