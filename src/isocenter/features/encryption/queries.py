"""Every statement on data keys, and the units of work made of them. Wrapping is quick: it happens within."""

from __future__ import annotations

from collections.abc import Callable

from isocenter.platform.db import Row, Sql, Work

# The master key may be exchanged by another process at the same moment; SQLite has one writer anyway.
LOCK_KEYS = Sql("LOCK TABLE data_key IN SHARE ROW EXCLUSIVE MODE", only="postgresql")

LIST_KEYS = Sql("""
SELECT organization_id, key_id, wrapped_key, master_key_id, state, created_at_us
FROM data_key WHERE organization_id = :organization_id ORDER BY id
""")

LIST_ALL_KEYS = Sql("""
SELECT organization_id, key_id, wrapped_key, master_key_id, state, created_at_us FROM data_key ORDER BY id
""")

FIND_FOREIGN_MASTER = Sql("""
SELECT organization_id FROM data_key WHERE state <> 'destroyed' AND master_key_id <> :master_key_id LIMIT 1
""")

ADD_KEY = Sql("""
INSERT INTO data_key (organization_id, key_id, wrapped_key, master_key_id, state, created_at_us)
VALUES (:organization_id, :key_id, :wrapped_key, :master_key_id, 'active', :now_us)
""")

RETIRE_KEYS = Sql("""
UPDATE data_key SET state = 'retired' WHERE organization_id = :organization_id AND state = 'active'
""")

# Written over before it is emptied, so that the page of the table does not keep it.
OVERWRITE_KEYS = Sql("""
UPDATE data_key SET wrapped_key = :zeros WHERE organization_id = :organization_id AND state <> 'destroyed'
""")

DESTROY_KEYS = Sql("""
UPDATE data_key SET wrapped_key = '', state = 'destroyed'
WHERE organization_id = :organization_id AND state <> 'destroyed' RETURNING key_id
""")

REWRAP_KEY = Sql("""
UPDATE data_key SET wrapped_key = :wrapped_key, master_key_id = :master_key_id
WHERE organization_id = :organization_id AND key_id = :key_id AND state <> 'destroyed'
""")


def list_keys(organization_id: int) -> Work[list[Row]]:
    return (yield LIST_KEYS(organization_id=organization_id))


def list_all_keys() -> Work[list[Row]]:
    return (yield LIST_ALL_KEYS())


def add_key(
    organization_id: int, key_id: str, wrapped_key: str, master_key_id: str, now_us: int, *, replace: bool
) -> Work[bool]:
    """Whether it was added as the organisation's active key. Not where another master key has wrapped any key
    of the archive: a key that this one wraps could not be opened after the next start. With ``replace`` the
    active key is retired; without, an organisation that has any key keeps what it has."""
    yield LOCK_KEYS()
    if (yield FIND_FOREIGN_MASTER(master_key_id=master_key_id)):
        return False
    if replace:
        yield RETIRE_KEYS(organization_id=organization_id)
    elif (yield LIST_KEYS(organization_id=organization_id)):
        return True
    yield ADD_KEY(
        organization_id=organization_id,
        key_id=key_id,
        wrapped_key=wrapped_key,
        master_key_id=master_key_id,
        now_us=now_us,
    )
    return True


def destroy_keys(organization_id: int) -> Work[int]:
    yield OVERWRITE_KEYS(organization_id=organization_id, zeros="0" * 128)
    return len((yield DESTROY_KEYS(organization_id=organization_id)))


def rewrap_keys(rewrapped: Callable[[Row], str], master_key_id: str) -> Work[int]:
    """Every key that still opens, wrapped anew; all of them or, when ``rewrapped`` raises, none."""
    yield LOCK_KEYS()
    rows = [row for row in (yield LIST_ALL_KEYS()) if row["state"] != "destroyed"]
    for row in rows:
        yield REWRAP_KEY(
            organization_id=row["organization_id"],
            key_id=row["key_id"],
            wrapped_key=rewrapped(row),
            master_key_id=master_key_id,
        )
    return len(rows)
