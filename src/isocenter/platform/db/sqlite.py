"""SQLite: one writer thread, a few reader threads, WAL, every commit synced; quick reads on the loop's own.

The standard library's driver in our own threads, rather than one hop per statement: a unit of work
visits its thread once. Python's ``sqlite3`` releases the GIL while SQLite works.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, Literal, TypeVar

from isocenter.kit.errors import InternalError, IsocenterError, OutOfSpace, Unavailable
from isocenter.platform.db.interface import DatabaseUnreachable, IntegrityViolation, P
from isocenter.platform.db.quick_reads import NotQuick, QuickReads
from isocenter.platform.db.sql import Call, Work

T = TypeVar("T")
_READERS = 3
_BUSY_MS = 8_000  # another process (import, CLI) may be writing; SIGTERM waits for us no longer than 10 s
_PING_MS = 4_000  # below what a health check waits for
_BEGIN_WRITE = "BEGIN IMMEDIATE"
"""Take the write lock at once instead of failing later on an upgrade from a read."""
_PRAGMAS = (
    "PRAGMA synchronous = FULL",  # an acknowledged object's row must survive a power cut
    f"PRAGMA busy_timeout = {_BUSY_MS}",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -65536",
    "PRAGMA mmap_size = 268435456",
    "PRAGMA case_sensitive_like = ON",  # as PostgreSQL does; folded columns serve the rest
    "PRAGMA temp_store = MEMORY",
)


class SqliteDatabase:
    dialect: Literal["sqlite", "postgresql"] = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="db-writer")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="db-reader")
        self._quick: QuickReads | None = None

    async def read(
        self,
        work: Callable[Concatenate[int, P], Work[T]],
        organization_id: int,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self.read_across(work, organization_id, *args, **kwargs)

    async def write(
        self,
        work: Callable[Concatenate[int, P], Work[T]],
        organization_id: int,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self.write_across(work, organization_id, *args, **kwargs)

    async def read_across(
        self,
        work: Callable[P, Work[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        def start() -> Work[T]:
            return work(*args, **kwargs)

        if self._quick is not None:
            with contextlib.suppress(NotQuick):
                return self._quick.attempt(lambda connection: _transact(connection, "BEGIN", start))
        return await self._visit(self._readers, "BEGIN", start)

    async def write_across(
        self,
        work: Callable[P, Work[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._visit(self._writer, _BEGIN_WRITE, lambda: work(*args, **kwargs))

    async def ping(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.shield(loop.run_in_executor(self._readers, self._take_write_lock))

    async def close(self) -> None:
        self._quick = None

        def close_all() -> None:
            self._readers.shutdown(wait=True)
            self._writer.shutdown(wait=True)
            for connection in self._connections:
                connection.close()

        await asyncio.get_running_loop().run_in_executor(None, close_all)

    async def _visit(
        self,
        executor: ThreadPoolExecutor,
        begin: str,
        start: Callable[[], Work[T]],
    ) -> T:
        loop = asyncio.get_running_loop()
        try:
            transacting = loop.run_in_executor(executor, self._on_thread, begin, start)
        except RuntimeError as error:
            raise Unavailable("The database has been closed.", code="database-closed") from error
        # Shielded: a cancelled waiter must not leave its transaction half done on the writer's thread.
        return await asyncio.shield(transacting)

    def _on_thread(self, begin: str, start: Callable[[], Work[T]]) -> T:
        try:
            return _transact(self._connection(), begin, start)
        except sqlite3.Error as error:
            raise translated(error) from error

    def _take_write_lock(self) -> None:
        """Whoever keeps it hinders no reader (WAL), so reading alone would not show that we cannot write.

        On a reader's thread: the writer's may be waiting for that lock right now.
        """
        try:
            connection = self._connection()
            connection.execute(f"PRAGMA busy_timeout = {_PING_MS}")
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            finally:
                connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        except sqlite3.Error as error:
            raise translated(error) from error

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
            if self._quick is None:  # made here, since opening a database may wait for others that do
                with contextlib.suppress(sqlite3.Error):
                    self._quick = QuickReads(self._connect_without_waiting())
        return connection

    def _connect_without_waiting(self) -> sqlite3.Connection:
        connection = self._connect()
        connection.execute("PRAGMA busy_timeout = 0")
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            _enter_wal(connection)
            for pragma in _PRAGMAS:
                connection.execute(pragma)
        except BaseException:
            connection.close()
            raise
        connection.row_factory = sqlite3.Row
        self._connections.append(connection)
        return connection


def _enter_wal(connection: sqlite3.Connection) -> None:
    """Write-ahead logging, which the file remembers. SQLite does not wait for others when the file is new and
    several enter it at once, so that is done here."""
    deadline = time.monotonic() + _BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _transact(connection: sqlite3.Connection, begin: str, start: Callable[[], Work[T]]) -> T:
    try:
        connection.execute(begin)
        try:
            result = _drive(connection, start())
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result
    except (OverflowError, UnicodeError) as error:
        raise InternalError(
            "The database cannot take a value that it was given.", code="unstorable-value"
        ) from error


def _drive(connection: sqlite3.Connection, work: Work[T]) -> T:
    """Answer each call the work yields until it returns."""
    rows: list[Any] = []
    try:
        call = next(work)
        while True:
            try:
                if call.sql.only == "postgresql":
                    rows = []
                elif isinstance(call, Call):
                    rows = connection.execute(call.sql.sqlite, call.sql.sqlite_params(call.params)).fetchall()
                else:
                    connection.executemany(call.sql.sqlite, call.rows)
                    rows = []
            except sqlite3.IntegrityError as error:
                call = work.throw(translated(error))
            else:
                call = work.send(rows)
    except StopIteration as finished:
        result: T = finished.value
        return result
    finally:
        work.close()


def translated(error: sqlite3.Error) -> IsocenterError:
    """What happened and what to do about it, in words."""
    name = getattr(error, "sqlite_errorname", "") or type(error).__name__
    if isinstance(error, sqlite3.IntegrityError):
        return IntegrityViolation(f"The database refused the change ({name}).")
    if name.startswith("SQLITE_FULL"):
        return OutOfSpace(
            "The disk that holds the database is full.", remedy="Free space on the data folder's disk."
        )
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return DatabaseUnreachable(
            "The database stayed locked by another process.",
            remedy="End the process that holds isocenter.db open, or wait for it.",
            retry_after_s=5,
        )
    return Unavailable(
        f"The database cannot be used ({name}).",
        remedy="Run 'isocenter doctor'; it names what is wrong with the data folder.",
        retry_after_s=30,
    )
