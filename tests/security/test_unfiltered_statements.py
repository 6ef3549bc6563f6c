"""The archive's own statements with their filters cut out: PostgreSQL shows nothing of another organisation.

SQLite has nothing of the kind. There the same cut shows both, which proves that the cut is one.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from isocenter.features.ae_titles.service import AeTitles
from isocenter.features.archive.changes import read_changes
from isocenter.features.archive.deletion.deleting import Scope
from isocenter.features.archive.deletion.deletions import Deletions
from isocenter.features.archive.quarantine import Quarantine
from isocenter.kit.clock import ManualClock
from isocenter.platform.db import Call, CallMany, Database, Work, composed
from services.schema import fresh_url
from services.two_organizations import (
    IMAGE,
    OURS,
    TwoOrganizations,
    everything_seen,
    fill_both,
    two_organizations,
)

_FILTER = re.compile(r"\b(?:\w+\.)?organization_id = :organization_id\b")


class Unfiltered:
    """A database whose statements have lost ``organization_id = …``; ``cut`` counts them."""

    def __init__(self, inner: Database) -> None:
        self.inner = inner
        self.dialect = inner.dialect
        self.cut = 0

    async def read(self, work: Any, organization_id: int, /, *args: Any, **kwargs: Any) -> Any:
        return await self.inner.read(self._cut, organization_id, work, *args, **kwargs)

    async def write(self, work: Any, organization_id: int, /, *args: Any, **kwargs: Any) -> Any:
        return await self.inner.write(self._cut, organization_id, work, *args, **kwargs)

    def _cut(self, organization_id: int, work: Any, *args: Any, **kwargs: Any) -> Work[Any]:
        steps = work(organization_id, *args, **kwargs)
        try:
            call = next(steps)
            while True:
                rows = yield self._without_filter(call)
                call = steps.send(rows)
        except StopIteration as finished:
            return finished.value

    def _without_filter(self, call: Call | CallMany) -> Call | CallMany:
        text, count = _FILTER.subn("1 = 1", call.sql.text)
        if not count:
            return call
        self.cut += count
        sql = composed(text)
        return sql(**call.params) if isinstance(call, Call) else sql.many(call.rows)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def two(url: str, tmp_path: Path) -> AsyncIterator[TwoOrganizations]:
    async with two_organizations(url, tmp_path) as made:
        await fill_both(made)
        yield made


async def test_reading(two: TwoOrganizations) -> None:
    database: Any = Unfiltered(two.archive.database)
    quarantine = Quarantine(database, two.archive.ingest, two.archive.clock)
    for organization_id in two.both:
        rightly = await everything_seen(two, organization_id, two.archive.database)
        seen = await everything_seen(two, organization_id, database)
        waiting = [one.object_key for one in await quarantine.list(organization_id)]
        if database.dialect == "sqlite":
            assert len(seen) > len(rightly) and len(waiting) == 2, "the cut cuts"
        else:
            assert seen == rightly
            assert [key.partition("/")[0] for key in waiting] == [str(organization_id)]
            assert await quarantine.count(organization_id) == 1
    assert database.cut > 20


async def test_deleting_and_settling(two: TwoOrganizations) -> None:
    if two.archive.database.dialect == "sqlite":
        pytest.skip("SQLite has no row-level security: the filters are all there is")
    database: Any = Unfiltered(two.archive.database)
    before = await everything_seen(two, two.theirs, two.archive.database)
    entries = await two.archive.quarantine.list(two.theirs)
    quarantine = Quarantine(database, two.archive.ingest, two.archive.clock)
    deletions = Deletions(database, two.archive.clock)
    assert (await deletions.delete(OURS, Scope(IMAGE.study))).instances == 1
    for entry in await quarantine.list(OURS):
        await quarantine.discard(OURS, entry.id)
    assert await everything_seen(two, two.theirs, two.archive.database) == before
    assert await two.archive.quarantine.list(two.theirs) == entries
    kinds = [change.kind for change in await read_changes(two.archive.database, OURS)]
    assert kinds == ["stored", "quarantined", "deleted"]


async def test_ae_titles(two: TwoOrganizations) -> None:
    if two.archive.database.dialect == "sqlite":
        pytest.skip("SQLite has no row-level security: the filters are all there is")
    database: Any = Unfiltered(two.archive.database)
    plain = AeTitles(two.archive.database, ManualClock())
    await plain.register(OURS, "OURS", host="10.0.0.1")
    await plain.register(two.theirs, "THEIRS", host="10.0.0.2")
    cut = AeTitles(database, ManualClock())
    assert [one.title for one in await cut.titles(OURS)] == ["OURS"]
    await cut.remove(OURS, "OURS")
    assert [one.title for one in await plain.titles(two.theirs)] == ["THEIRS"]
    await cut.close()
    await plain.close()
