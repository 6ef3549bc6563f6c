"""Databases with the archive's schema: made once a run and copied, since migrating takes longer than most
tests."""

from __future__ import annotations

import asyncio
import functools
import itertools
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from isocenter.platform.db import migrations
from services.postgres import APPLICATION, OWNER, Postgres

_TEMPLATE = "archive_template"
_numbers = itertools.count()


@contextmanager
def fresh_url(request: pytest.FixtureRequest, kind: str, folder: Path) -> Iterator[str]:
    """A new database of that kind ("sqlite" or "postgresql") with the current schema.

    On PostgreSQL the tables are another role's, and the URL's role has what migrating gave it.
    """
    if kind == "sqlite":
        yield sqlite_with_schema(folder / "archive.db")
        return
    server: Postgres = request.getfixturevalue("postgres")
    if _TEMPLATE not in server.templates:
        server.make_database(_TEMPLATE, owner=OWNER)
        _migrate(server.url(_TEMPLATE, user=OWNER), application_role=APPLICATION)
        server.templates.add(_TEMPLATE)
    name = f"archive_{next(_numbers)}"
    server.make_database(name, owner=OWNER, template=_TEMPLATE)
    try:
        yield server.url(name, user=APPLICATION)
    finally:
        server.drop_database(name)


def sqlite_with_schema(path: Path) -> str:
    """The URL of a new database file; one that is there stays as it is."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(_sqlite_template())
    return f"sqlite:///{path}"


@functools.cache
def _sqlite_template() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "archive.db"
        _migrate(f"sqlite:///{path}")
        return path.read_bytes()


def _migrate(url: str, application_role: str = "") -> None:
    """In a thread, since the caller may be on an event loop."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(
            lambda: asyncio.run(migrations.upgrade(url, application_role=application_role))
        ).result()
