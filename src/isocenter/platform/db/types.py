"""Column types and the metadata that every feature's ``tables.py`` hangs its tables on.

The tables are declared with SQLAlchemy for Alembic and for the test that compares them with a migrated
database; the queries themselves are written out in each feature's ``queries.py``.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

BigInt = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""64 bits on both; SQLite numbers rows by itself only for a column declared INTEGER."""

Text = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")
"""Compared byte by byte on both, so that a prefix is a range of an index (``>= 'DOE' AND < 'DOF'``)."""

Flag = sa.SmallInteger()
"""0 or 1: the one truth value that both drivers take alike."""


def primary_key() -> sa.Column[int]:
    return sa.Column("id", BigInt, sa.Identity(), primary_key=True)


def organization() -> sa.Column[int]:
    """The organisation that a row belongs to; every table has it (MISSION A9)."""
    return sa.Column("organization_id", BigInt, sa.ForeignKey("organization.id"), nullable=False)


def text(name: str) -> sa.Column[str]:
    """Text that may be empty and is never NULL: one way to say "not there"."""
    return sa.Column(name, Text, nullable=False, server_default="")


def count(name: str) -> sa.Column[int]:
    return sa.Column(name, BigInt, nullable=False, server_default="0")


def instant(name: str) -> sa.Column[int]:
    """A point in time: microseconds since 1970-01-01 UTC (the same integer on both databases)."""
    return sa.Column(name, BigInt, nullable=False)
