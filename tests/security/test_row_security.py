"""PostgreSQL keeps organisations apart even where our own statements forget to (MISSION A9).

Everything here leaves the filters out on purpose, for every table that there is, under the two ways to set up
roles: one role that owns the tables and works on them, and one that only works on them.
"""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

import isocenter.features
from isocenter.cli.doctor import services
from isocenter.cli.doctor.findings import Verdict
from isocenter.kit.errors import IsocenterError, Unavailable
from isocenter.platform.db import Database, Work, composed, open_database
from isocenter.platform.db.postgres import PostgresDatabase
from isocenter.platform.db.types import metadata
from isocenter.platform.settings import Settings
from services.postgres import APPLICATION, OWNER, Postgres
from services.schema import fresh_url

for _feature in pkgutil.iter_modules(isocenter.features.__path__, "isocenter.features."):
    if importlib.util.find_spec(f"{_feature.name}.tables"):
        importlib.import_module(f"{_feature.name}.tables")

REPOSITORY = Path(__file__).resolve().parents[2]
OURS, THEIRS = 1, 2
TABLES = [table for table in metadata.sorted_tables if "organization_id" in table.columns]
NAMES = [table.name for table in TABLES]
_POLICY = {"42501"}
"""SQLSTATE of what a policy refuses, and nothing else here."""
_APPEND_ONLY = {"23001"}
"""A table that only grows says so by a trigger, which speaks before its policy does."""


@pytest.fixture(params=["one role", "two roles"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "one role":
        yield request.getfixturevalue("postgres_url")
        return
    with fresh_url(request, "postgresql", tmp_path) as made:
        yield made


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """Two organisations with a row in every table."""
    opened = await open_database(url)
    await opened.write_across(_make_theirs)
    for organization_id in (OURS, THEIRS):
        await opened.write(_fill, organization_id)
    yield opened
    await opened.close()


def _make_theirs() -> Work[None]:
    yield composed(
        "INSERT INTO organization (id, slug, created_at_us) OVERRIDING SYSTEM VALUE VALUES (2, 'theirs', 0)"
    )()


def _fill(organization_id: int) -> Work[None]:
    """One row in each table, parents first."""
    made: dict[str, int] = {}
    for table in TABLES:
        rows = yield _insert(table, organization_id, made)
        made[table.name] = rows[0][0]


def _insert(table: sa.Table, organization_id: int, made: dict[str, int]) -> Any:
    values: dict[str, Any] = {}
    for column in table.columns:
        if column.name == "organization_id":
            values[column.name] = organization_id
        elif column.foreign_keys:
            [key] = column.foreign_keys
            if key.column.table is not table:  # a row's own kind: merged patients; there is none yet
                values[column.name] = made[key.column.table.name]
        elif not (column.nullable or column.server_default or column.identity):
            number = isinstance(column.type, sa.Integer)
            values[column.name] = organization_id if number else f"of {organization_id}"
    names, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
    first = next(iter(table.primary_key.columns)).name
    text = f"INSERT INTO {table.name} ({names}) VALUES ({marks}) RETURNING {first}"
    return composed(text)(**values)


def _all_rows(_organization_id: int, table: str) -> Work[list[tuple[Any, ...]]]:
    rows: Any = yield composed(f"SELECT * FROM {table} ORDER BY organization_id")()
    return [tuple(row) for row in rows]


def _organizations_in(_organization_id: int, table: str, tail: str = "") -> Work[list[int]]:
    rows = yield composed(f"SELECT organization_id FROM {table}{tail}")()
    return [row[0] for row in rows]


class _Undone(Exception):
    """Takes a unit of work back after it has told what it did."""


def _change(_organization_id: int, text: str, told: list[int]) -> Work[None]:
    rows = yield composed(text)()
    told += [row[0] for row in rows]
    raise _Undone


# --- every table is protected ----------------------------------------------------------------------------


def test_every_table_of_an_organisation_is_under_forced_row_security(
    postgres: Postgres, database: Database, url: str
) -> None:
    """Asked of the catalogue, so a table of tomorrow without a policy fails here."""
    rows = postgres.sql(
        "SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity, p.polcmd, p.polpermissive,"
        " p.polqual IS NOT NULL, p.polwithcheck IS NOT NULL, 0 = ANY (p.polroles)"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'organization_id'"
        " LEFT JOIN pg_policy p ON p.polrelid = c.oid"
        " WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p')",
        database=url.rpartition("/")[2],
    )
    found = dict(row.split("|", 1) for row in rows.split())
    # Of a table that is kept in parts only the whole is declared; the parts are looked at all the same.
    assert {name for name in found if not name.startswith("spanner_query_log_")} == set(NAMES)
    assert {name for name, told in found.items() if told != "t|t|*|t|t|t|t"} == set()


def test_the_roles_of_these_tests_are_ones_that_policies_hold_back(postgres: Postgres) -> None:
    told = postgres.sql(
        "SELECT rolname, rolsuper, rolbypassrls FROM pg_roles"
        f" WHERE rolname IN ('{OWNER}', '{APPLICATION}') ORDER BY 1"
    )
    assert told.split() == [f"{APPLICATION}|f|f", f"{OWNER}|f|f"]


# --- without our filters ---------------------------------------------------------------------------------


async def test_nothing_of_another_organisation_is_seen(database: Database) -> None:
    for organization_id in (OURS, THEIRS):
        other = THEIRS if organization_id == OURS else OURS
        for name in NAMES:
            assert await database.read(_organizations_in, organization_id, name) == [organization_id], name
            wrong = f" WHERE organization_id = {other}"
            assert await database.read(_organizations_in, organization_id, name, wrong) == [], name


async def test_an_organisation_that_is_not_there_sees_nothing(database: Database) -> None:
    for name in NAMES:
        for nobody in (0, 3, -1):
            assert await database.read(_organizations_in, nobody, name) == [], name


async def test_work_across_sees_both(database: Database) -> None:
    for name in NAMES:
        assert sorted(await database.read_across(_organizations_in, 0, name)) == [OURS, THEIRS], name


async def test_nothing_of_another_organisation_is_changed_or_deleted(database: Database) -> None:
    for name in reversed(NAMES):
        before = await database.read_across(_all_rows, 0, name)
        for text in (
            f"UPDATE {name} SET organization_id = organization_id RETURNING organization_id",
            f"UPDATE {name} SET organization_id = organization_id WHERE organization_id = 2"
            " RETURNING organization_id",
            f"DELETE FROM {name} RETURNING organization_id",
        ):
            told: list[int] = []
            # Refused altogether is as good: rows that others refer to, or a table that only grows.
            with pytest.raises((_Undone, IsocenterError)):
                await database.write(_change, OURS, text, told)
            assert set(told) <= {OURS}, text
        assert await database.read_across(_all_rows, 0, name) == before


async def test_no_row_is_made_for_or_given_to_another_organisation(database: Database) -> None:
    for table in TABLES:
        before = await database.read_across(_all_rows, 0, table.name)
        for work, by in ((_make_for_them, _POLICY), (_give_them_ours, _POLICY | _APPEND_ONLY)):
            with pytest.raises(IsocenterError) as refused:
                await database.write(work, OURS, table)
            assert by.intersection(refused.value.detail.replace(")", " ").split()), table.name
        assert await database.read_across(_all_rows, 0, table.name) == before


def _make_for_them(_organization_id: int, table: sa.Table) -> Work[None]:
    parents: dict[str, int] = {}
    for key in table.foreign_keys:
        parent = key.column.table.name
        if parent != "organization":
            rows = yield composed(f"SELECT id FROM {parent}")()
            parents[parent] = rows[0][0]
    yield _insert(table, THEIRS, parents)


def _give_them_ours(_organization_id: int, table: sa.Table) -> Work[None]:
    yield composed(f"UPDATE {table.name} SET organization_id = 2")()


# --- who says nothing ------------------------------------------------------------------------------------


async def _plainly(database: Database, text: str) -> Any:
    """On a connection of the pool, in no unit of work."""
    assert isinstance(database, PostgresDatabase)
    pool = await database._open()
    async with pool.acquire() as connection:
        return await connection.fetchval(text)


async def test_a_connection_back_in_the_pool_is_nobodys(
    url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the end of its transaction, without the clearing up that the pool does as well."""

    async def reset_nothing(_connection: Any, **_options: Any) -> None:
        """Whatever a unit of work left behind would be there for the next."""

    monkeypatch.setattr(asyncpg.Connection, "reset", reset_nothing)
    alone = PostgresDatabase(url, pool_max=1)

    async def nobody() -> None:
        assert await _plainly(alone, "SELECT current_setting('isocenter.organization_id', true)") in (
            None,
            "",
        )
        for name in NAMES:
            assert await _plainly(alone, f"SELECT count(*) FROM {name}") == 0, name

    def fails(_organization_id: int) -> Work[None]:
        yield composed("SELECT count(*) FROM study")()
        raise _Undone

    def hangs(_organization_id: int) -> Work[None]:
        yield composed("SELECT pg_advisory_xact_lock(4711)")()

    try:
        await nobody()
        assert await alone.read(_organizations_in, OURS, "study") == [OURS]
        await nobody()
        await alone.write(_organizations_in, THEIRS, "study")
        await nobody()
        await alone.read_across(_organizations_in, 0, "study")
        await nobody()
        with pytest.raises(_Undone):
            await alone.write(fails, OURS)
        await nobody()
        await _cancelled_while_waiting(database, alone.write(hangs, OURS))
        await nobody()
    finally:
        await alone.close()


async def _cancelled_while_waiting(other: Database, work: Any) -> None:
    """``work`` waits for a lock that ``other`` holds, and is given up."""
    held, let_go = asyncio.Event(), asyncio.Event()
    assert isinstance(other, PostgresDatabase)
    pool = await other._open()

    async def hold() -> None:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(4711)")
            held.set()
            await let_go.wait()

    holding = asyncio.create_task(hold())
    await held.wait()
    waiting = asyncio.create_task(work)
    async with pool.acquire() as connection:
        while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            pass  # each look is a round trip to the server
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    let_go.set()
    await holding


async def test_what_is_no_organisation_shows_nothing(database: Database) -> None:
    assert isinstance(database, PostgresDatabase)
    pool = await database._open()
    async with pool.acquire() as connection:
        for said in ("", "ALL", "all ", "1 OR true", "x", "-1", "\uff11"):
            async with connection.transaction():
                await connection.execute("SELECT set_config('isocenter.organization_id', $1, true)", said)
                for name in NAMES:
                    assert await connection.fetchval(f"SELECT count(*) FROM {name}") == 0, said


async def test_an_organisation_is_a_number_and_nothing_else(database: Database) -> None:
    bad: Any
    for bad in ("1'; SET LOCAL isocenter.organization_id = 'all", "all", 1.5, None):
        with pytest.raises((ValueError, TypeError)):
            await database.read(_organizations_in, bad, "study")


# --- the roles -------------------------------------------------------------------------------------------


def test_the_doctor_says_when_the_role_is_held_back_by_nothing(
    postgres: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    name = postgres_url.rpartition("/")[2]
    asyncio.run(_opened_and_closed(postgres_url))

    def found(user: str) -> Any:
        settings = Settings(data_dir=tmp_path, database_url=postgres.url(name, user=user))
        [_, organisations] = services.database(settings)
        return organisations

    assert found(APPLICATION).verdict is Verdict.GOOD
    superuser = found("postgres")
    assert superuser.verdict is Verdict.BAD and "superuser" in superuser.says and superuser.remedy
    with _role(postgres, "tests_bypassing", "BYPASSRLS"):
        postgres.sql("GRANT pg_read_all_data TO tests_bypassing")
        assert found("tests_bypassing").verdict is Verdict.BAD
    postgres.sql("ALTER TABLE series NO FORCE ROW LEVEL SECURITY", database=name)
    unforced = found(APPLICATION)
    assert unforced.verdict is Verdict.BAD and "series" in unforced.says and "study" not in unforced.says


async def _opened_and_closed(url: str, **more: Any) -> None:
    await (await open_database(url, **more)).close()


@contextmanager
def _role(postgres: Postgres, name: str, *options: str) -> Iterator[None]:
    postgres.sql(f"CREATE ROLE {name} LOGIN {' '.join(options)}")
    try:
        yield
    finally:
        postgres.sql(f"DROP ROLE {name}")


async def test_the_application_needs_the_owner_once(postgres: Postgres) -> None:
    """On a database that only the owner may change; then the application may do its work and no more."""
    postgres.sql(f"CREATE DATABASE two_roles OWNER {OWNER}")
    try:
        application = postgres.url("two_roles", user=APPLICATION)
        owner = postgres.url("two_roles", user=OWNER)
        with pytest.raises(Unavailable) as refused:
            await open_database(application)
        assert "--database-migration-url" in refused.value.remedy
        await _opened_and_closed(application, migration_url=owner)
        database = await open_database(application)
        try:
            await database.write_across(_make_theirs)
            await database.write(_fill, THEIRS)
            for text in (
                "CREATE TABLE mine (x int)",
                "TRUNCATE change_feed",
                "DROP POLICY own_organization ON study",
                "ALTER TABLE study DISABLE ROW LEVEL SECURITY",
                "UPDATE alembic_version SET version_num = '0001'",
            ):
                with pytest.raises(IsocenterError):
                    await database.write_across(_change, 0, text, [])
        finally:
            await database.close()
        # A table that a later migration makes comes with what the application needs.
        postgres.sql(f"SET ROLE {OWNER}; CREATE TABLE later (x int)", database="two_roles")
        privileges = postgres.sql(
            f"SELECT has_table_privilege('{APPLICATION}', 'later', 'SELECT, INSERT, UPDATE, DELETE')",
            database="two_roles",
        )
        assert privileges.strip() == "t"
    finally:
        postgres.sql("DROP DATABASE two_roles WITH (FORCE)")


async def test_from_one_role_to_two(postgres: Postgres, postgres_url: str) -> None:
    """As docs/postgresql.md says: the tables change hands, and the next start grants what is needed."""
    name = postgres_url.rpartition("/")[2]
    await _opened_and_closed(postgres_url)
    postgres.sql(f"REASSIGN OWNED BY {APPLICATION} TO {OWNER}", database=name)
    with pytest.raises(Unavailable):
        await open_database(postgres_url)
    await _opened_and_closed(postgres_url, migration_url=postgres.url(name, user=OWNER))
    database = await open_database(postgres_url)
    assert await database.read(_organizations_in, OURS, "study") == []
    await database.close()


async def test_the_sql_of_the_documentation_works(postgres: Postgres) -> None:
    page = (REPOSITORY / "docs" / "postgresql.md").read_text(encoding="utf-8")
    making, backup, _ = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    try:
        for statement in (making + backup).split(";"):
            if statement.strip():
                postgres.sql(statement)
        await _opened_and_closed(
            postgres.url("isocenter", user="isocenter"),
            migration_url=postgres.url("isocenter", user="isocenter_owner"),
        )
        database = await open_database(postgres.url("isocenter", user="isocenter"))
        await database.write_across(_make_theirs)
        await database.write(_fill, THEIRS)
        await database.close()
        seen = {
            user: int(postgres.sql_as(user, "SELECT count(*) FROM study", database="isocenter"))
            for user in ("isocenter", "isocenter_owner", "isocenter_backup")
        }
        assert seen == {"isocenter": 0, "isocenter_owner": 0, "isocenter_backup": 1}
    finally:
        postgres.sql("DROP DATABASE IF EXISTS isocenter WITH (FORCE)")
        for role in ("isocenter_backup", "isocenter", "isocenter_owner"):
            postgres.sql(f"DROP ROLE IF EXISTS {role}")
