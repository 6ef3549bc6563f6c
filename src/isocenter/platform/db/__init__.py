"""The database: SQLite by default, PostgreSQL when one machine is not enough. See README.md."""

from isocenter.platform.db.interface import Database, DatabaseUnreachable, IntegrityViolation, one
from isocenter.platform.db.open import open_database
from isocenter.platform.db.sql import Call, CallMany, Row, Sql, Work, composed

__all__ = [
    "Call",
    "CallMany",
    "Database",
    "DatabaseUnreachable",
    "IntegrityViolation",
    "Row",
    "Sql",
    "Work",
    "composed",
    "one",
    "open_database",
]
