"""What can go wrong, in terms that know neither HTTP nor DIMSE.

    IsocenterError
     ├─ InvalidInput        the sender's bytes or parameters break a rule; sending them again will not help
     ├─ NotFound            there is nothing under that name (or nothing that this subject may know of)
     ├─ Conflict            the request contradicts what is already there
     ├─ Forbidden           the subject is known and may not do this
     ├─ Unauthenticated     nobody knows who is asking
     ├─ TooLarge            over a limit that the operator has set
     ├─ Unsupported         the standard allows it, this server does not do it
     ├─ RateLimited         too many attempts: come back in ``retry_after_s``
     ├─ Busy                a bounded queue or budget is full: come back in ``retry_after_s``
     ├─ Unavailable         the database or the object store cannot be reached: come back later
     ├─ OutOfSpace          no room left to keep anything more
     └─ InternalError       a fault of ours

Each class pins its ``kind``; two total tables (``doors/http/problems.py`` and ``doors/scp/statuses.py``)
turn kinds into HTTP and DIMSE statuses, so that a raise site never decides about the wire.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class Kind(StrEnum):
    """The families of failure that a door must be able to answer."""

    INVALID = "invalid"
    NOT_FOUND = "not-found"
    CONFLICT = "conflict"
    FORBIDDEN = "forbidden"
    UNAUTHENTICATED = "unauthenticated"
    TOO_LARGE = "too-large"
    UNSUPPORTED = "unsupported"
    RATE_LIMITED = "rate-limited"
    BUSY = "busy"
    UNAVAILABLE = "unavailable"
    OUT_OF_SPACE = "out-of-space"
    INTERNAL = "internal"


class IsocenterError(Exception):
    """Base of all typed errors; raise one of its children.

    ``detail`` says what happened, ``remedy`` what the reader can do about it. Neither ever holds
    patient data: both reach logs. ``code`` is stable and may be relied upon by programs.
    """

    kind: ClassVar[Kind]
    default_code: ClassVar[str]

    def __init__(
        self, detail: str, *, code: str | None = None, remedy: str = "", retry_after_s: int | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.default_code
        self.remedy = remedy
        self.retry_after_s = retry_after_s


class InvalidInput(IsocenterError):
    kind = Kind.INVALID
    default_code = "invalid-input"


class NotFound(IsocenterError):
    kind = Kind.NOT_FOUND
    default_code = "not-found"


class Conflict(IsocenterError):
    kind = Kind.CONFLICT
    default_code = "conflict"


class Forbidden(IsocenterError):
    kind = Kind.FORBIDDEN
    default_code = "forbidden"


class Unauthenticated(IsocenterError):
    kind = Kind.UNAUTHENTICATED
    default_code = "unauthenticated"


class TooLarge(IsocenterError):
    kind = Kind.TOO_LARGE
    default_code = "too-large"


class Unsupported(IsocenterError):
    kind = Kind.UNSUPPORTED
    default_code = "unsupported"


class RateLimited(IsocenterError):
    kind = Kind.RATE_LIMITED
    default_code = "too-many-attempts"


class Busy(IsocenterError):
    kind = Kind.BUSY
    default_code = "busy"


class Unavailable(IsocenterError):
    kind = Kind.UNAVAILABLE
    default_code = "unavailable"


class OutOfSpace(IsocenterError):
    kind = Kind.OUT_OF_SPACE
    default_code = "out-of-space"


class InternalError(IsocenterError):
    kind = Kind.INTERNAL
    default_code = "internal"
