"""Storage commitment (PS3.4 J): who takes responsibility for which objects, towards whom."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple


class Role(StrEnum):
    SCP = "scp"  # it was asked of us
    SCU = "scu"  # we asked for it


class State(StrEnum):
    WAITING = "waiting"  # scp: taken on, to be looked at and reported; scu: to be asked for
    ASKED = "asked"  # scu: taken on there, the report is awaited
    SETTLED = "settled"  # scp: the report was taken; scu: the report has come
    REFUSED = "refused"  # scu: not taken on there
    GIVEN_UP = "given-up"  # tried for long enough; a person may retry


class FailureReason(IntEnum):
    """(0008,1197), PS3.3 C.14.1.1; 0 stands for committed."""

    COMMITTED = 0
    PROCESSING_FAILURE = 0x0110
    NO_SUCH_OBJECT_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119
    REFERENCED_SOP_CLASS_NOT_SUPPORTED = 0x0122
    DUPLICATE_TRANSACTION_UID = 0x0131
    RESOURCE_LIMITATION = 0x0213


class Reference(NamedTuple):
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Judged:
    """``reason``: 0 committed, None not known yet, else why not (`FailureReason` or what the other said)."""

    reference: Reference
    reason: int | None


@dataclass(frozen=True, slots=True)
class Commitment:
    """``ae_title`` is the other's, ``own_ae_title`` ours. ``failed_count``: instances that are not committed.
    ``next_attempt_at_us`` None: nothing is left to do. Times: µs since 1970 UTC."""

    id: int
    role: Role
    ae_title: str
    own_ae_title: str
    transaction_uid: str
    state: State
    instance_count: int
    failed_count: int
    attempts: int
    next_attempt_at_us: int | None
    last_error: str
    created_at_us: int
    settled_at_us: int | None
