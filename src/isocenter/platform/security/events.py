"""What the audit trail is told (MISSION A6): every feature and door tells, ``features/audit`` keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from isocenter.platform.security.subject import Subject, SubjectKind


class Action(StrEnum):
    LOGIN = "login"
    LOGOUT = "logout"
    SEARCH = "search"
    READ = "read"
    STORE = "store"
    CHANGE = "change"
    DELETE = "delete"
    EXPORT = "export"
    SHARE = "share"
    PERMISSION_CHANGE = "permission-change"
    ACCESS = "access"  # an attempt at something that was refused before it was known what it was


class EventOutcome(StrEnum):
    SUCCESS = "success"
    DENIED = "denied"  # nobody known, or not permitted
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """Who did what, to which resource, from where, how it ended; when, the trail says itself.

    ``resource_kind`` is a word (``study``, ``user``, ``ae-title``), ``resource_id`` names one of them.
    ``details`` are JSON scalars. Patient data is allowed in both: an audit trail is protected as such; logs
    are another matter.
    """

    organization_id: int
    action: Action
    outcome: EventOutcome
    subject_kind: SubjectKind
    subject_id: str
    subject_name: str = ""
    address: str = ""
    resource_kind: str = ""
    resource_id: str = ""
    details: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    trace_id: str = ""


class Recorder(Protocol):
    def record(self, event: AuditEvent) -> None:
        """Take the event at once; it is written soon, together with others. Raises Busy when so many wait
        that one more could not be kept: then what it tells of must not be done."""
        ...

    async def settled(self) -> None:
        """Return when all that was recorded until now is durable. For what must not go unwitnessed: logins,
        changes of permissions, deletions."""
        ...


class NoRecorder:
    """For tools and tests that have no trail."""

    def record(self, event: AuditEvent) -> None:
        pass

    async def settled(self) -> None:
        pass


def event_of(
    subject: Subject,
    action: Action,
    *,
    outcome: EventOutcome = EventOutcome.SUCCESS,
    resource_kind: str = "",
    resource_id: str = "",
    details: Mapping[str, str | int | float | bool | None] | None = None,
    trace_id: str = "",
) -> AuditEvent:
    """What ``subject`` did."""
    return AuditEvent(
        subject.organization_id,
        action,
        outcome,
        subject.kind,
        subject.id,
        subject.name,
        subject.address,
        resource_kind,
        resource_id,
        details or {},
        trace_id,
    )
