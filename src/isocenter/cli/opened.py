"""Commands that work on what is kept, beside a running server or without one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from isocenter.kit.errors import NotFound
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.app.archive import Archive
    from isocenter.platform.db import Database, Row, Work

T = TypeVar("T")

DEFAULT_ORGANIZATION = 1
"""The one of isocenter.app.server, without importing the servers for it."""


def with_archive(loaded: LoadedSettings, run: Callable[[Archive], Awaitable[T]]) -> T:
    """What ``run`` returns for the open archive; it is closed afterwards. Raises what opening raises."""
    import uvloop

    from isocenter.app.archive import open_archive

    async def opened() -> T:
        async with open_archive(loaded.settings) as archive:
            return await run(archive)

    return uvloop.run(opened())


def with_database(loaded: LoadedSettings, run: Callable[[Database], Awaitable[T]]) -> T:
    """The same for commands that need the database alone: they work while the object store is away."""
    import uvloop

    from isocenter.platform.db import open_database

    async def opened() -> T:
        database = await open_database(
            loaded.settings.database_url_or_default, migration_url=loaded.settings.database_migration_url
        )
        try:
            return await run(database)
        finally:
            await database.close()

    return uvloop.run(opened())


async def organization_named(database: Database, slug: str) -> int:
    """The number of the organisation with that short name; empty: the default one. Raises NotFound."""
    if not slug:
        return DEFAULT_ORGANIZATION
    rows = await database.read_across(_find_organization, slug)
    if not rows:
        raise NotFound(f"There is no organisation called {slug[:64]!r}.", code="organization-not-found")
    return int(rows[0][0])


async def organizations_named(database: Database, slug: str) -> list[tuple[int, str]]:
    """Number and short name of that organisation; empty: of all. Raises NotFound."""
    if slug:
        return [(await organization_named(database, slug), slug)]
    return await database.read_across(_list_organizations)


def _list_organizations() -> Work[list[tuple[int, str]]]:
    from isocenter.platform.db import Sql

    rows = yield Sql("SELECT id, slug FROM organization ORDER BY id")()
    return [(row["id"], row["slug"]) for row in rows]


def _find_organization(slug: str) -> Work[list[Row]]:
    from isocenter.platform.db import Sql

    return (yield Sql("SELECT id FROM organization WHERE slug = :slug")(slug=slug))


def named(org: str) -> str:
    """What a command that is shown has to say of the organisation."""
    return f" --org {org}" if org else ""


def moment(at_us: int) -> str:
    """A time of the database for people, in UTC."""
    return datetime.fromtimestamp(at_us / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
