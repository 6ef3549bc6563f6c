"""From a database URL to a database whose schema is current."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from isocenter.kit.errors import InvalidInput, IsocenterError, Unavailable
from isocenter.platform.db import migrations
from isocenter.platform.db.interface import Database
from isocenter.platform.db.postgres import PostgresDatabase
from isocenter.platform.db.sql import Sql, Work
from isocenter.platform.db.sqlite import SqliteDatabase

_VERSIONS = Path(migrations.__file__).parent / "versions"
NEWEST_REVISION = max(path.name.partition("_")[0] for path in _VERSIONS.glob("[0-9]*_*.py"))
"""Revisions are numbered, and their files are named after them (a test compares it with Alembic's head)."""

FIND_REVISION = Sql("SELECT version_num FROM alembic_version")


def sqlite_path(url: str) -> Path | None:
    """The file that a ``sqlite:///path`` URL names (four slashes for an absolute one); None for others."""
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None


async def open_database(url: str, *, migrate: bool = True, migration_url: str = "") -> Database:
    """Open ``sqlite:///path`` or ``postgresql://user:password@host/name``; bring its schema up to date.

    ``migration_url`` names the role that owns the tables, where that is not the one that works on them.
    Raises InvalidInput for another URL, Unavailable when the database cannot be reached or was written by
    a newer Isocenter than this one.
    """
    database: Database
    if path := sqlite_path(url):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(
                f"The database's folder {path.parent} cannot be made ({error.strerror}).",
                remedy="Choose another --data-dir or make the folder writable.",
            ) from error
        database = SqliteDatabase(path)
    elif urlsplit(url).scheme in {"postgresql", "postgres"}:
        database = PostgresDatabase(url)
    else:
        raise InvalidInput(
            f"The database URL's scheme {urlsplit(url).scheme!r} is not known.",
            remedy="Use sqlite:///path/isocenter.db or postgresql://user:password@host/name.",
        )
    try:
        if migrate and not await _is_current(database):
            role = unquote(urlsplit(url).username or "") if migration_url else ""
            await migrations.upgrade(migration_url or url, application_role=role)
    except BaseException:
        await database.close()
        raise
    return database


async def _is_current(database: Database) -> bool:
    """The usual case, without importing Alembic, which takes a command most of its time."""
    try:
        return await database.read_across(_revision) == NEWEST_REVISION
    except IsocenterError:
        return False  # new, or out of reach: the migration says which


def _revision() -> Work[str]:
    rows = yield FIND_REVISION()
    return str(rows[0][0]) if rows else ""
