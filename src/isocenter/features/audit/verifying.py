"""Is the chain whole? Names the first entry that was changed, removed, inserted or moved."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from isocenter.features.audit import queries
from isocenter.features.audit.chain import BEFORE_THE_FIRST, hash_of, is_true, was_written_as
from isocenter.features.audit.entries import Entry, Head, entry_of
from isocenter.kit.errors import InvalidInput
from isocenter.platform.db import Database, Work, one

_PAGE = 1000
_MOVED_MAX = 1000  # how far from its place an entry is looked for


class Damage(StrEnum):
    CHANGED = "changed"
    REMOVED = "removed"
    INSERTED = "inserted"
    REORDERED = "reordered"
    TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True)
class Break:
    """``sequence`` is the first entry that is not what it was."""

    damage: Damage
    sequence: int
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """``entries``: how many were found in order; ``head``: the last of them."""

    entries: int
    head: Head
    broken: Break | None

    @property
    def intact(self) -> bool:
        return self.broken is None


def parse_head(text: str) -> Head:
    """``SEQ:HASH`` as ``isocenter audit head`` prints it. Raises InvalidInput."""
    match = re.fullmatch(r"(\d{1,18}):([0-9a-f]{64})", text.strip())
    if match is None:
        raise InvalidInput(
            f"{text[:100]!r} is not the number and hash of an entry.",
            remedy="Give what 'isocenter audit head' printed: 4711:9f86d0…",
        )
    return Head(int(match[1]), match[2])


async def verify(
    database: Database, organization_id: int, *, expected: Head | None = None, page: int = _PAGE
) -> Verdict:
    """Read the whole chain, ``page`` entries at a time; stop at the first break.

    ``expected`` was noted elsewhere: whoever can rewrite the whole database can hash a false chain anew and
    set the kept head to fit, but cannot reach what was noted outside.
    """
    last = BEFORE_THE_FIRST
    while True:
        seen = await database.read(_page, organization_id, last.sequence, page)
        for entry in seen.entries:
            broken = await _break_at(database, organization_id, last, entry)
            if broken is None and expected is not None and entry.sequence == expected.sequence:
                broken = _against(expected, entry)
            if broken is not None:
                return Verdict(last.sequence, last, broken)
            last = Head(entry.sequence, entry.hash)
        if len(seen.entries) < page:
            return Verdict(last.sequence, last, _break_at_end(seen, last, expected))


@dataclass(frozen=True, slots=True)
class _Page:
    """``count`` of all entries and the kept head are of the same moment as the entries."""

    entries: list[Entry]
    count: int
    head: Head | None


def _page(organization_id: int, after: int, limit: int) -> Work[_Page]:
    rows = yield queries.READ_ON(organization_id=organization_id, after=after, limit=limit)
    entries = [entry_of(row) for row in rows]
    if len(entries) == limit:
        return _Page(entries, 0, None)
    count = one((yield queries.COUNT_ENTRIES(organization_id=organization_id)))
    kept = yield queries.FIND_HEAD(organization_id=organization_id)
    return _Page(entries, count, Head(kept[0]["sequence"], kept[0]["hash"]) if kept else None)


async def _break_at(database: Database, organization_id: int, last: Head, entry: Entry) -> Break | None:
    expected = last.sequence + 1
    if entry.sequence == expected and entry.previous_hash == last.hash and is_true(entry):
        return None
    if entry.sequence < expected:
        return Break(Damage.INSERTED, entry.sequence, f"There are two entries {entry.sequence}.")
    if entry.sequence > expected:
        gap = f"Entry {expected} is" if entry.sequence == expected + 1 else f"Entries from {expected} on are"
        return Break(Damage.REMOVED, expected, f"{gap} missing: {entry.sequence} comes next.")
    if is_true(entry):
        # Whole, but chained to another entry before it than the one that is there now.
        if expected == 1:
            return Break(Damage.REMOVED, 1, "Entry 1 does not begin the chain.")
        return Break(
            Damage.CHANGED,
            last.sequence,
            f"Entry {last.sequence} is not the one that entry {expected} was chained to: it was changed and "
            "hashed anew, or replaced.",
        )
    return await _why_untrue(database, organization_id, entry)


async def _why_untrue(database: Database, organization_id: int, entry: Entry) -> Break:
    """The entry at this place is not what was written here: perhaps it was written elsewhere."""
    here = entry.sequence
    origin = next(
        (
            place
            for distance in range(1, _MOVED_MAX + 1)
            for place in (here + distance, here - distance)
            if place > 0 and was_written_as(entry, place)
        ),
        None,
    )
    if origin is None:
        return Break(Damage.CHANGED, here, f"Entry {here} was changed: its hash does not fit what it says.")
    if origin < here:
        return Break(
            Damage.INSERTED, origin, f"Entry {origin} was inserted: what was there is now entry {here}."
        )
    swapped = await database.read(_entries_at, organization_id, origin)
    if any(was_written_as(other, here) for other in swapped):
        return Break(Damage.REORDERED, here, f"Entries {here} and {origin} were swapped.")
    return Break(
        Damage.REMOVED, here, f"Entry {here} was removed: what was entry {origin} has taken its number."
    )


def _entries_at(organization_id: int, sequence: int) -> Work[list[Entry]]:
    rows = yield queries.FIND_AT(organization_id=organization_id, sequence=sequence)
    return [entry_of(row) for row in rows]


def _against(noted: Head, entry: Entry) -> Break | None:
    if hash_of(entry) == noted.hash:
        return None
    return Break(
        Damage.CHANGED,
        entry.sequence,
        f"Entry {entry.sequence} is not the one that was noted: it or one before it was rewritten, and the "
        "chain hashed anew.",
    )


def _break_at_end(seen: _Page, last: Head, noted: Head | None) -> Break | None:
    if seen.count != last.sequence:
        return Break(Damage.INSERTED, last.sequence, "There are more entries than numbers.")
    if seen.head is None and last.sequence:
        return Break(Damage.TRUNCATED, last.sequence + 1, "The note of the newest entry is gone.")
    kept = seen.head or BEFORE_THE_FIRST
    for head, whose in ((kept, "the newest entry was"), (noted, "the entry noted elsewhere is")):
        if head is not None and head.sequence > last.sequence:
            return Break(
                Damage.TRUNCATED,
                last.sequence + 1,
                f"The end was cut off: the last entry is {last.sequence}, {whose} {head.sequence}.",
            )
    if kept.sequence < last.sequence:
        return Break(
            Damage.INSERTED,
            kept.sequence + 1,
            f"Entry {kept.sequence + 1} was added past the newest entry that was recorded.",
        )
    if kept.hash != last.hash:
        return Break(Damage.CHANGED, last.sequence, f"Entry {last.sequence} is not the one recorded last.")
    return None
