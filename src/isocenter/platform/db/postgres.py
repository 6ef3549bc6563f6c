"""PostgreSQL through asyncpg: a pool, one transaction per unit of work, deadlocks tried again."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal, TypeVar

import asyncpg

from isocenter.kit.errors import InternalError, IsocenterError, OutOfSpace, Unavailable
from isocenter.platform.db.interface import DatabaseUnreachable, IntegrityViolation, P
from isocenter.platform.db.sql import Call, Row, Work, composed

T = TypeVar("T")
_ATTEMPTS = 5
_CONNECTION_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    OSError,
    ssl.SSLError,
    TimeoutError,
)


class PostgresDatabase:
    dialect: Literal["sqlite", "postgresql"] = "postgresql"

    def __init__(
        self, url: str, *, pool_max: int = 12, read_timeout_s: float = 60.0, write_timeout_s: float = 8.0
    ) -> None:
        """``write_timeout_s``: how long one statement of a write may take. A sender waits for it, and a
        database whose machine hangs says nothing; a search may think longer."""
        self._url = url
        self._pool_max = pool_max
        self._read_timeout_s = read_timeout_s
        self._write_timeout_s = write_timeout_s
        self._pool: asyncpg.Pool[Any] | None = None
        self._opening = asyncio.Lock()

    async def read(
        self,
        work: Callable[P, Work[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._attempt(lambda: work(*args, **kwargs), isolation="repeatable_read", readonly=True)

    async def write(
        self,
        work: Callable[P, Work[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._attempt(lambda: work(*args, **kwargs), isolation="read_committed", readonly=False)

    async def read_across(
        self,
        work: Callable[P, Work[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self.read(work, *args, **kwargs)

    async def write_across(
        self,
        work: Callable[P, Work[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self.write(work, *args, **kwargs)

    async def ping(self) -> None:
        def select_one() -> Work[None]:
            yield composed("SELECT 1")()

        await self.read(select_one)

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()
            self._pool = None

    async def _attempt(
        self,
        start: Callable[[], Work[T]],
        *,
        isolation: Literal["read_committed", "repeatable_read"],
        readonly: bool,
    ) -> T:
        timeout_s = self._read_timeout_s if readonly else self._write_timeout_s
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                pool = await self._open()
                async with (
                    pool.acquire(timeout=10) as connection,
                    _hung_up_on_if_silent(connection),
                    connection.transaction(isolation=isolation, readonly=readonly),
                ):
                    return await _drive(connection, start(), timeout_s)
            except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError) as error:
                if attempt == _ATTEMPTS:
                    raise Unavailable(
                        "The database could not settle competing changes.", retry_after_s=1
                    ) from error
            except asyncpg.PostgresError as error:
                raise _translated(error) from error
            except _CONNECTION_LOST as error:
                raise _unreachable(error) from error
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _open(self) -> asyncpg.Pool[Any]:
        """The pool, made on first use: a database that is down at start may come up later."""
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._url,
                    min_size=1,
                    max_size=self._pool_max,
                    command_timeout=self._write_timeout_s,
                    timeout=10,
                    server_settings={"application_name": "isocenter"},
                )
            return self._pool


@contextlib.asynccontextmanager
async def _hung_up_on_if_silent(connection: Any) -> AsyncIterator[None]:
    """After a time-out a good-bye would take one more, and the pool another before it took it back."""
    try:
        yield
    except TimeoutError:
        connection.terminate()
        raise


async def _drive(connection: Any, work: Work[T], timeout_s: float) -> T:
    """Answer each call the work yields until it returns."""
    try:
        call = next(work)
        while True:
            rows: list[Row] = []
            if call.sql.only == "sqlite":
                pass
            elif isinstance(call, Call):
                rows = await connection.fetch(
                    call.sql.postgres, *call.sql.postgres_params(call.params), timeout=timeout_s
                )
            else:
                await connection.executemany(
                    call.sql.postgres, [call.sql.postgres_params(row) for row in call.rows], timeout=timeout_s
                )
            call = work.send(rows)
    except StopIteration as finished:
        result: T = finished.value
        return result
    finally:
        work.close()


def _translated(error: asyncpg.PostgresError) -> IsocenterError:
    state = error.sqlstate or ""
    if state.startswith("23"):
        return IntegrityViolation(f"The database refused the change (SQLSTATE {state}).")
    if state.startswith("22") or isinstance(error, asyncpg.DataError):
        return InternalError("The database cannot take a value that it was given.", code="unstorable-value")
    if state == "53100":
        return OutOfSpace(
            "The disk that holds the database is full.",
            remedy="Free space on the PostgreSQL server's disk.",
        )
    if isinstance(error, _CONNECTION_LOST):
        return _unreachable(error)
    return Unavailable(
        f"The database failed (SQLSTATE {state}).",
        remedy="The PostgreSQL server's log of this minute says why.",
        retry_after_s=10,
    )


def _unreachable(error: BaseException) -> DatabaseUnreachable:
    return DatabaseUnreachable(
        f"The PostgreSQL database cannot be reached ({type(error).__name__}).",
        remedy="Check that it runs and that --database-url is right; 'isocenter doctor' tries it.",
        retry_after_s=10,
    )
