"""The migrated schema is what the tables declare; it is made once, whoever starts first."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import pkgutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.ext.asyncio import create_async_engine

import isocenter.features
from isocenter.kit.errors import InvalidInput, Unavailable
from isocenter.platform.db import Work, composed, migrations, open_database
from isocenter.platform.db.types import metadata

for _feature in pkgutil.iter_modules(isocenter.features.__path__, "isocenter.features."):
    if importlib.util.find_spec(f"{_feature.name}.tables"):
        importlib.import_module(f"{_feature.name}.tables")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/new/archive.db"
        return
    yield request.getfixturevalue("postgres_url")


async def inspected(url: str, look: Any) -> Any:
    if url.startswith("sqlite"):
        engine = sa.create_engine(url)
        try:
            with engine.connect() as connection:
                return look(connection)
        finally:
            engine.dispose()
    async_engine = create_async_engine(url.replace("postgresql", "postgresql+asyncpg"))
    try:
        async with async_engine.connect() as async_connection:
            return await async_connection.run_sync(look)
    finally:
        await async_engine.dispose()


def is_no_part(name: str | None, kind: str, _: Any) -> bool:
    """Of a table that PostgreSQL keeps in parts, only the whole is declared."""
    return kind != "table" or not (name or "").startswith("spanner_query_log_")


def differences(connection: sa.Connection) -> Any:
    options = {"compare_type": True, "include_name": is_no_part}
    found = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    return [difference[0] for difference in found]


# --- what is there --------------------------------------------------------------------------------------


async def test_a_new_database_has_exactly_the_declared_tables(url: str):
    database = await open_database(url)
    await database.close()
    assert await inspected(url, differences) == []


async def test_a_difference_would_be_seen(url: str):
    database = await open_database(url)

    def spoil() -> Work[None]:
        yield composed("DROP INDEX uq_quarantine_waiting_object_key")()
        yield composed("ALTER TABLE instance ADD COLUMN surplus TEXT")()

    await database.write_across(spoil)
    await database.close()
    assert set(await inspected(url, differences)) == {"add_index", "remove_column"}


def test_every_table_tells_its_organisation():
    assert metadata.tables
    for table in metadata.tables.values():
        if table.name == "organization":
            continue
        column = table.columns.get("organization_id")
        assert column is not None, table.name
        assert not column.nullable, table.name
        assert [key.target_fullname for key in column.foreign_keys] == ["organization.id"], table.name


async def test_there_is_one_organisation_to_begin_with(url: str):
    database = await open_database(url)

    def organizations() -> Work[list[tuple[int, str]]]:
        rows = yield composed("SELECT id, slug FROM organization")()
        return [(row["id"], row["slug"]) for row in rows]

    assert await database.read_across(organizations) == [(1, "default")]
    await database.close()


async def test_text_is_compared_byte_by_byte(url: str):
    """Prefix searches are ranges of an index: both databases must order alike."""
    database = await open_database(url)
    words = ["a", "B", "ä", "Z", "_", "~", "é", "e", "E", "", "\U0001f600", "豪"]

    def ordered() -> Work[list[str]]:
        yield composed("INSERT INTO organization (slug, created_at_us) VALUES (:slug, 0)").many(
            [{"slug": word} for word in words]
        )
        rows = yield composed("SELECT slug FROM organization WHERE slug <> 'default' ORDER BY slug")()
        return [row[0] for row in rows]

    assert await database.write_across(ordered) == sorted(words, key=lambda word: word.encode())
    await database.close()


# --- how far it is --------------------------------------------------------------------------------------


async def set_revision(url: str, revision: str) -> None:
    database = await open_database(url, migrate=False)

    def change() -> Work[None]:
        yield composed("UPDATE alembic_version SET version_num = :revision")(revision=revision)

    await database.write_across(change)
    await database.close()


async def test_the_state_tells_behind_current_and_ahead(url: str, tmp_path: Path):
    (tmp_path / "new").mkdir()
    before = await migrations.state(url)
    assert (before.current, before.behind, before.ahead) == ("", True, False)
    await migrations.upgrade(url)
    now = await migrations.state(url)
    assert (now.current, now.behind, now.ahead) == (now.head, False, False)
    await set_revision(url, "9999")
    newer = await migrations.state(url)
    assert (newer.behind, newer.ahead) == (False, True)
    with pytest.raises(Unavailable) as refused:
        await open_database(url)
    assert "newer" in refused.value.detail
    assert (await migrations.state(url)).current == "9999", "nothing was touched"


async def test_upgrading_twice_changes_nothing(url: str, tmp_path: Path):
    (tmp_path / "new").mkdir()
    await migrations.upgrade(url)
    await migrations.upgrade(url)
    assert await inspected(url, differences) == []


_MIGRATE = """
import asyncio, json, sys
from isocenter.platform.db import migrations
print("ready", flush=True)
sys.stdin.readline()
try:
    asyncio.run(migrations.upgrade(sys.argv[1]))
except Exception as error:
    print(json.dumps(repr(error)), flush=True)
else:
    print(json.dumps("done"), flush=True)
"""


def test_processes_that_migrate_at_once_make_one_schema(url: str, tmp_path: Path):
    (tmp_path / "new").mkdir()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _MIGRATE, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    try:
        for process in processes:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        told = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert told == ["done"] * 4
    assert asyncio.run(inspected(url, differences)) == []


async def test_a_migration_that_fails_leaves_the_database_as_it_was(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As when the process is killed in the middle: the next start finds a schema that it knows."""
    from alembic import op

    (tmp_path / "new").mkdir()
    real, calls = op.create_table, itertools.count()

    def fails(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == 5:
            raise OSError("planted")
        return real(*args, **kwargs)

    monkeypatch.setattr(op, "create_table", fails)
    with pytest.raises(Unavailable):
        await migrations.upgrade(url)
    monkeypatch.undo()
    tables = await inspected(url, lambda connection: sa.inspect(connection).get_table_names())
    assert set(tables) <= {"alembic_version"}
    await migrations.upgrade(url)
    assert await inspected(url, differences) == []


# --- what cannot be opened ------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["mysql://localhost/x", "archive.db", "sqlite:/archive.db", ""])
async def test_other_urls_are_refused(bad: str):
    with pytest.raises(InvalidInput):
        await open_database(bad)


async def test_a_file_that_is_no_database_is_said_so(tmp_path: Path):
    (tmp_path / "archive.db").write_bytes(b"something else entirely" * 100)
    with pytest.raises(Unavailable):
        await open_database(f"sqlite:///{tmp_path}/archive.db")


async def test_a_folder_that_cannot_be_made_is_said_so(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable):
        await open_database(f"sqlite:///{tmp_path}/file/archive.db")


async def test_a_server_that_does_not_answer_is_said_so(free_port: int):
    with pytest.raises(Unavailable):
        await open_database(f"postgresql://postgres@127.0.0.1:{free_port}/x")


async def test_a_server_without_that_database_is_said_so(postgres_url: str):
    with pytest.raises(Unavailable):
        await open_database(postgres_url + "_not_there")


def test_sqlite_itself_is_new_enough():
    assert sqlite3.sqlite_version_info >= (3, 35), "RETURNING"
