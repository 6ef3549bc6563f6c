"""PostgreSQL as Debian ships it, in a data directory of its own.

What tests kill are processes, so nothing is synced: what a process wrote is there afterwards.

Its databases are given out under roles for which row-level security holds, as an operator should have it: so
every test shows that the archive needs no more.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from services.packages import find_program
from services.processes import Process, ServiceFailed, free_ports, run_to_end

START_ATTEMPTS_MAX = 3
OWNER = "tests_owner"
"""Migrates."""
APPLICATION = "tests_app"
"""Works: no superuser, without BYPASSRLS."""


def find_bin() -> Path:
    newest_first = sorted(
        Path("/usr/lib/postgresql").glob("[0-9]*/bin"), key=lambda path: -int(path.parent.name)
    )
    return find_program("initdb", "postgresql-15", *map(str, newest_first)).resolve().parent


class Postgres:
    def __init__(self, folder: Path) -> None:
        """Makes the cluster and starts it; about a second."""
        self._bin = find_bin()
        self._user = "postgres" if os.getuid() == 0 else None
        self._folder = folder
        self._numbers = itertools.count(1)
        self.templates: set[str] = set()
        """Databases that others are copies of."""

        folder.mkdir()
        if self._user:
            shutil.chown(folder, self._user, self._user)
        self._tool(
            "initdb",
            "-D",
            folder / "data",
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "-N",
        )
        for attempt in range(START_ATTEMPTS_MAX):
            (self.port,) = free_ports(1)
            try:
                self._process = self._start()
                break
            except ServiceFailed:  # somebody else may have taken the port meanwhile
                if attempt + 1 == START_ATTEMPTS_MAX:
                    raise
        for role in (OWNER, APPLICATION):
            self.sql(f"CREATE ROLE {role} LOGIN NOSUPERUSER NOBYPASSRLS")
        self._superuser = Superuser(self.url())

    def _start(self) -> Process:
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self._folder,
            "max_connections": 200,
            "shared_buffers": "64MB",
            "max_wal_size": "256MB",
            "autovacuum": "off",
            "fsync": "off",
        }
        process = Process(
            [
                self._bin / "postgres",
                "-D",
                self._folder / "data",
                *(f"--{key}={value}" for key, value in settings.items()),
            ],
            log=self._folder / "postgres.log",
            user=self._user,
            stop_signal=signal.SIGINT,  # "fast shutdown": does not wait for clients
        )
        try:
            process.wait_until(self._answers, "answer to pg_isready")
        except ServiceFailed:
            process.stop()
            raise
        return process

    def _answers(self) -> bool:
        try:
            self._tool("pg_isready", "-q", "-h", "127.0.0.1", "-p", self.port)
        except ServiceFailed:
            return False
        return True

    def url(self, database: str = "postgres", *, user: str = "postgres") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def sql(self, statement: str, *, database: str = "postgres") -> str:
        """Runs it as the superuser; what psql printed, without decoration."""
        return self.sql_as("postgres", statement, database=database)

    def sql_as(self, user: str, statement: str, *, database: str) -> str:
        url = self.url(database, user=user)
        return self._tool("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", statement)

    @contextmanager
    def fresh_database(self) -> Iterator[str]:
        """The URL of a new, empty database, owned by the role that works on it (`FORCE` holds that role too);
        it is dropped afterwards, whoever is still connected."""
        name = f"test_{next(self._numbers)}"
        self.make_database(name, owner=APPLICATION)
        try:
            yield self.url(name, user=APPLICATION)
        finally:
            self.drop_database(name)

    def make_database(self, name: str, *, owner: str, template: str = "template1") -> None:
        self._superuser.run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY OWNER {owner}")

    def drop_database(self, name: str) -> None:
        """Whoever is still connected."""
        self._superuser.run(f"DROP DATABASE {name} WITH (FORCE)")

    def restart(self) -> None:
        """Ends all connections and comes back on the same port, as after an update."""
        self._process.stop()
        self._process = self._start()

    def stop(self) -> None:
        self._process.stop()

    def start(self) -> None:
        """After :meth:`stop`; on the same port."""
        self._process = self._start()

    def close(self) -> None:
        self._superuser.close()
        self.stop()

    def _tool(self, name: str, *args: str | int | Path) -> str:
        return run_to_end([self._bin / name, *map(str, args)], user=self._user)


_GONE = asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError, asyncpg.InterfaceError


class Superuser:
    """A connection that stays: a start of psql takes longer than what it is to do. Usable on and off event
    loops."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._loop = asyncio.new_event_loop()
        self._thread = ThreadPoolExecutor(1)
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    def run(self, statement: str) -> None:
        self._thread.submit(self._loop.run_until_complete, self._run(statement)).result()

    async def _run(self, statement: str) -> None:
        try:
            await (await self._connected()).execute(statement)
        except (*_GONE, ConnectionError):
            await self._end()  # the server was restarted meanwhile
            await (await self._connected()).execute(statement)

    async def _connected(self) -> asyncpg.Connection[asyncpg.Record]:
        if self._connection is None:
            self._connection = await asyncpg.connect(self._url)
        return self._connection

    async def _end(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
            await asyncio.sleep(0)  # what it has of the machine goes in the loop's next round

    def close(self) -> None:
        self._thread.submit(self._loop.run_until_complete, self._end()).result()
        self._thread.shutdown()
        self._loop.close()
