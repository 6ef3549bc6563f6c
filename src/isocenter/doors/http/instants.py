"""Times on the wire: of the database, and of requests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AwareDatetime, BeforeValidator

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(at_us: int) -> datetime:
    """The UTC time that is so many microseconds after 1970; to the microsecond, which floats are not."""
    return _EPOCH + timedelta(microseconds=at_us)


def _no_number(value: object) -> object:
    if isinstance(value, int | float) or (isinstance(value, str) and "T" not in value.upper()):
        raise ValueError("Give date and time as in 2026-01-31T12:00:00Z (RFC 3339)")
    return value


Instant = Annotated[AwareDatetime, BeforeValidator(_no_number)]
"""As RFC 3339 writes it; a number, which may mean seconds or milliseconds since whenever, is refused."""

DateAndTime = Annotated[datetime, BeforeValidator(_no_number)]
"""The same; without an offset it is the time where it happens."""
