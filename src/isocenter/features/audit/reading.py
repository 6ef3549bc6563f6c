"""Searching the trail: by what was done, by whom, to what, when; a page at a time, by number."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

from isocenter.features.audit import queries
from isocenter.features.audit.entries import COLUMNS, Entry, Head, entry_of
from isocenter.platform.db import Call, Database, Work, composed, one
from isocenter.platform.security import Action, EventOutcome

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Filter:
    """Empty: any. ``subject``: id or name; ``resource``: id; ``text``: a part of a name, an id or a detail.

    Times are µs since 1970 UTC, ``from_us`` included, ``to_us`` not. ``after`` and ``before`` are numbers of
    entries, neither included.
    """

    action: Action | None = None
    outcome: EventOutcome | None = None
    subject: str = ""
    resource_kind: str = ""
    resource: str = ""
    from_us: int | None = None
    to_us: int | None = None
    text: str = ""
    after: int | None = None
    before: int | None = None


_CONDITIONS = {
    "action": "action = :action",
    "outcome": "outcome = :outcome",
    "subject": "(subject_id = :subject OR subject_name = :subject)",
    "resource_kind": "resource_kind = :resource_kind",
    "resource": "resource_id = :resource",
    "from_us": "at_us >= :from_us",
    "to_us": "at_us < :to_us",
    "text": "(lower(details) LIKE lower(:text) ESCAPE '!' OR lower(resource_id) LIKE lower(:text) ESCAPE '!'"
    " OR lower(subject_name) LIKE lower(:text) ESCAPE '!')",
    "after": "sequence > :after",
    "before": "sequence < :before",
}


async def find_entries(
    database: Database, organization_id: int, wanted: Filter, *, limit: int, newest_first: bool = True
) -> list[Entry]:
    """At most ``limit`` entries; the next page is ``before`` (or ``after``) the last one's number."""
    return await database.read(_find, organization_id, wanted, limit, newest_first)


async def all_entries(database: Database, organization_id: int, wanted: Filter) -> AsyncIterator[Entry]:
    """Everything wanted, oldest first, up to the newest entry of now; a page is in memory at a time."""
    end = await database.read(_end, organization_id)
    wanted = replace(wanted, before=min(end + 1, wanted.before or end + 1))
    while True:
        entries = await find_entries(database, organization_id, wanted, limit=_PAGE, newest_first=False)
        for entry in entries:
            yield entry
        if len(entries) < _PAGE:
            return
        wanted = replace(wanted, after=entries[-1].sequence)


async def read_on(database: Database, organization_id: int, *, after: int, limit: int) -> list[Entry]:
    """The entries that follow the number ``after``, in order."""
    return await database.read(_read_on, organization_id, after, limit)


async def newest_entry(database: Database, organization_id: int) -> Head | None:
    """What to note elsewhere; None where nothing was recorded yet."""
    return await database.read(_newest, organization_id)


async def organizations(database: Database) -> list[tuple[int, str]]:
    """Number and slug of every organisation."""
    return await database.read_across(_organizations)


def _find(organization_id: int, wanted: Filter, limit: int, newest_first: bool) -> Work[list[Entry]]:
    rows = yield _search(organization_id, wanted, limit, newest_first)
    return [entry_of(row) for row in rows]


def _search(organization_id: int, wanted: Filter, limit: int, newest_first: bool) -> Call:
    texts = ["organization_id = :organization_id"]
    params: dict[str, Any] = {"organization_id": organization_id, "limit": limit}
    for name, condition in _CONDITIONS.items():
        value = getattr(wanted, name)
        if value is None or value == "":
            continue
        texts.append(condition)
        params[name] = _containing(value) if name == "text" else value
    order = "DESC" if newest_first else "ASC"
    text = (
        f"SELECT {COLUMNS} FROM audit_event WHERE {' AND '.join(texts)}"  # noqa: S608 - shapes of ours; values are parameters
        f" ORDER BY sequence {order} LIMIT :limit"
    )
    return composed(text)(**params)


def _containing(text: str) -> str:
    for special in "!%_":
        text = text.replace(special, f"!{special}")
    return f"%{text}%"


def _read_on(organization_id: int, after: int, limit: int) -> Work[list[Entry]]:
    rows = yield queries.READ_ON(organization_id=organization_id, after=after, limit=limit)
    return [entry_of(row) for row in rows]


def _end(organization_id: int) -> Work[int]:
    return int(one((yield queries.FIND_END(organization_id=organization_id))))


def _newest(organization_id: int) -> Work[Head | None]:
    rows = yield queries.FIND_HEAD(organization_id=organization_id)
    return Head(rows[0]["sequence"], rows[0]["hash"]) if rows else None


def _organizations() -> Work[list[tuple[int, str]]]:
    rows = yield queries.LIST_ORGANIZATIONS()
    return [(row["id"], row["slug"]) for row in rows]
