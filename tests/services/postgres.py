"""PostgreSQL as Debian ships it, in a data directory of its own, as durable as in production.

Its databases are given out under roles for which row-level security holds, as an operator should have it: so
every test shows that the archive needs no more.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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

    def _start(self) -> Process:
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self._folder,
            "max_connections": 200,
            "shared_buffers": "64MB",
            "max_wal_size": "256MB",
            "autovacuum": "off",
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
        self.sql(f"CREATE DATABASE {name} OWNER {APPLICATION}")
        try:
            yield self.url(name, user=APPLICATION)
        finally:
            self.sql(f"DROP DATABASE {name} WITH (FORCE)")

    def restart(self) -> None:
        """Ends all connections and comes back on the same port, as after an update."""
        self._process.stop()
        self._process = self._start()

    def stop(self) -> None:
        self._process.stop()

    def start(self) -> None:
        """After :meth:`stop`; on the same port."""
        self._process = self._start()

    def _tool(self, name: str, *args: str | int | Path) -> str:
        return run_to_end([self._bin / name, *map(str, args)], user=self._user)
