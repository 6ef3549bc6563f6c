"""Who is asking, what they may do, and what the audit trail is told of it."""

from isocenter.platform.security.events import (
    Action,
    AuditEvent,
    EventOutcome,
    NoRecorder,
    Recorder,
    event_of,
)
from isocenter.platform.security.permissions import (
    OPERATOR_PERMISSIONS,
    PERMISSIONS_OF_ROLE,
    Permission,
    Role,
)
from isocenter.platform.security.subject import Subject, SubjectKind, anybody

__all__ = [
    "OPERATOR_PERMISSIONS",
    "PERMISSIONS_OF_ROLE",
    "Action",
    "AuditEvent",
    "EventOutcome",
    "NoRecorder",
    "Permission",
    "Recorder",
    "Role",
    "Subject",
    "SubjectKind",
    "anybody",
    "event_of",
]
