"""What commands tell the audit trail: who runs them is named by the account of the machine."""

from __future__ import annotations

import getpass
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from isocenter.kit.errors import IsocenterError
from isocenter.platform.security import Action, EventOutcome, Permission, Subject, SubjectKind, event_of

if TYPE_CHECKING:
    from isocenter.platform.db import Database

T = TypeVar("T")
Details = Mapping[str, str | int | float | bool | None]


def operator(organization_id: int, permissions: frozenset[Permission] = frozenset()) -> Subject:
    """The command line, run by an account of the operating system; in whose trail it is told."""
    return Subject(SubjectKind.SERVICE, "cli", organization_id, permissions, _account())


async def witnessed(
    database: Database,
    subject: Subject,
    action: Action,
    resource_kind: str,
    resource_id: str = "",
    *,
    details: Details | None = None,
    doing: Callable[[], Awaitable[T]],
) -> T:
    """What ``doing`` returns; that it was done, or failed, is in the trail then."""
    from isocenter.features.audit.trail import AuditTrail
    from isocenter.kit.clock import SystemClock

    trail = AuditTrail(database, SystemClock(), linger_s=0)
    told = dict(details or {})
    outcome = EventOutcome.FAILED
    try:
        result = await doing()
        outcome = EventOutcome.SUCCESS
    except IsocenterError as error:
        told["reason"] = error.code
        raise
    finally:
        trail.record(
            event_of(
                subject,
                action,
                outcome=outcome,
                resource_kind=resource_kind,
                resource_id=resource_id,
                details=told,
            )
        )
        await trail.close()
    return result


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account number without a name, as in containers
        return "unknown"
