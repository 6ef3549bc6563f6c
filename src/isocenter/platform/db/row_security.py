"""Row-level security on PostgreSQL: a forgotten filter shows nothing of another organisation (MISSION A9).

A transaction says in ``SETTING`` whose it is, and the policy of every table compares its rows with that.
Where nothing is said nothing is seen and nothing can be written. ``docs/postgresql.md``: the roles it takes.
"""

from __future__ import annotations

from dataclasses import dataclass

from isocenter.platform.db.sql import Sql, Work

SETTING = "isocenter.organization_id"

ALL_ORGANIZATIONS = "all"
"""For work that belongs to no single organisation."""

# In sub-selects: looked up once for a statement, not once for each row.
_SAID = f"current_setting('{SETTING}', true)"
_VISIBLE = (
    f"(SELECT {_SAID} = '{ALL_ORGANIZATIONS}') OR organization_id ="
    f" (SELECT CASE WHEN {_SAID} ~ '^[0-9]+$' THEN {_SAID}::bigint END)"
)
_POLICY = f"USING ({_VISIBLE}) WITH CHECK ({_VISIBLE})".replace("'", "''")

# FORCE: where one role both owns the tables and works on them, the policy holds for it all the same.
PROTECT_TABLES = f"""
DO $$
DECLARE
    held record;
BEGIN
    FOR held IN
        SELECT pg_class.oid::regclass AS name FROM pg_class
        JOIN pg_attribute ON pg_attribute.attrelid = pg_class.oid
        WHERE pg_class.relnamespace = current_schema()::regnamespace AND pg_class.relkind IN ('r', 'p')
          AND pg_attribute.attname = 'organization_id' AND NOT pg_attribute.attisdropped
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', held.name);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', held.name);
        EXECUTE format('DROP POLICY IF EXISTS own_organization ON %s', held.name);
        EXECUTE format('CREATE POLICY own_organization ON %s {_POLICY}', held.name);
    END LOOP;
END $$
"""  # noqa: S608 - put together of constants
"""Puts the policy on each table that has an organisation; may be run again. A migration that makes such a
table ends with it."""

FIND_ROLE = Sql("""
    SELECT rolname, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user
""")

FIND_UNPROTECTED = Sql("""
    SELECT pg_class.relname FROM pg_class
    JOIN pg_attribute ON pg_attribute.attrelid = pg_class.oid
    WHERE pg_class.relnamespace = current_schema()::regnamespace AND pg_class.relkind IN ('r', 'p')
      AND pg_attribute.attname = 'organization_id' AND NOT pg_attribute.attisdropped
      AND NOT (pg_class.relrowsecurity AND pg_class.relforcerowsecurity)
    ORDER BY pg_class.relname
""")


@dataclass(frozen=True, slots=True)
class RowSecurity:
    """``role`` is who asks; ``bypasses``: for it PostgreSQL applies no policy at all."""

    role: str
    bypasses: bool
    unprotected: tuple[str, ...]


def find_row_security() -> Work[RowSecurity]:
    """How far row-level security holds for the connected role (PostgreSQL only)."""
    [role] = yield FIND_ROLE()
    tables = yield FIND_UNPROTECTED()
    return RowSecurity(
        role["rolname"], role["rolsuper"] or role["rolbypassrls"], tuple(row[0] for row in tables)
    )


def grants_to(role: str, schema: str) -> list[str]:
    """What the application's role is given by the tables' owner; both names quoted already.

    Rows only: no table of its own, no TRUNCATE (no policy holds it back), and the schema's revision only to
    read. What later migrations make is given along.
    """
    rows = "SELECT, INSERT, UPDATE, DELETE"
    return [
        f"GRANT USAGE ON SCHEMA {schema} TO {role}",
        f"GRANT {rows} ON ALL TABLES IN SCHEMA {schema} TO {role}",
        f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT {rows} ON TABLES TO {role}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT USAGE, SELECT ON SEQUENCES TO {role}",
        f"REVOKE INSERT, UPDATE, DELETE ON {schema}.alembic_version FROM {role}",
    ]
