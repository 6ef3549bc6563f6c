"""From a database URL to a database whose schema is current."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from isocenter.kit.errors import InvalidInput, Unavailable
from isocenter.platform.db import migrations
from isocenter.platform.db.interface import Database
from isocenter.platform.db.postgres import PostgresDatabase
from isocenter.platform.db.sqlite import SqliteDatabase


def sqlite_path(url: str) -> Path | None:
    """The file that a ``sqlite:///path`` URL names (four slashes for an absolute one); None for others."""
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None


async def open_database(url: str, *, migrate: bool = True) -> Database:
    """Open ``sqlite:///path`` or ``postgresql://user:password@host/name``; bring its schema up to date.

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
    if migrate:
        await migrations.upgrade(url)
    return database
