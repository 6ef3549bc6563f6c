"""Searching the index: the one search behind QIDO-RS (PS3.18 §10.6) and C-FIND (PS3.4 C.4.1).

    search = Search(database, organization_id, Query(Level.STUDY, {0x00100020: "P1"}, returned))
    page = await search.page()              # QIDO: one page in display order
    async for matches in search.pages():    # C-FIND: everything, memory stays flat

``search.unsupported`` names the matching keys that the answers do not respect.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from isocenter.features.archive.attributes import Level
from isocenter.features.archive.query_plan import Plan, Query, conditions_of, plan_after, plan_page
from isocenter.features.archive.query_results import Match, shape_of
from isocenter.platform.db import Database, Row, Work

__all__ = ["Level", "Match", "Page", "Query", "Search"]


@dataclass(frozen=True, slots=True)
class Page:
    """``more``: the limit left matches out."""

    matches: list[Match]
    more: bool


class Search:
    """One search; it holds no database resources between its calls."""

    def __init__(self, database: Database, organization_id: int, query: Query) -> None:
        """Raises InvalidInput for a matching value that its attribute cannot have."""
        self._database = database
        self._organization_id = organization_id
        self._query = query
        self._conditions = conditions_of(query, organization_id)
        self._shape = shape_of(query.level, query.returned)

    @property
    def unsupported(self) -> tuple[int, ...]:
        """Tags that were asked to match and are not matched on (PS3.18 §8.3.4.1, PS3.4 C.4.1.3.1)."""
        return self._conditions.unsupported

    async def page(self) -> Page:
        """Up to ``query.limit`` matches from ``query.offset`` on, from one snapshot."""
        query = self._query
        rows = await self._database.read(_select, self._organization_id, plan_page(query, self._conditions))
        match = self._shape.match
        return Page([match(row) for row in rows[: query.limit]], len(rows) > query.limit)

    async def pages(self, rows_max: int = 200) -> AsyncIterator[list[Match]]:
        """Every match, ``rows_max`` at a time, in order of arrival; each page is a snapshot of its own."""
        after = 0
        while True:
            plan = plan_after(self._query, self._conditions, after=after, rows=rows_max)
            rows = await self._database.read(_select, self._organization_id, plan)
            if rows:
                yield [self._shape.match(row) for row in rows]
            if len(rows) < rows_max:
                return
            after = rows[-1][0]


def _select(_organization_id: int, plan: Plan) -> Work[list[Row]]:
    """The plan's conditions name the organisation already."""
    rows = yield plan.sql(**plan.params)
    return rows
