"""From what was told to what is kept: the unit of work that appends to a chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields as fields_of
from itertools import islice
from typing import NamedTuple

import orjson

from isocenter.features.audit import queries
from isocenter.features.audit.chain import BEFORE_THE_FIRST, chained_hash
from isocenter.features.audit.entries import Entry, Head
from isocenter.platform.db import Work, one
from isocenter.platform.security import AuditEvent

_TEXT_CHARS_MAX = 1024
_DETAILS_MAX = 64
_INTEGER_MAX = 2**63
_COLUMNS = tuple(field.name for field in fields_of(Entry))


class Told(NamedTuple):
    at_us: int
    event: AuditEvent


def append(organization_id: int, told: Sequence[Told], attempts: set[Head]) -> Work[None]:
    """Continue the organisation's chain.

    ``attempts``: the new heads that earlier tries came to. One of them is there already where the database
    committed and the answer was lost; writing again would tell everything twice.
    """
    yield queries.LOCK_CHAIN(organization_id=organization_id)
    for head in attempts:
        rows = yield queries.FIND_APPENDED(
            organization_id=organization_id, sequence=head.sequence, hash=head.hash
        )
        if rows:
            return
    kept = yield queries.FIND_HEAD(organization_id=organization_id)
    end = one((yield queries.FIND_END(organization_id=organization_id)))
    newest = Head(kept[0]["sequence"], kept[0]["hash"]) if kept else BEFORE_THE_FIRST
    # They differ only where somebody was at the tables. Recording goes on behind both, chained to what was
    # recorded last, so that what does not belong is never made a part of the chain.
    newest = Head(max(newest.sequence, end), newest.hash)
    rows_new, head = _chained(organization_id, newest, told)
    attempts.add(head)
    yield queries.APPEND.many(rows_new)
    yield queries.MOVE_HEAD(organization_id=organization_id, sequence=head.sequence, hash=head.hash)


def _chained(
    organization_id: int, newest: Head, told: Sequence[Told]
) -> tuple[list[dict[str, str | int]], Head]:
    """Rows to insert and the last one's head. Plain tuples: each search that anybody does passes here."""
    rows: list[dict[str, str | int]] = []
    previous_hash = newest.hash
    sequence = newest.sequence
    for at_us, event in told:
        sequence += 1
        fields = (
            organization_id,
            sequence,
            at_us,
            event.action.value,
            event.outcome.value,
            event.subject_kind.value,
            storable(event.subject_id),
            storable(event.subject_name),
            storable(event.address),
            storable(event.resource_kind),
            storable(event.resource_id),
            canonical(event.details),
            storable(event.trace_id),
        )
        hashed = chained_hash(previous_hash, fields)
        rows.append(dict(zip(_COLUMNS, (*fields, previous_hash, hashed), strict=True)))
        previous_hash = hashed
    return rows, Head(sequence, previous_hash)


def storable(text: str) -> str:
    """What both databases can keep of it: no NUL, no half of a surrogate pair, a bounded length."""
    if len(text) > _TEXT_CHARS_MAX:
        text = text[: _TEXT_CHARS_MAX - 1] + "…"
    if text.isascii():
        return text.replace("\0", "\ufffd") if "\0" in text else text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def canonical(details: object) -> str:
    """Details as JSON that is always the same for the same details. Hostile ones are cut, never refused: a
    request that nobody can tell of would be a way around the trail."""
    if not isinstance(details, dict) or not details:
        return "{}"
    kept = {storable(str(name)): _scalar(value) for name, value in islice(details.items(), _DETAILS_MAX)}
    if len(details) > _DETAILS_MAX:
        kept["…"] = len(details) - _DETAILS_MAX
    return orjson.dumps(kept, option=orjson.OPT_SORT_KEYS).decode()


def _scalar(value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and -_INTEGER_MAX <= value < _INTEGER_MAX:
        return value
    return storable(str(value))
