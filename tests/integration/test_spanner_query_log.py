"""The query log: kept by month where the database can, by organisation everywhere, for so many days."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from isocenter.features.spanner.query_log import Asker, LoggedQuery, QueryLog, SourceOutcome
from isocenter.kit.clock import DAY_US, ManualClock, microseconds
from isocenter.kit.errors import Unavailable
from isocenter.platform.db import composed
from services.archive import TestArchive, opened
from services.schema import fresh_url

NOW = datetime(2027, 3, 31, 12, tzinfo=UTC)
QUERY = LoggedQuery(
    1,
    5,
    microseconds(NOW),
    Asker("user", "7", "Dr. Who", "abc"),
    "study",
    ("PatientID",),
    3,
    "partial",
    120,
    0,
    (SourceOutcome(1, "answered", 3, 110, 1), SourceOutcome(2, "timed-out", 0, 120, 2)),
)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def archive(url: str, tmp_path: Path) -> AsyncIterator[TestArchive]:
    async with opened(url, tmp_path) as held:
        await held.execute("INSERT INTO organization (id, slug, created_at_us) VALUES (7, 'x', 0)")
        yield held


async def test_each_organisation_reads_its_own_the_latest_first(archive: TestArchive) -> None:
    log = QueryLog(archive.database, ManualClock(NOW))
    later = replace(QUERY, asked_at_us=QUERY.asked_at_us + 1, config_id=6)
    for query in (QUERY, later, replace(QUERY, organization_id=7)):
        log.note(query)
    assert await log.find(1) == [later, QUERY]
    assert await log.find(1, config_id=5) == [QUERY]
    assert await log.find(1, before_us=later.asked_at_us) == [QUERY]
    assert await log.find(1, from_us=later.asked_at_us) == [later]
    assert await log.find(1, limit=1) == [later]
    assert len(await log.find(7)) == 1
    await log.close()


async def test_what_is_old_is_forgotten(archive: TestArchive) -> None:
    log = QueryLog(archive.database, ManualClock(NOW))
    for days, organization_id in ((0, 1), (89, 1), (91, 1), (400, 1), (400, 7)):
        log.note(
            replace(QUERY, organization_id=organization_id, asked_at_us=QUERY.asked_at_us - days * DAY_US)
        )
    await log.flush()
    assert await log.forget_of_all(days=90) == 3
    assert len(await log.find(1)) == 2
    assert await log.find(7) == []
    await log.close()


async def test_postgresql_keeps_a_part_for_each_month(archive: TestArchive, url: str) -> None:
    if not url.startswith("postgresql"):
        pytest.skip("SQLite keeps tables whole")
    log = QueryLog(archive.database, ManualClock(NOW))
    long_ago = microseconds(datetime(1999, 1, 1, tzinfo=UTC))
    for at_us in (QUERY.asked_at_us, QUERY.asked_at_us + DAY_US, long_ago):
        log.note(replace(QUERY, asked_at_us=at_us))
    await log.flush()
    rows = await archive.database.read(
        _rows,
        1,
        "SELECT tableoid::regclass::text FROM spanner_query_log WHERE organization_id = 1 ORDER BY 1",
    )
    assert rows == ["spanner_query_log_2027_03", "spanner_query_log_2027_04", "spanner_query_log_other"]
    assert await log.forget_of_all(days=365) == 1
    await log.close()


def _rows(organization_id: int, statement: str):  # type: ignore[no-untyped-def]
    found = yield composed(statement)()
    return [row[0] for row in found]


async def test_what_cannot_be_written_now_is_written_later(
    archive: TestArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = QueryLog(archive.database, ManualClock(NOW))
    write = archive.database.write

    async def away(*_: object, **__: object) -> None:
        raise Unavailable("gone")

    monkeypatch.setattr(archive.database, "write", away)
    log.note(QUERY)
    await log.flush()
    monkeypatch.setattr(archive.database, "write", write)
    await log.close()
    assert await log.find(1) == [QUERY]
