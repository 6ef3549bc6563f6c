"""Sources, spanner configurations, which sources a configuration asks; who asked what."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import sqlalchemy as sa
from alembic import op

from isocenter.platform.db.row_security import PROTECT_TABLES

revision = "0008"
down_revision = "0007"

BigInt = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Text = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    _sources()
    _configurations()
    _query_log()
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(PROTECT_TABLES)


def _sources() -> None:
    _table(
        "source",
        _word("name"),
        _word("type"),
        _flag("enabled"),
        _text("description"),
        _text("issuer"),
        _text("ae_title"),
        _text("calling_ae_title"),
        _text("host"),
        _number("port"),
        _flag("tls"),
        _text("tls_name"),
        _text("url"),
        _word("authentication"),
        _text("user_name"),
        _text("secret"),
        _word("limits"),
        _word("quirks"),
        _number("version"),
        _number("created_at_us"),
        _unique("source", "organization_id", "name"),
    )


def _configurations() -> None:
    _table(
        "spanner_config",
        _word("name"),
        _text("description"),
        _number("max_concurrent_sources"),
        _number("timeout_ms"),
        _number("retry_attempts"),
        _word("failure_strategy"),
        _flag("deduplication_enabled"),
        _flag("enterprise_mode"),
        sa.Column("ae_title", Text, nullable=True),
        _number("cache_seconds"),
        _flag("keep_retrieved"),
        _number("version"),
        _number("created_at_us"),
        _unique("spanner_config", "organization_id", "name"),
        _unique("spanner_config", "ae_title"),
    )
    _table(
        "spanner_source",
        _number("config_id"),
        _number("source_id"),
        _number("priority"),
        sa.Column("timeout_ms", BigInt, nullable=True),
        _foreign("config_id", "spanner_config"),
        _foreign("source_id", "source"),
        _unique("spanner_source", "organization_id", "config_id", "source_id"),
    )
    op.create_index(op.f("ix_spanner_source_source_id"), "spanner_source", ["source_id"])


_MONTHS = ((2026, 11), (2026, 12), (2027, 1), (2027, 2), (2027, 3), (2027, 4), (2027, 5))
"""The first of each part, and of what follows the last. Parts are made here: the role that works on rows may
make no tables. What is earlier or later goes to a part of its own; a later migration makes more. Each part
costs every new database some files."""


def _query_log() -> None:
    op.create_table(
        "spanner_query_log",
        _number("asked_at_us"),
        _word("query_id"),
        _number("organization_id"),
        _number("config_id"),
        _word("asker_kind"),
        _text("asker_id"),
        _text("asker_name"),
        _text("trace_id"),
        _word("level"),
        _text("keywords"),
        _count("answers"),
        _word("outcome"),
        _count("took_ms"),
        _count("age_ms"),
        _word("sources"),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organization.id"],
            name=op.f("fk_spanner_query_log_organization_id_organization"),
        ),
        sa.PrimaryKeyConstraint("asked_at_us", "query_id", name=op.f("pk_spanner_query_log")),
        postgresql_partition_by="RANGE (asked_at_us)",
    )
    for columns in (["organization_id", "asked_at_us"], ["organization_id", "config_id", "asked_at_us"]):
        name = op.f(f"ix_spanner_query_log_{'_'.join(columns)}")
        op.create_index(name, "spanner_query_log", columns)
    if op.get_bind().dialect.name != "postgresql":
        return
    for (year, month), following in pairwise(_MONTHS):
        op.execute(
            f"CREATE TABLE spanner_query_log_{year}_{month:02} PARTITION OF spanner_query_log"
            f" FOR VALUES FROM ({_microseconds(year, month)}) TO ({_microseconds(*following)})"
        )
    op.execute("CREATE TABLE spanner_query_log_other PARTITION OF spanner_query_log DEFAULT")


def _microseconds(year: int, month: int) -> int:
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * 1_000_000


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, BigInt, server_default="0", nullable=False)


def _table(name: str, *parts: Any) -> None:
    op.create_table(
        name,
        sa.Column("id", BigInt, sa.Identity(), nullable=False),
        sa.Column("organization_id", BigInt, nullable=False),
        *parts,
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organization.id"], name=op.f(f"fk_{name}_organization_id_organization")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{name}")),
    )


def _unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=op.f(f"uq_{table}_{'_'.join(columns)}"))


def _foreign(column: str, table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [column], [f"{table}.id"], name=op.f(f"fk_spanner_source_{column}_{table}")
    )


def _word(name: str) -> sa.Column[str]:
    return sa.Column(name, Text, nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, Text, server_default="", nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, BigInt, nullable=False)


def _flag(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.SmallInteger(), nullable=False)
