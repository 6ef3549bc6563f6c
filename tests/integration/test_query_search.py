"""The search itself, below the doors: endless pages, plans that use indexes, one organisation's rows only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from isocenter.dicom.levels import Level
from isocenter.features.archive.query import Query, Search
from isocenter.features.archive.query_keys import conditions_of
from isocenter.features.archive.query_model import Plan
from isocenter.features.archive.query_plan import plan_after, plan_page
from services.archive import ORGANIZATION, Image, TestArchive, opened
from services.schema import fresh_url, sqlite_with_schema

NAME, PATIENT_ID, SEX = 0x00100010, 0x00100020, 0x00100040
STUDY_UID, SERIES_UID, SOP_UID = 0x0020000D, 0x0020000E, 0x00080018
STUDY_DATE, ACCESSION, MODALITIES = 0x00080020, 0x00080050, 0x00080061
STUDIES = 25


@pytest.fixture(params=["sqlite", "postgresql"])
async def archive(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TestArchive]:
    with fresh_url(request, request.param, tmp_path) as url:
        async with opened(url, tmp_path) as held:
            images = [
                Image(sop=f"1.9.{n}.1.1", series=f"1.9.{n}.1", study=f"1.9.{n}", patient_id=f"P{n % 5}")
                for n in range(STUDIES)
            ]
            await held.send(*images)
            yield held


def search(archive: TestArchive, query: Query, organization_id: int = ORGANIZATION) -> Search:
    return Search(archive.database, organization_id, query)


async def test_pages_bring_everything_once(archive: TestArchive) -> None:
    for level in Level:
        query = Query(level, {}, frozenset({STUDY_UID, PATIENT_ID}))
        pages = [page async for page in search(archive, query).pages(rows_max=4)]
        expected = 5 if level is Level.PATIENT else STUDIES
        assert sum(map(len, pages)) == expected
        assert all(len(page) <= 4 for page in pages)
        answers = [match.json() for page in pages for match in page]
        assert len(set(answers)) == expected


async def test_what_arrives_meanwhile_neither_repeats_nor_hides(archive: TestArchive) -> None:
    found: list[str] = []
    async for page in search(archive, Query(Level.STUDY, {}, frozenset({STUDY_UID}))).pages(rows_max=10):
        if not found:
            await archive.send_one(Image(sop="1.8.1.1.1", series="1.8.1.1", study="1.8.1"))
        found += [match.study_instance_uid for match in page]
    assert len(found) == len(set(found)) == STUDIES + 1


async def test_patients_are_counted(archive: TestArchive) -> None:
    counts = frozenset({PATIENT_ID, 0x00201200, 0x00201202, 0x00201204})
    page = await search(archive, Query(Level.PATIENT, {PATIENT_ID: "P3"}, counts)).page()
    (match,) = page.matches
    assert match.json() == (
        '{"00100020":{"vr":"LO","Value":["P3"]},"00201200":{"vr":"IS","Value":[5]},'
        '"00201202":{"vr":"IS","Value":[5]},"00201204":{"vr":"IS","Value":[5]}}'
    )


async def test_other_organisations_see_nothing(archive: TestArchive) -> None:
    await archive.execute("INSERT INTO organization (slug, name, created_at_us) VALUES ('other', 'Other', 0)")
    other = await archive.one("SELECT id FROM organization WHERE slug = 'other'")
    for level in Level:
        for matches in ({}, {PATIENT_ID: "P1"}, {NAME: "DOE*"}):
            query = Query(level, matches, frozenset({PATIENT_ID}))
            assert (await search(archive, query, other).page()).matches == []
            assert (await search(archive, query).page()).matches
    with_modality = Query(Level.STUDY, {MODALITIES: "CT"}, frozenset())
    assert (await search(archive, with_modality, other).page()).matches == []


def plans() -> Mapping[str, Plan]:
    def plan(level: Level, matches: dict[int, str]) -> Plan:
        query = Query(level, matches, frozenset())
        return plan_page(query, conditions_of(query, ORGANIZATION))

    found = {
        "patient id": plan(Level.STUDY, {PATIENT_ID: "P1"}),
        "patient id and sex": plan(Level.STUDY, {PATIENT_ID: "P1", SEX: "F"}),
        "beginning of a name": plan(Level.STUDY, {NAME: "DOE*"}),
        "a name": plan(Level.STUDY, {NAME: "DOE^JANE"}),
        "accession number": plan(Level.STUDY, {ACCESSION: "A1", STUDY_DATE: "20240101-20241231"}),
        "study date": plan(Level.STUDY, {STUDY_DATE: "20240101"}),
        "series of a study": plan(Level.SERIES, {STUDY_UID: "1.2"}),
        "instances of a series": plan(Level.INSTANCE, {STUDY_UID: "1.2", SERIES_UID: "1.3"}),
        "one instance": plan(Level.INSTANCE, {SOP_UID: "1.4"}),
        "all studies": plan(Level.STUDY, {}),
    }
    query = Query(Level.STUDY, {PATIENT_ID: "P1"}, frozenset())
    found["patient id, next page"] = plan_after(query, conditions_of(query, ORGANIZATION), after=7, rows=100)
    return found


@pytest.mark.parametrize("what", plans())
async def test_no_common_search_walks_a_table(tmp_path: Path, what: str) -> None:
    """SQLite tells: SEARCH uses an index, SCAN reads every row."""
    async with opened(sqlite_with_schema(tmp_path / "x.db"), tmp_path) as archive:
        plan = plans()[what]
        rows = await archive.rows("EXPLAIN QUERY PLAN " + plan.sql.text, **plan.params)
        steps = [row["detail"] for row in rows]
        assert not [step for step in steps if step.startswith("SCAN")], steps
        if "patient id" in what:  # also that of somebody who was merged
            looked_up = ["SEARCH p USING INTEGER PRIMARY KEY", "LIST SUBQUERY", "SEARCH o USING INDEX"]
            assert [step.startswith(one) for step, one in zip(steps, looked_up, strict=False)] == [True] * 3
        elif "name" in what:
            assert steps[0].startswith("SEARCH p USING INDEX"), steps


async def test_postgresql_finds_the_patient_by_index(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with fresh_url(request, "postgresql", tmp_path) as url:
        async with opened(url, tmp_path) as archive:
            await archive.execute(
                "INSERT INTO patient (organization_id, patient_id, created_at_us, updated_at_us)"
                " SELECT 1, 'X' || n, 0, 0 FROM generate_series(1, 5000) n"
            )
            await archive.execute("ANALYZE patient")
            plan = plans()["patient id"]
            rows: list[dict[str, Any]] = await archive.rows("EXPLAIN " + plan.sql.text, **plan.params)
        text = "\n".join(next(iter(row.values())) for row in rows)
        assert "Seq Scan on patient" not in text
