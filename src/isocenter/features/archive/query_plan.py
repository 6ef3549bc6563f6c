"""From a search to one SQL statement: which tables, in which order, under which conditions.

Each of patient, study, series and instance is joined only as far down as the search looks, and the most
selective of them comes first. SQLite keeps the order of a ``CROSS JOIN`` (PostgreSQL decides for itself), so
that a search by Patient ID never walks all studies because an index would have sorted them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from isocenter.dicom.levels import Level
from isocenter.features.archive.query_model import ALIAS, LEVELS, Conditions, Plan, Query
from isocenter.features.archive.query_order import UID_COLUMNS, Term, terms_of
from isocenter.features.archive.query_results import PATIENT_COUNTS, columns_of
from isocenter.platform.db import composed

_JOINS = ("s.patient_pk = p.id", "e.study_pk = s.id", "i.series_pk = e.id")
_HAS_STUDIES = (
    "EXISTS (SELECT 1 FROM study x WHERE x.organization_id = :organization_id AND x.patient_pk = p.id)"
)

# What a level's rows hold of the levels below, as the index counts it.
_COUNTED_ABOVE = {
    (Level.STUDY, Level.SERIES): "sum(s.series_count)",
    (Level.STUDY, Level.INSTANCE): "sum(s.instance_count)",
    (Level.SERIES, Level.INSTANCE): "sum(e.instance_count)",
}


def plan_page(query: Query, found: Conditions, more: Sequence[str] = ()) -> Plan:
    """One page in its order; asks for one row more than the limit, which tells whether there are more."""
    return _plan(
        query,
        found,
        more,
        _order(terms_of(query), found.selective),
        {"limit": query.limit + 1, "offset": query.offset},
    )


def plan_after(query: Query, found: Conditions, *, after: int, rows: int) -> Plan:
    """The next rows in the order of their ids: no page costs more than the one before it."""
    top = ALIAS[query.level]
    tail = f"ORDER BY {top}.id LIMIT :limit"
    return _plan(query, found, [f"{top}.id > :after"], tail, {"limit": rows, "after": after})


def plan_count(query: Query, found: Conditions) -> Plan:
    """How many rows the search finds, whatever its limit and offset: from the counters of the lowest level
    that a condition looks at."""
    lowest = max([0, *map(LEVELS.index, found.levels)])
    highest = min([len(LEVELS) - 1, *map(LEVELS.index, found.levels)])
    wanted = LEVELS.index(query.level)
    counting = wanted if wanted <= 1 else max(1, lowest)
    counted = _COUNTED_ABOVE.get((LEVELS[counting], query.level), "count(*)")
    chain = range(min(highest, counting), max(lowest, counting) + 1)
    text = " ".join([f"SELECT {counted}", *_from_where(query, found, chain, ())])
    return Plan(composed(text), dict(found.params.values))


def plan_place(query: Query, terms: Sequence[Term], organization_id: int) -> Plan:
    """The order's terms of the match with the UID that the page follows."""
    depth = LEVELS.index(query.level)
    tables = " CROSS JOIN ".join(f"{LEVELS[n].value} {ALIAS[LEVELS[n]]}" for n in range(depth, -1, -1))
    where = [f"{ALIAS[LEVELS[depth]]}.organization_id = :organization_id", *_JOINS[:depth]]
    where.append(f"{UID_COLUMNS[query.level]} = :uid")
    if query.level is Level.INSTANCE:
        where.append("i.current = 1")
    select = ", ".join(term.expression for term in terms)
    text = " ".join(["SELECT", select, "FROM", tables, "WHERE", " AND ".join(where), "LIMIT 1"])
    return Plan(composed(text), {"organization_id": organization_id, "uid": query.after_uid})


def _plan(query: Query, found: Conditions, more: Sequence[str], tail: str, params: dict[str, Any]) -> Plan:
    chain = range(LEVELS.index(query.level) + 1)
    select = columns_of(query.level, with_patient_counts=not PATIENT_COUNTS.isdisjoint(query.returned))
    text = " ".join(["SELECT", select, *_from_where(query, found, chain, more), tail])
    return Plan(composed(text), {**found.params.values, **params})


@lru_cache(maxsize=256)
def _order(terms: tuple[Term, ...], selective: bool) -> str:
    first, *others = terms
    order = ", ".join([first.text(by_index=not selective), *(term.text() for term in others)])
    return f"ORDER BY {order} LIMIT :limit OFFSET :offset"


def _from_where(query: Query, found: Conditions, chain: range, more: Sequence[str]) -> list[str]:
    first = LEVELS.index(found.first) if found.first else min(chain[-1], 1)
    joined = _joined(chain.start, chain.stop, first, found.first_by_row)
    return [joined, *(f"AND {text}" for text in (*found.texts, *more))]


@lru_cache(maxsize=64)
def _joined(start: int, stop: int, first: int, first_by_row: bool) -> str:
    """The levels from ``start`` on, below ``stop``, the most selective first."""
    first = min(max(first, start), stop - 1)
    order = [*range(first, start - 1, -1), *range(first + 1, stop)]
    tables = " CROSS JOIN ".join(f"{LEVELS[n].value} {ALIAS[LEVELS[n]]}" for n in order)
    where = [f"{ALIAS[LEVELS[n]]}.organization_id = :organization_id" for n in order]
    # The plus keeps SQLite from walking the organisation's rows by some index of them.
    if first_by_row:
        where[0] = "+" + where[0]
    if LEVELS[order[-1]] is Level.INSTANCE and len(order) > 1:
        where[-1] = "+" + where[-1]
    where += _JOINS[start : stop - 1]
    if LEVELS[stop - 1] is Level.INSTANCE:
        where.append("i.current = 1")
    if LEVELS[stop - 1] is Level.PATIENT:  # not one that was merged, or of whom only a merge is left
        where.append(_HAS_STUDIES)
    return f"FROM {tables} WHERE {' AND '.join(where)}"
