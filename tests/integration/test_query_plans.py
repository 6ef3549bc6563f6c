"""How the databases answer each kind of search over 22,000 instances (PostgreSQL 5,500): by an index."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isocenter.dicom.levels import Level
from isocenter.dicom.scanner import scan
from isocenter.features.archive.entry import Entry, StoredObject
from isocenter.features.archive.policies import Policies
from isocenter.features.archive.query_keys import conditions_of
from isocenter.features.archive.query_model import Order, Plan, Query
from isocenter.features.archive.query_order import after_condition, terms_of
from isocenter.features.archive.query_plan import plan_count, plan_page, plan_place
from isocenter.features.archive.reading import WANTED, HeaderReader
from services.archive import ORGANIZATION, SOURCE, Image, opened
from services.schema import fresh_url
from services.sequences import code, items, request

STUDIES = {"sqlite": 2_000, "postgresql": 500}  # PostgreSQL plans by statistics, and takes its time to fill
INSTANCES_A_STUDY = 11
PATIENTS = 400
AGAIN = ["SMITH", "MEYER", "KOWALSKI", "GARCIA", "NGUYEN", "MULLER", "TANAKA", "OKAFOR"]


def study_of(number: int) -> list[Entry]:
    """A study as reading its objects' headers makes it; the objects themselves are nowhere."""
    patient = number % PATIENTS
    image = Image(
        study=f"1.9.{number}",
        series=f"1.9.{number}.1",
        patient_id=f"P{patient}",
        name=f"{AGAIN[patient % 8]}{'ABCDEFGHIJ'[patient // 8 % 10]}^{'XYZ'[patient % 3]}AN",
        birth_date=f"19{patient % 90 + 10}0101",
        more=(
            (0x00080020, "DA", f"20{number % 20 + 10}{number % 12 + 1:02}{number % 28 + 1:02}"),
            (0x00080030, "TM", f"{number % 24:02}0000"),
            (0x00080050, "SH", f"A{number}"),
            (0x00080090, "PN", f"REF{number % 300}^PHYS"),
            (0x00081050, "PN", f"PERF{number % 50}^PHYS"),
            (0x00082218, "SQ", items(code(str(number % 40), meaning=f"Region {number % 40}"))),
            (0x00200010, "SH", f"ID{number}"),
            (0x00400275, "SQ", items(request(f"S{number}", f"R{number}"))),
        ),
    )
    images = [image.but(sop=f"1.9.{number}.1.{one}") for one in range(INSTANCES_A_STUDY)]
    return [read(one) for one in images]


def read(image: Image) -> Entry:
    found = scan(image.file, WANTED)
    header = READER.read(found)
    stored = StoredObject(f"1/{image.sop}", 1, found.header_size, image.sop, found.transfer_syntax_uid)
    return Entry(stored, SOURCE, header.levels, header.instance)


READER = HeaderReader()


@contextlib.contextmanager
def filled(request: pytest.FixtureRequest, kind: str, folder: Path) -> Iterator[str]:
    with fresh_url(request, kind, folder) as url:

        async def fill() -> None:
            async with opened(url, folder) as archive:
                for start in range(0, STUDIES[kind], 50):
                    batch = [entry for number in range(start, start + 50) for entry in study_of(number)]
                    await archive.committer.submit(ORGANIZATION, batch, Policies())
                assert await archive.one("SELECT count(*) FROM instance") == STUDIES[kind] * INSTANCES_A_STUDY

        asyncio.run(fill())
        yield url


@pytest.fixture(scope="module")
def sqlite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a full database, which is only read."""
    with filled(request, "sqlite", tmp_path_factory.mktemp("plans")) as url:
        yield url


@pytest.fixture(scope="module")
def postgresql(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with filled(request, "postgresql", tmp_path_factory.mktemp("plans")) as url:
        request.getfixturevalue("postgres").sql("ANALYZE", database=url.rpartition("/")[2])
        yield url


def query(level: Level, matches: dict[int, str] | None = None, **more: Any) -> Query:
    return Query(level, matches or {}, frozenset(), **more)


NAME, PATIENT_ID, STUDY_UID, SERIES_UID, SOP_UID = 0x00100010, 0x00100020, 0x0020000D, 0x0020000E, 0x00080018
STUDY_DATE, STUDY_TIME, ZONE = 0x00080020, 0x00080030, 0x00080201
STEP, REGION = (0x00400275, 0x00400009), (0x00082218, 0x00080104)

SEARCHES = {
    "patient id": query(Level.STUDY, {PATIENT_ID: "P7"}),
    "patient id of patients": query(Level.PATIENT, {PATIENT_ID: "P7"}),
    "patient id of instances": query(Level.INSTANCE, {PATIENT_ID: "P7"}),
    "patient id and name": query(Level.STUDY, {PATIENT_ID: "P7", NAME: "*MUL*"}),
    "a name": query(Level.STUDY, {NAME: "SMITHA^XAN"}),
    "beginning of a name": query(Level.STUDY, {NAME: "SMITHA*"}),
    "birth date": query(Level.STUDY, {0x00100030: "19700101"}),
    "a fuzzy name": query(Level.STUDY, {NAME: "schmitta"}, fuzzy=True),
    "a fuzzy name of two words": query(Level.STUDY, {NAME: "xan^schmitta"}, fuzzy=True),
    "a fuzzy name's beginning": query(Level.STUDY, {NAME: "smitha*"}, fuzzy=True),
    "a fuzzy name and patient id": query(Level.STUDY, {NAME: "schmitta", PATIENT_ID: "P7"}, fuzzy=True),
    "referring physician": query(Level.STUDY, {0x00080090: "REF7^PHYS"}),
    "fuzzy referring physician": query(Level.STUDY, {0x00080090: "phys^ref7"}, fuzzy=True),
    "performing physician": query(Level.SERIES, {0x00081050: "PERF7*"}),
    "accession number": query(Level.STUDY, {0x00080050: "A7"}),
    "study id": query(Level.STUDY, {0x00200010: "ID7", STUDY_DATE: "20170101-20171231"}),
    "study date": query(Level.STUDY, {STUDY_DATE: "20170808"}),
    "date and time as one": query(Level.STUDY, {STUDY_DATE: "20170101-20171231", STUDY_TIME: "1200-0800"}),
    "date in a time zone": query(Level.STUDY, {STUDY_DATE: "20170808", ZONE: "+0200"}),
    "study uids": query(Level.STUDY, {STUDY_UID: "1.9.7\\1.9.8"}),
    "series of a study": query(Level.SERIES, {STUDY_UID: "1.9.7"}),
    "series of a study by modality": query(Level.SERIES, {STUDY_UID: "1.9.7", 0x00080060: "CT"}),
    "instances of a series": query(Level.INSTANCE, {STUDY_UID: "1.9.7", SERIES_UID: "1.9.7.1"}),
    "instances of a study": query(Level.INSTANCE, {STUDY_UID: "1.9.7"}),
    "one instance": query(Level.INSTANCE, {SOP_UID: "1.9.7.1.3"}),
    "a scheduled step": query(Level.SERIES, item_matches={STEP: "S7"}),
    "a step and its procedure": query(
        Level.SERIES, item_matches={STEP: "S7", (0x00400275, 0x00401001): "R7"}
    ),
    "a region's name": query(Level.SERIES, item_matches={REGION: "Region 7"}),
    "a region of a patient": query(Level.SERIES, {PATIENT_ID: "P7"}, item_matches={REGION: "Region*"}),
    "modalities of a day": query(Level.STUDY, {0x00080061: "CT", STUDY_DATE: "20170808"}),
    "sop classes of a patient": query(Level.STUDY, {0x00080062: "1.2", PATIENT_ID: "P7"}),
    "all studies": query(Level.STUDY),
    "all patients": query(Level.PATIENT),
    "all series": query(Level.SERIES),
    "all instances": query(Level.INSTANCE),
    "studies by patient's name": query(
        Level.STUDY, {PATIENT_ID: "P7"}, order=(Order(NAME), Order(STUDY_DATE))
    ),
}


def plans() -> dict[str, Plan]:
    found = {}
    for what, asked in SEARCHES.items():
        conditions = conditions_of(asked, ORGANIZATION)
        found[what] = plan_page(asked, conditions)
        found[f"count: {what}"] = plan_count(asked, conditions)
    for level, uid in ((Level.STUDY, "1.9.7"), (Level.SERIES, "1.9.7.1"), (Level.INSTANCE, "1.9.7.1.3")):
        asked = query(level, after_uid=uid)
        found[f"place of one {level}"] = plan_place(asked, terms_of(asked), ORGANIZATION)
    asked = query(Level.STUDY, limit=10)
    conditions = conditions_of(asked, ORGANIZATION)
    text = after_condition(terms_of(asked), ("20170101", 7), conditions.params)
    found["studies after one"] = plan_page(asked, conditions, [text])
    return found


PLANS = plans()

# Whoever asks for everything reads everything; the rest of a search starts from what an index finds.
EVERYTHING = {"all studies", "all patients", "all series", "all instances"}


async def test_sqlite_never_walks_a_table(sqlite: str, tmp_path: Path) -> None:
    """SEARCH uses an index, SCAN reads every row (of what is no list of values that was given)."""
    walked = {}
    async with opened(sqlite, tmp_path) as archive:
        for what, plan in PLANS.items():
            rows = await archive.rows("EXPLAIN QUERY PLAN " + plan.sql.text, **plan.params)
            steps = [row["detail"] for row in rows]
            scans = [one for one in steps if one.startswith("SCAN") and not re.search("json_each|v$", one)]
            if scans:
                walked[what] = steps
            # An index that only tells one organisation from another is a walk too.
            others = steps[1:] if what.removeprefix("count: ") in EVERYTHING else steps
            if any(one.endswith("(organization_id=?)") for one in others):
                walked[what] = steps
    assert walked == {}, "\n".join(f"{what}: {steps}" for what, steps in walked.items())


LEADS = {
    "patient id": "SEARCH p USING INTEGER PRIMARY KEY (rowid=?)",  # of whom that ID stands for
    "beginning of a name": "SEARCH p USING INDEX ix_patient_organization_id_name_key"
    " (organization_id=? AND name_key>? AND name_key<?)",
    "a fuzzy name": "SEARCH p USING INTEGER PRIMARY KEY (rowid=?)",
    "referring physician": "SEARCH s USING INTEGER PRIMARY KEY (rowid=?)",
    "a scheduled step": "SEARCH e USING INTEGER PRIMARY KEY (rowid=?)",
    "date in a time zone": "SEARCH s USING INDEX ix_study_organization_id_study_date"
    " (organization_id=? AND study_date>? AND study_date<?)",
    "studies after one": "SEARCH s USING INDEX ix_study_organization_id_study_date"
    " (organization_id=? AND study_date<?)",
    "count: all studies": "SEARCH s USING COVERING INDEX",
    "count: patient id of instances": "SEARCH p USING INTEGER PRIMARY KEY (rowid=?)",
}


async def test_sqlite_starts_from_the_index_that_leaves_least(sqlite: str, tmp_path: Path) -> None:
    async with opened(sqlite, tmp_path) as archive:
        for what, expected in LEADS.items():
            plan = PLANS[what]
            rows = await archive.rows("EXPLAIN QUERY PLAN " + plan.sql.text, **plan.params)
            assert rows[0]["detail"].startswith(expected), (what, [row["detail"] for row in rows])


async def test_postgresql_reads_no_table_of_many_rows(postgresql: str, tmp_path: Path) -> None:
    walked = {}
    async with opened(postgresql, tmp_path) as archive:
        for what, plan in PLANS.items():
            if what.removeprefix("count: ") in EVERYTHING:
                continue
            rows = await archive.rows("EXPLAIN " + plan.sql.text, **plan.params)
            text = "\n".join(next(iter(row.values())) for row in rows)
            if re.search(r"Seq Scan on (instance|series_value|study_value|patient_value)\b", text):
                walked[what] = text
    assert walked == {}, "\n".join(f"{what}: {steps}" for what, steps in walked.items())


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_every_search_finds_what_is_there(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path
) -> None:
    """The plans are of searches that find something, and each count agrees with its page."""
    nothing = {"a fuzzy name and patient id", "patient id and name", "sop classes of a patient"}
    async with opened(request.getfixturevalue(kind), tmp_path) as archive:
        for what, asked in SEARCHES.items():
            rows = await archive.rows(PLANS[what].sql.text, **(PLANS[what].params | {"limit": 100_000}))
            counted = await archive.one(PLANS[f"count: {what}"].sql.text, **PLANS[f"count: {what}"].params)
            assert len(rows) == (counted or 0), what
            assert bool(rows) is (what not in nothing), what
            assert asked.limit == 1000
