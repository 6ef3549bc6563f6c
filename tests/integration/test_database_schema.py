"""The tables as declared in each feature's ``tables.py`` are the tables as migrated, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.ext.asyncio import create_async_engine

from isocenter.features.accounts import tables as account_tables
from isocenter.features.ae_titles import tables as ae_title_tables
from isocenter.features.archive import tables as archive_tables
from isocenter.features.audit import tables as audit_tables
from isocenter.features.availability import tables as availability_tables
from isocenter.features.commitment import tables as commitment_tables
from isocenter.features.encryption import tables as encryption_tables
from isocenter.features.spanner import tables as spanner_tables
from isocenter.features.worklist import tables as worklist_tables
from isocenter.platform.db.types import metadata
from services.schema import fresh_url

assert (
    account_tables.metadata
    is ae_title_tables.metadata
    is archive_tables.metadata
    is audit_tables.metadata
    is availability_tables.metadata
    is commitment_tables.metadata
    is encryption_tables.metadata
    is spanner_tables.metadata
    is worklist_tables.metadata
    is metadata
)  # imported: so they are declared


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


def differences(connection: sa.Connection) -> list[Any]:
    # SQLite tells the defaults of identity columns differently than they were given.
    options: dict[str, Any] = {
        "compare_type": True,
        "compare_server_default": connection.dialect.name == "postgresql",
        # Of a table that PostgreSQL keeps in parts, only the whole is declared.
        "include_name": lambda name, kind, _: kind != "table" or not name.startswith("spanner_query_log_"),
    }
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


async def test_declared_as_migrated(url: str) -> None:
    if url.startswith("sqlite"):
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            found = differences(connection)
        engine.dispose()
    else:
        async_engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
        async with async_engine.connect() as connecting:
            found = await connecting.run_sync(differences)
        await async_engine.dispose()
    assert len(metadata.tables) >= 14
    assert found == []
