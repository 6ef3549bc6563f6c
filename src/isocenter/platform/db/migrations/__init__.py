"""Bringing a database's schema up to date (Alembic), and telling how far it is."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isocenter.kit.errors import Unavailable
from isocenter.platform.db.row_security import ALL_ORGANIZATIONS, SETTING, grants_to
from isocenter.platform.db.sqlite import translated

if TYPE_CHECKING:
    import sqlalchemy as sa
    from alembic.config import Config

_FOLDER = Path(__file__).parent
_INSUFFICIENT_PRIVILEGE = "42501"


@dataclass(frozen=True, slots=True)
class MigrationState:
    """``current`` is the revision in the database (empty: none yet), ``head`` the newest one known here."""

    current: str
    head: str
    known: bool

    @property
    def behind(self) -> bool:
        return self.known and self.current != self.head

    @property
    def ahead(self) -> bool:
        """Written by a newer Isocenter: its revision is not among ours."""
        return not self.known


async def upgrade(url: str, *, application_role: str = "") -> None:
    """Apply what is missing; on PostgreSQL give ``application_role``, where that is not the one of ``url``,
    what it needs to work on the tables.

    Raises Unavailable when the database is out of reach, newer than us or not for this role to change,
    OutOfSpace when its disk is full.
    """
    current = await state(url)
    if current.ahead:
        raise Unavailable(
            f"The database's schema ({current.current}) was written by a newer Isocenter.",
            remedy="Run that newer version, or point --database-url at another database.",
        )
    if current.behind or application_role:
        await asyncio.to_thread(_run, url, "upgrade", application_role)


async def state(url: str) -> MigrationState:
    """How the database at ``url`` stands. Raises Unavailable when it cannot be reached."""
    found: MigrationState = await asyncio.to_thread(_run, url, "state")
    return found


def _run(url: str, what: str, application_role: str = "") -> Any:
    """Alembic is synchronous and slow to import: it works in a thread and only when it is needed."""
    import sqlalchemy as sa
    from alembic import command
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from sqlalchemy.ext.asyncio import create_async_engine

    config = _config()
    scripts = ScriptDirectory.from_config(config)
    head = scripts.get_current_head() or ""

    def on_connection(connection: sa.Connection) -> MigrationState | None:
        if what == "upgrade":
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            return None
        current = MigrationContext.configure(connection).get_current_revision() or ""
        revisions = {revision.revision for revision in scripts.walk_revisions()}
        return MigrationState(current, head, known=current in revisions | {""})

    try:
        if url.startswith("sqlite:"):
            engine = sa.create_engine(url, connect_args={"timeout": 30, "isolation_level": None})
            # The driver by itself begins no transaction before a CREATE TABLE: a start that is killed would
            # leave half a schema, and two at once would trip over each other. The second waits here.
            begin = "BEGIN IMMEDIATE" if what == "upgrade" else "BEGIN"
            sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
            try:
                with engine.begin() as connection:
                    return on_connection(connection)
            finally:
                engine.dispose()

        async def on_postgres() -> MigrationState | None:
            _, _, rest = url.partition("://")
            async_engine = create_async_engine(f"postgresql+asyncpg://{rest}")
            try:
                async with async_engine.begin() as connection:
                    if what == "upgrade":
                        # Two processes starting at once: the second waits here and then finds nothing to do.
                        await connection.execute(sa.text("SELECT pg_advisory_xact_lock(731905)"))
                        # The owner's own policies hold for it too, and a migration is everybody's.
                        await connection.exec_driver_sql(f"SET LOCAL {SETTING} = '{ALL_ORGANIZATIONS}'")
                    found = await connection.run_sync(on_connection)
                    if application_role:
                        await connection.run_sync(lambda held: _grant(held, application_role))
                    return found
            finally:
                await async_engine.dispose()

        return asyncio.run(on_postgres())
    except (sa.exc.DBAPIError, OSError) as error:
        if isinstance(error, sa.exc.DBAPIError) and isinstance(error.orig, sqlite3.Error):
            raise translated(error.orig) from error
        if getattr(getattr(error, "orig", None), "sqlstate", "") == _INSUFFICIENT_PRIVILEGE:
            raise Unavailable(
                "The database's role may not read or change its schema.",
                remedy="Name the role that owns the tables in --database-migration-url; docs/postgresql.md "
                "has the SQL for both roles.",
            ) from error
        raise Unavailable(
            f"The database cannot be reached ({type(error).__name__}).",
            remedy="Check --database-url and that the database runs and may be written to.",
            retry_after_s=10,
        ) from error


def _grant(connection: sa.Connection, role: str) -> None:
    quoted = connection.dialect.identifier_preparer.quote_identifier
    schema = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
    if connection.exec_driver_sql("SELECT current_user").scalar_one() != role:
        for statement in grants_to(quoted(role), quoted(schema)):
            connection.exec_driver_sql(statement)


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    return config
