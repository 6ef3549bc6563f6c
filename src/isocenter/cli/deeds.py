"""What most commands are: one deed in one organisation, of which its audit trail hears."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from isocenter.cli.opened import organization_named, with_archive, with_database
from isocenter.cli.witness import Details, operator, witnessed
from isocenter.platform.security import Action, Subject
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.app.archive import Archive
    from isocenter.app.spanning import Spanning
    from isocenter.platform.db import Database

T = TypeVar("T")


class Deed(NamedTuple):
    """What the trail is told: the action, on what kind of thing, which of them."""

    action: Action
    kind: str
    resource_id: str = ""
    details: Details | None = None


def do_in_database(
    loaded: LoadedSettings, org: str, deed: Deed, run: Callable[[Database, Subject], Awaitable[T]]
) -> T:
    """What ``run`` returns, given who runs the command for that organisation (empty: the default one). It
    works while the object store is away. Raises NotFound for the organisation, and what opening raises."""

    async def opened(database: Database) -> T:
        return await _told(database, org, deed, lambda subject: run(database, subject))

    return with_database(loaded, opened)


def do_in_archive(
    loaded: LoadedSettings, org: str, deed: Deed, run: Callable[[Archive, Subject], Awaitable[T]]
) -> T:
    """The same for what needs the objects, too."""

    async def opened(archive: Archive) -> T:
        return await _told(archive.database, org, deed, lambda subject: run(archive, subject))

    return with_archive(loaded, opened)


def do_in_spanning(
    loaded: LoadedSettings, org: str, deed: Deed, run: Callable[[Spanning, Subject], Awaitable[T]]
) -> T:
    """The same for what asks other archives, or says which; the database is enough for it."""

    async def opened(database: Database, subject: Subject) -> T:
        from isocenter.app.spanning import open_spanning

        async with open_spanning(loaded.settings, database) as spanning:
            return await run(spanning, subject)

    return do_in_database(loaded, org, deed, opened)


async def _told(database: Database, org: str, deed: Deed, run: Callable[[Subject], Awaitable[T]]) -> T:
    subject = operator(await organization_named(database, org))
    action, kind, resource_id, details = deed
    return await witnessed(
        database, subject, action, kind, resource_id, details=details, doing=lambda: run(subject)
    )
