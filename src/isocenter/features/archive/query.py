"""Searching the index: the one search behind QIDO-RS (PS3.18 §10.6) and C-FIND (PS3.4 C.4.1).

    search = Search(database, organization_id, Query(Level.STUDY, {0x00100020: "P1"}, returned))
    page = await search.page()              # QIDO: one page in display order
    count = await search.count()            # how many there are in all
    async for matches in search.pages():    # C-FIND: everything, memory stays flat

``search.unsupported`` and ``search.unsupported_items`` name the matching keys that answers do not respect.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from isocenter.features.archive.query_keys import conditions_of
from isocenter.features.archive.query_model import Order, Path, Plan, Query
from isocenter.features.archive.query_order import after_condition, terms_of
from isocenter.features.archive.query_plan import plan_after, plan_count, plan_page, plan_place
from isocenter.features.archive.query_results import Match, shape_of
from isocenter.features.archive.query_supplements import Told, supplements_of
from isocenter.kit.errors import InvalidInput
from isocenter.platform.db import Database, Row, Work

__all__ = ["Match", "Order", "Page", "Path", "Query", "Search"]


@dataclass(frozen=True, slots=True)
class Page:
    """``more``: the limit left matches out. ``total``: all there are, where it was asked for."""

    matches: list[Match]
    more: bool
    total: int | None = None


class Search:
    """One search; it holds no database resources between its calls."""

    def __init__(self, database: Database, organization_id: int, query: Query) -> None:
        """Raises InvalidInput for a matching value that its attribute cannot have, or an order that it cannot
        be brought into."""
        self._database = database
        self._organization_id = organization_id
        self._query = query
        self._conditions = conditions_of(query, organization_id)
        self._shape = shape_of(query.level, query.returned)
        self._supplements = supplements_of(query.level, query.returned)

    @property
    def unsupported(self) -> tuple[int, ...]:
        """Tags that were asked to match and are not matched on (PS3.18 §8.3.4.1, PS3.4 C.4.1.3.1)."""
        return self._conditions.unsupported

    @property
    def unsupported_items(self) -> tuple[Path, ...]:
        """The same of attributes within sequences."""
        return self._conditions.unsupported_items

    async def page(self, *, with_total: bool = False) -> Page:
        """Up to ``query.limit`` matches from ``query.offset`` on, from one snapshot.

        Raises InvalidInput where ``query.after_uid`` names nothing.
        """
        query = self._query
        if query.after_uid:
            rows, total, told = await self._database.read(
                self._select_after, self._organization_id, with_total
            )
        elif with_total or self._supplements:
            plan = plan_page(query, self._conditions)
            rows, total, told = await self._database.read(
                self._select_more, self._organization_id, plan, with_total
            )
        else:
            rows = await self._database.read(
                _select, self._organization_id, plan_page(query, self._conditions)
            )
            total, told = None, None
        match = self._shape.match
        matches = [match(row) for row in rows[: query.limit]]
        if told is not None:
            self._supplements.add(matches, rows, told)
        return Page(matches, len(rows) > query.limit, total)

    async def count(self) -> int:
        """How many matches there are in all."""
        return await self._database.read(self._count, self._organization_id)

    async def pages(self, rows_max: int = 200) -> AsyncIterator[list[Match]]:
        """Every match, ``rows_max`` at a time, in order of arrival; each page is a snapshot of its own."""
        after = 0
        while True:
            plan = plan_after(self._query, self._conditions, after=after, rows=rows_max)
            if self._supplements:
                rows, _, told = await self._database.read(
                    self._select_more, self._organization_id, plan, False
                )
            else:
                rows, told = await self._database.read(_select, self._organization_id, plan), None
            if rows:
                matches = [self._shape.match(row) for row in rows]
                if told is not None:
                    self._supplements.add(matches, rows, told)
                yield matches
            if len(rows) < rows_max:
                return
            after = rows[-1][0]

    def _select_after(self, organization_id: int, with_total: bool) -> Work[_Found]:
        query = self._query
        terms = terms_of(query)
        place = plan_place(query, terms, organization_id)
        rows = yield place.sql(**place.params)
        if not rows:
            raise InvalidInput(
                "after: there is nothing with this UID to go on from.",
                code="after-nothing",
                remedy="Give the UID of the last match that was received, or begin anew without it.",
            )
        params = self._conditions.params
        values = [rows[0][position] for position in range(len(terms))]
        plan = plan_page(query, self._conditions, [after_condition(terms, values, params)])
        return (yield from self._select_more(organization_id, plan, with_total))

    def _select_more(self, organization_id: int, plan: Plan, with_total: bool) -> Work[_Found]:
        """A page; how many matches there are in all, unless the page tells; what else is told of them."""
        query = self._query
        rows = yield plan.sql(**plan.params)
        total = None
        if with_total:
            first_page = not query.after_uid and (rows or not query.offset)
            if first_page and len(rows) <= query.limit:
                total = query.offset + len(rows)
            else:
                total = yield from self._count(organization_id)
        told = yield from self._supplements.find(organization_id, rows[: query.limit])
        return rows, total, told

    def _count(self, _organization_id: int) -> Work[int]:
        plan = plan_count(self._query, self._conditions)
        rows = yield plan.sql(**plan.params)
        return int(rows[0][0] or 0)


_Found = tuple[list[Row], int | None, Told | None]


def _select(_organization_id: int, plan: Plan) -> Work[list[Row]]:
    """The plan's conditions name the organisation already."""
    rows = yield plan.sql(**plan.params)
    return rows
