"""Store and database that fail: typed errors, nothing visible of what failed, back to work by itself."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from isocenter.features.archive.entry import Outcome, OutcomeKind
from isocenter.kit.errors import IsocenterError, OutOfSpace, Unavailable
from isocenter.platform.db import sqlite
from isocenter.platform.storage.faults import FaultyStore, Moment, Operation
from isocenter.platform.storage.local import LocalStore
from services.archive import Image, TestArchive, broken_promises, opened
from services.postgres import Postgres
from services.schema import fresh_url

KIND = OutcomeKind
IMAGES = [Image(sop=f"1.2.3.{n}", patient_id=f"P{n % 3}", study=f"1.2.4.{n % 3}") for n in range(12)]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
def sqlite_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, "sqlite", tmp_path) as found:
        yield found


async def send_each(archive: TestArchive, waves: int = 1) -> list[Outcome | BaseException]:
    """All images at once, each as a sender of its own; or in waves, of which each needs a commit at least."""
    results: list[Outcome | BaseException] = []
    count = len(IMAGES) // waves
    for first in range(0, len(IMAGES), count):
        sending = map(archive.send_one, IMAGES[first : first + count])
        results += await asyncio.gather(*sending, return_exceptions=True)
    return results


async def only_stored_is_visible(
    archive: TestArchive, results: list[Outcome | BaseException], *, may_recover: bool = False
) -> None:
    """What was refused left no trace, what was accepted is there; sent again, everything is."""
    refused = [result for result in results if isinstance(result, BaseException)]
    assert refused or may_recover, "the fault never struck"
    assert all(isinstance(error, Unavailable | OutOfSpace) for error in refused), refused
    stored = {image.sop for image, result in zip(IMAGES, results, strict=True) if isinstance(result, Outcome)}
    rows = await archive.rows("SELECT sop_instance_uid FROM instance")
    assert {row["sop_instance_uid"] for row in rows} == stored
    assert await broken_promises(archive) == []
    again = await archive.send(*IMAGES)
    assert {outcome.kind for outcome in again} <= {KIND.STORED, KIND.DUPLICATE}
    assert sum(outcome.kind is KIND.STORED for outcome in again) == len(IMAGES) - len(stored)
    assert await broken_promises(archive) == []
    assert archive.spool.budget.used_bytes == 0
    assert list(archive.spool.folder.iterdir()) == []


# --- the store ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", list(Moment))
@pytest.mark.parametrize("error", [Unavailable, OutOfSpace])
async def test_a_store_that_refuses(
    url: str, tmp_path: Path, moment: Moment, error: Callable[[str], IsocenterError]
):
    store = FaultyStore(LocalStore(tmp_path / "objects"))
    async with opened(url, tmp_path, store=store, threshold_bytes=100) as archive:
        for nth in (1, 5):
            store.fail(Operation.PUT, lambda: error("refused"), nth=nth, times=3, moment=moment)
        results = await send_each(archive)
        store.heal()
        await only_stored_is_visible(archive, results)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["writev", "fdatasync", "link", "fsync"])
async def test_a_disk_that_refuses(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
):
    async with opened(sqlite_url, tmp_path) as archive:
        real, left = getattr(os, call), [4]

        def fails(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if -3 < left[0] < 0:
                raise OSError(number, os.strerror(number))
            return real(*args, **kwargs)

        monkeypatch.setattr(os, call, fails)
        results = await send_each(archive)
        monkeypatch.undo()
        await only_stored_is_visible(archive, results)


async def test_a_spool_that_refuses(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async with opened(sqlite_url, tmp_path, threshold_bytes=100) as archive:
        folder = archive.spool.folder
        archive.spool.folder = tmp_path / "gone"
        results = await send_each(archive)
        archive.spool.folder = folder
        await only_stored_is_visible(archive, results)


# --- SQLite ---------------------------------------------------------------------------------------------


class Refusing(sqlite3.Connection):
    """Raises ``code`` instead of the ``nth`` statement that begins with ``verb``."""

    verb = ""
    nth = 0
    code = ""

    def execute(self, sql: str, *args: Any) -> Any:
        self._count(sql)
        return super().execute(sql, *args)

    def executemany(self, sql: str, *args: Any) -> Any:
        self._count(sql)
        return super().executemany(sql, *args)

    def _count(self, sql: str) -> None:
        cls = type(self)
        if cls.verb and sql.lstrip().startswith(cls.verb):
            cls.nth -= 1
            if cls.nth == 0:
                error = sqlite3.OperationalError("planted")
                error.sqlite_errorname = cls.code
                raise error


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Refusing]]:
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite.sqlite3,
        "connect",
        lambda *args, **kwargs: connect(*args, factory=Refusing, **kwargs),
    )
    yield Refusing
    Refusing.verb = ""


@pytest.mark.parametrize("code", ["SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_BUSY"])
@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("verb", ["BEGIN IMMEDIATE", "SELECT", "INSERT", "UPDATE", "COMMIT"])
async def test_a_statement_that_sqlite_refuses(
    sqlite_url: str, tmp_path: Path, refusing: type[Refusing], verb: str, nth: int, code: str
):
    async with opened(sqlite_url, tmp_path) as archive:
        await archive.policies.of(1)
        refusing.verb, refusing.nth, refusing.code = verb, nth, code
        results = await send_each(archive, waves=nth)
        assert refusing.nth <= 0, "the fault never struck"
        # A shared commit that fails for a reason of its own is tried again, a submission at a time.
        await only_stored_is_visible(archive, results, may_recover=code == "SQLITE_IOERR_WRITE")


async def on_writer(archive: TestArchive, statement: str) -> None:
    database: Any = archive.database
    await asyncio.wrap_future(database._writer.submit(lambda: database._connection().execute(statement)))


async def test_a_full_database(sqlite_url: str, tmp_path: Path):
    async with opened(sqlite_url, tmp_path) as archive:
        pages = await archive.one("SELECT page_count FROM pragma_page_count()")
        await on_writer(archive, f"PRAGMA max_page_count = {pages}")
        results: list[Outcome | BaseException] = []
        for batch in range(100):
            images = [Image(sop=f"1.2.{batch}.{n}", description="x" * 60) for n in range(50)]
            try:
                results += await archive.send(*images)
            except OutOfSpace as error:
                assert "database" in error.detail
                break
        else:
            raise AssertionError("the database never filled up")
        assert await archive.one("SELECT count(*) FROM instance") == len(results)
        assert await broken_promises(archive) == []
        await on_writer(archive, "PRAGMA max_page_count = 1000000")
        assert {outcome.kind for outcome in await archive.send(*images)} == {KIND.STORED}
        assert await broken_promises(archive) == []


async def test_a_database_that_another_process_keeps_locked(sqlite_url: str, tmp_path: Path):
    async with opened(sqlite_url, tmp_path) as archive:
        await on_writer(archive, "PRAGMA busy_timeout = 20")
        stranger = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
        stranger.execute("BEGIN IMMEDIATE")
        results = await send_each(archive)
        assert await archive.one("SELECT count(*) FROM instance") == 0, "reading goes on"
        stranger.execute("ROLLBACK")
        stranger.close()
        await only_stored_is_visible(archive, results)


# --- PostgreSQL -----------------------------------------------------------------------------------------


@pytest.fixture
async def on_postgres(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[TestArchive, Postgres]]:
    with fresh_url(request, "postgresql", tmp_path) as url:
        async with opened(url, tmp_path) as archive:
            yield archive, request.getfixturevalue("postgres")


@pytest.mark.parametrize("how", ["shut down", "power cut"])
async def test_a_server_that_goes_and_comes_back(on_postgres: tuple[TestArchive, Postgres], how: str):
    archive, server = on_postgres
    before = await archive.send(*IMAGES[:4])
    if how == "power cut":
        os.killpg(server._process.pid, signal.SIGKILL)
    await asyncio.to_thread(server.stop)
    results = await send_each(archive)
    assert all(isinstance(result, Unavailable) for result in results)
    server.start()  # not from a thread: the server would end with it
    results = [*before, *results[4:]]
    await only_stored_is_visible(archive, results)


async def test_a_server_that_ends_every_connection_in_the_middle(
    on_postgres: tuple[TestArchive, Postgres],
):
    archive, server = on_postgres
    ended = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE application_name = 'isocenter' AND datname LIKE 'archive_%'"
    )
    sending = asyncio.create_task(send_each(archive))
    await asyncio.to_thread(server.sql, ended)
    results = await sending
    assert all(isinstance(result, Outcome | Unavailable) for result in results)
    await asyncio.to_thread(server.sql, ended)
    outcomes = []
    while len(outcomes) < len(IMAGES):  # a connection that was ended is noticed when it is used
        try:
            outcomes = await archive.send(*IMAGES)
        except Unavailable:
            continue
    assert {outcome.kind for outcome in outcomes} <= {KIND.STORED, KIND.DUPLICATE}
    assert await broken_promises(archive) == []
