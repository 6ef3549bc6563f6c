"""One entry of the trail, as it is kept."""

from __future__ import annotations

from dataclasses import dataclass

from isocenter.platform.db import Row


@dataclass(frozen=True, slots=True)
class Entry:
    """``details`` is canonical JSON (an object, keys ascending). Hashes are 64 hexadecimal digits; that of
    the first entry's predecessor is all zeros. ``at_us``: microseconds since 1970 UTC."""

    organization_id: int
    sequence: int
    at_us: int
    action: str
    outcome: str
    subject_kind: str
    subject_id: str
    subject_name: str
    address: str
    resource_kind: str
    resource_id: str
    details: str
    trace_id: str
    previous_hash: str
    hash: str


@dataclass(frozen=True, slots=True)
class Head:
    """The newest entry: noted elsewhere, ``str(head)`` proves later that nothing up to it was rewritten."""

    sequence: int
    hash: str

    def __str__(self) -> str:
        return f"{self.sequence}:{self.hash}"


COLUMNS = (
    "organization_id, sequence, at_us, action, outcome, subject_kind, subject_id, subject_name, address,"
    " resource_kind, resource_id, details, trace_id, previous_hash, hash"
)


def entry_of(row: Row) -> Entry:
    """The entry of a row with ``COLUMNS``."""
    return Entry(*(row[position] for position in range(15)))
