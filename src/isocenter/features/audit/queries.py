"""Every statement on the trail that is written out; each takes the organisation. (Searches: `reading`.)"""

from __future__ import annotations

from isocenter.features.audit.entries import COLUMNS
from isocenter.platform.db import Sql

LOCK_CHAIN = Sql(
    "SELECT pg_advisory_xact_lock(731909, (:organization_id::bigint % 2147483647)::int)", only="postgresql"
)
"""Who appends to an organisation's chain has it alone. SQLite has one writer."""

FIND_END = Sql("""
SELECT coalesce(max(sequence), 0) AS sequence FROM audit_event WHERE organization_id = :organization_id
""")

FIND_HEAD = Sql("SELECT sequence, hash FROM audit_head WHERE organization_id = :organization_id")

FIND_APPENDED = Sql("""
SELECT 1 FROM audit_event
WHERE organization_id = :organization_id AND sequence = :sequence AND hash = :hash
""")

APPEND = Sql("""
INSERT INTO audit_event (organization_id, sequence, at_us, action, outcome, subject_kind, subject_id,
    subject_name, address, resource_kind, resource_id, details, trace_id, previous_hash, hash)
VALUES (:organization_id, :sequence, :at_us, :action, :outcome, :subject_kind, :subject_id, :subject_name,
    :address, :resource_kind, :resource_id, :details, :trace_id, :previous_hash, :hash)
""")

MOVE_HEAD = Sql("""
INSERT INTO audit_head (organization_id, sequence, hash) VALUES (:organization_id, :sequence, :hash)
ON CONFLICT (organization_id) DO UPDATE SET sequence = excluded.sequence, hash = excluded.hash
""")

READ_ON = Sql(
    f"SELECT {COLUMNS} FROM audit_event WHERE organization_id = :organization_id AND sequence > :after"  # noqa: S608 - our own columns
    " ORDER BY sequence, id LIMIT :limit"
)

FIND_AT = Sql(
    f"SELECT {COLUMNS} FROM audit_event WHERE organization_id = :organization_id AND sequence = :sequence"  # noqa: S608 - our own columns
    " ORDER BY id"
)

COUNT_ENTRIES = Sql("SELECT count(*) AS entries FROM audit_event WHERE organization_id = :organization_id")

FIND_DELIVERED = Sql("""
SELECT sequence FROM audit_delivery WHERE organization_id = :organization_id AND target = :target
""")

NOTE_DELIVERED = Sql("""
INSERT INTO audit_delivery (organization_id, target, sequence) VALUES (:organization_id, :target, :sequence)
ON CONFLICT (organization_id, target) DO UPDATE SET sequence = excluded.sequence
""")

LIST_ORGANIZATIONS = Sql("SELECT id, slug FROM organization ORDER BY id")
