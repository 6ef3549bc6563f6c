"""Audit events to record, and the chain as somebody with the database's password sees it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from isocenter.platform.db import Database, Work, composed
from isocenter.platform.db.postgres import PostgresDatabase
from isocenter.platform.security import Action, AuditEvent, EventOutcome, SubjectKind
from services.archive import ORGANIZATION
from services.postgres import OWNER


def event(number: int, organization_id: int = ORGANIZATION, **changes: Any) -> AuditEvent:
    """The ``number`` tells it from others."""
    told: dict[str, Any] = {
        "subject_name": "Dr. Grey",
        "address": "192.0.2.7",
        "resource_kind": "study",
        "resource_id": f"1.2.3.{number}",
        "details": {"number": number},
        "trace_id": f"{number:032x}",
    }
    return AuditEvent(
        organization_id,
        changes.pop("action", Action.READ),
        changes.pop("outcome", EventOutcome.SUCCESS),
        SubjectKind.USER,
        "7",
        **told | changes,
    )


async def execute(database: Database, text: str, **params: Any) -> list[dict[str, Any]]:
    """Any statement, as the one who owns the tables: the server's own role may do less."""

    def work() -> Work[list[dict[str, Any]]]:
        rows = yield composed(text)(**params)
        return [dict(row) for row in rows]  # type: ignore[call-overload]

    if not isinstance(database, PostgresDatabase):
        return await database.write_across(work)
    there = urlsplit(database._url)
    owner = PostgresDatabase(there._replace(netloc=f"{OWNER}@{there.netloc.rpartition('@')[2]}").geturl())
    try:
        return await owner.write_across(work)
    finally:
        await owner.close()


async def disarm(database: Database) -> None:
    """Take away what refuses changes, as somebody who may alter the schema can."""
    if database.dialect == "sqlite":
        await execute(database, "DROP TRIGGER audit_event_refuses_update")
        await execute(database, "DROP TRIGGER audit_event_refuses_delete")
    else:
        await execute(database, "DROP TRIGGER audit_event_refuses_change ON audit_event")
        await execute(database, "DROP TRIGGER audit_event_refuses_truncate ON audit_event")
