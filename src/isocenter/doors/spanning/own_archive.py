"""This archive as one of the sources that are spanned."""

from __future__ import annotations

import time

from isocenter.features.archive.query import Query, Search
from isocenter.features.spanner.adapters import Reached, Rows
from isocenter.features.spanner.failures import Ended, SourceFailed
from isocenter.features.spanner.question import Question
from isocenter.features.spanner.retrieval.keeping import Landing
from isocenter.features.spanner.retrieval.orders import Order
from isocenter.features.spanner.rows import row_of_lines
from isocenter.kit.errors import InvalidInput, IsocenterError
from isocenter.platform.db import Database

_PAGE = 1000


class OwnArchive:
    """The objects of one organisation."""

    def __init__(self, database: Database, organization_id: int) -> None:
        self._database = database
        self._organization_id = organization_id

    async def ask(self, question: Question) -> Rows:
        try:
            query = Query(question.level, question.matches, question.wanted, limit=question.rows_max + 1)
            search = Search(self._database, self._organization_id, query)
            if question.rows_max < _PAGE:
                page = await search.page()
                yield [row_of_lines(match.lines) for match in page.matches]
                return
            async for matches in search.pages():
                yield [row_of_lines(match.lines) for match in matches]
        except IsocenterError as error:
            asked_wrongly = isinstance(error, InvalidInput)
            detail = f"it cannot be asked that ({error.code})" if asked_wrongly else error.detail
            raise SourceFailed(Ended.FAILED, detail, remedy=error.remedy, blamed=not asked_wrongly) from error

    async def fetch(self, order: Order, landing: Landing) -> None:
        """Whoever retrieves has looked here first: what is asked for has been deleted meanwhile."""
        del order, landing
        raise SourceFailed(Ended.FAILED, "it no longer has some of the objects", blamed=False)

    async def reach(self) -> Reached:
        begun_s = time.monotonic()
        try:
            await self._database.ping()
        except IsocenterError as error:
            raise SourceFailed(Ended.FAILED, error.detail, remedy=error.remedy) from error
        return Reached(time.monotonic() - begun_s, ("qido", "wado", "find", "move", "get"))

    async def close(self) -> None:
        """The archive lives on."""
