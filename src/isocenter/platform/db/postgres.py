"""PostgreSQL through asyncpg: a pool, one transaction per unit of work, deadlocks tried again.

Each transaction says whose it is (``row_security.py``); the server then shows it nothing of anybody else's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any, Concatenate, Literal, TypeVar

import asyncpg

from isocenter.kit.errors import InternalError, IsocenterError, OutOfSpace, Unavailable
from isocenter.platform.db.interface import DatabaseUnreachable, IntegrityViolation, P
from isocenter.platform.db.row_security import ALL_ORGANIZATIONS, SETTING
from isocenter.platform.db.sql import Call, Row, Work, composed

T = TypeVar("T")
_ATTEMPTS = 5
_CONNECTION_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the pool's reset met a connection that died in the middle of a query
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


_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_WRITE = "BEGIN ISOLATION LEVEL READ COMMITTED"


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
        work: Callable[Concatenate[int, P], Work[T]],
        organization_id: int,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._attempt(
            lambda: work(organization_id, *args, **kwargs), _READ, f"{organization_id:d}"
        )

    async def write(
        self,
        work: Callable[Concatenate[int, P], Work[T]],
        organization_id: int,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._attempt(
            lambda: work(organization_id, *args, **kwargs), _WRITE, f"{organization_id:d}"
        )

    async def read_across(
        self,
        work: Callable[P, Work[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._attempt(lambda: work(*args, **kwargs), _READ, ALL_ORGANIZATIONS)

    async def write_across(
        self,
        work: Callable[P, Work[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._attempt(lambda: work(*args, **kwargs), _WRITE, ALL_ORGANIZATIONS)

    async def ping(self) -> None:
        def select_one() -> Work[None]:
            yield composed("SELECT 1")()

        await self.read_across(select_one)

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()
            self._pool = None

    async def _attempt(
        self,
        start: Callable[[], Work[T]],
        begin: str,
        whose: str,
    ) -> T:
        timeout_s = self._read_timeout_s if begin is _READ else self._write_timeout_s
        begin = f"{begin}; SET LOCAL {SETTING} = '{whose}'"  # one message: round trips are what units cost
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                pool = await self._open()
                async with (
                    pool.acquire(timeout=10) as connection,
                    _transaction(connection, begin, timeout_s),
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
async def _transaction(connection: Any, begin: str, timeout_s: float) -> AsyncIterator[None]:
    """Committed at the end, rolled back after an error. Either forgets whose it was (``SET LOCAL``), so a
    connection goes back to the pool as nobody's."""
    try:
        await connection.execute(begin, timeout=timeout_s)
        yield
        await connection.execute("COMMIT", timeout=timeout_s)
    except TimeoutError:
        # After a time-out a good-bye would take one more, and the pool another before it took it back.
        connection.terminate()
        raise
    except BaseException:
        if not connection.is_closed():
            await connection.execute("ROLLBACK", timeout=timeout_s)
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
