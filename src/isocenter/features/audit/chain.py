"""How an entry is bound to the one before it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import orjson

from isocenter.features.audit.entries import Entry, Head

BEFORE_THE_FIRST = Head(0, "0" * 64)
_VERSION = b"isocenter-audit-1\0"


def hash_of(entry: Entry) -> str:
    """SHA-256 over the previous hash and every field but the hash itself."""
    return chained_hash(
        entry.previous_hash,
        (
            entry.organization_id,
            entry.sequence,
            entry.at_us,
            entry.action,
            entry.outcome,
            entry.subject_kind,
            entry.subject_id,
            entry.subject_name,
            entry.address,
            entry.resource_kind,
            entry.resource_id,
            entry.details,
            entry.trace_id,
        ),
    )


def chained_hash(previous_hash: str, fields: Sequence[str | int]) -> str:
    """``fields`` in the order of the table, from the organisation to the trace id.

    They are hashed as a JSON array in UTF-8, whose quotes and commas keep them apart: simply joined, ``"ab",
    "c"`` and ``"a", "bc"`` would be the same bytes, and text could wander from one field to the next unseen.
    """
    return hashlib.sha256(_VERSION + orjson.dumps([previous_hash, *fields], default=repr)).hexdigest()


def is_true(entry: Entry) -> bool:
    """Whether the entry is what it was hashed as; says nothing of its neighbours."""
    return hash_of(entry) == entry.hash


def was_written_as(entry: Entry, sequence: int) -> bool:
    """Whether the entry is whole but stood at another place."""
    return hash_of(replace(entry, sequence=sequence)) == entry.hash
