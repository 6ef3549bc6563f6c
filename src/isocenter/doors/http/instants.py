"""Times of the database on the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(at_us: int) -> datetime:
    """The UTC time that is so many microseconds after 1970; to the microsecond, which floats are not."""
    return _EPOCH + timedelta(microseconds=at_us)
