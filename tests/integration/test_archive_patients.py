"""Whose study is it (MISSION A1): one patient whatever the rush, completed and never blended."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from isocenter.features.archive import queries
from isocenter.features.archive.changes import read_changes
from isocenter.features.archive.entry import Outcome, OutcomeKind
from isocenter.features.archive.merge import fragments_by_tag
from isocenter.features.archive.queries_usage import ADVANCE
from services.archive import ORGANIZATION, Image, TestArchive, broken_promises, opened
from services.schema import fresh_url

KIND = OutcomeKind
IMAGE = Image()
PROCESSES = 4


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def archive(url: str, tmp_path: Path) -> AsyncIterator[TestArchive]:
    async with opened(url, tmp_path) as made:
        yield made
        assert await broken_promises(made) == []


@pytest.fixture
async def processes(url: str, tmp_path: Path) -> AsyncIterator[list[TestArchive]]:
    """Archives on one database and store, as separate processes have them."""
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(opened(url, tmp_path)) for _ in range(PROCESSES)]
        yield made
        assert await broken_promises(made[0]) == []


async def patients(archive: TestArchive) -> list[dict[str, Any]]:
    return await archive.rows(
        "SELECT patient_id, issuer, generated, name_key, birth_date, sex, fragments FROM patient ORDER BY id"
    )


async def send_at_once(processes: list[TestArchive], images: list[Image]) -> list[Outcome]:
    async with asyncio.TaskGroup() as senders:
        tasks = [
            senders.create_task(archive.send_one(image))
            for archive, image in zip(itertools.cycle(processes), images, strict=False)
        ]
    return [task.result() for task in tasks]


# --- in a rush ------------------------------------------------------------------------------------------


async def test_32_senders_of_one_new_patient_make_one_patient(processes: list[TestArchive]):
    images = [
        IMAGE.but(sop=f"1.2.4.{n}.1.1", series=f"1.2.4.{n}.1", study=f"1.2.4.{n}", description=f"study {n}")
        for n in range(32)
    ]
    outcomes = await send_at_once(processes, images)
    assert {outcome.kind for outcome in outcomes} == {KIND.STORED}
    assert len(await patients(processes[0])) == 1
    assert await processes[0].one("SELECT count(*) FROM study") == 32


async def test_32_senders_of_one_new_series_make_one_of_each(processes: list[TestArchive]):
    images = [IMAGE.but(sop=f"1.2.4.{n}") for n in range(32)]
    outcomes = await send_at_once(processes, images)
    assert {outcome.kind for outcome in outcomes} == {KIND.STORED}
    for table in ("patient", "study", "series"):
        assert await processes[0].one(f"SELECT count(*) FROM {table}") == 1
    assert await processes[0].one("SELECT instance_count FROM study") == 32


async def test_32_senders_of_one_new_object_store_it_once(processes: list[TestArchive]):
    outcomes = await send_at_once(processes, [IMAGE] * 32)
    assert sorted(outcome.kind for outcome in outcomes) == [KIND.DUPLICATE] * 31 + [KIND.STORED]
    assert await processes[0].one("SELECT duplicate_count FROM instance") == 31


async def test_first_objects_that_race_all_complete_their_study(processes: list[TestArchive]):
    """Each tells something that the others leave out, and nothing of it is lost."""
    tags = [0x00081030, 0x00080050, 0x00200010, 0x00101010, 0x00102180, 0x00081080]
    vrs = ["LO", "SH", "SH", "AS", "SH", "LO"]
    images = [
        IMAGE.but(sop=f"1.2.4.{n}", series=f"1.2.3.1.{n}", more=((tags[n % 6], vrs[n % 6], "007Y"),))
        for n in range(24)
    ]
    await send_at_once(processes, images)
    told = fragments_by_tag(await processes[0].one("SELECT fragments FROM study"))
    assert set(tags) <= set(told)


async def test_mixed_patients_in_a_rush_stay_apart(processes: list[TestArchive]):
    """Eight patients' studies, interleaved over all processes, in batches that cross each other's order."""
    batches = []
    for n in range(32):
        order = range(8) if n % 2 else range(7, -1, -1)
        batches.append(
            [
                IMAGE.but(
                    sop=f"1.2.4.{p}.{n}",
                    series=f"1.2.5.{p}.{n % 3}",
                    study=f"1.2.6.{p}",
                    patient_id=f"P{p}",
                    name=f"DOE^{p}",
                    description=f"told by {n}",
                )
                for p in order
            ]
        )
    async with asyncio.TaskGroup() as senders:
        tasks = [
            senders.create_task(archive.send(*batch))
            for archive, batch in zip(itertools.cycle(processes), batches, strict=False)
        ]
    assert {outcome.kind for task in tasks for outcome in task.result()} == {KIND.STORED}
    rows = await processes[0].rows(
        "SELECT patient_id, study_instance_uid, instance_count, series_count FROM study "
        "JOIN patient ON patient.id = study.patient_pk ORDER BY 1"
    )
    assert [tuple(row.values()) for row in rows] == [(f"P{p}", f"1.2.6.{p}", 32, 3) for p in range(8)]


async def test_real_ids_that_race_for_a_nameless_study_never_blend(processes: list[TestArchive]):
    """The study has a generated patient. Two objects tell two different IDs at once: one wins, the other
    goes to quarantine; the study never moves from one to the other."""
    for attempt in range(6):
        study, series = f"1.2.6.{attempt}", f"1.2.6.{attempt}.1"
        base = IMAGE.but(study=study, series=series, name=None)
        assert (await processes[0].send_one(base.but(sop=f"{series}.0", patient_id=None))).kind is KIND.STORED
        rivals = [base.but(sop=f"{series}.{n}", patient_id=f"A{attempt}-{n}") for n in range(1, 9)]
        outcomes = await send_at_once(processes, rivals)
        assert sorted(outcome.kind for outcome in outcomes) == [KIND.QUARANTINED] * 7 + [KIND.STORED]
        [owner] = await processes[0].rows(
            "SELECT patient_id FROM patient JOIN study ON patient_pk = patient.id "
            "WHERE study_instance_uid = :study",
            study=study,
        )
        [winner] = [o.sop_instance_uid for o in outcomes if o.kind is KIND.STORED]
        assert owner["patient_id"] == f"A{attempt}-{winner.rpartition('.')[2]}"


# --- completing -----------------------------------------------------------------------------------------


async def test_missing_demographics_are_filled_in_and_never_emptied(archive: TestArchive):
    await archive.send_one(IMAGE.but(sop="1.1", birth_date=None, sex="", name=""))
    await archive.send_one(IMAGE.but(sop="1.2"))
    await archive.send_one(IMAGE.but(sop="1.3", birth_date="", sex=None, name=None))
    [patient] = await patients(archive)
    assert (patient["name_key"], patient["birth_date"], patient["sex"]) == ("doe^jane", "19700101", "F")
    assert '"Value":["F"]' in patient["fragments"]
    assert await archive.one("SELECT count(*) FROM patient_conflict") == 0


async def test_contradicting_demographics_are_kept_and_flagged(archive: TestArchive):
    await archive.send_one(IMAGE.but(sop="1.1"))
    await archive.send_one(IMAGE.but(sop="1.2", sex="M", birth_date="19700102", name="DOE^JOHN"))
    await archive.send_one(IMAGE.but(sop="1.3", sex="M"))
    await archive.send_one(IMAGE.but(sop="1.4", name="Doe^Jane"))  # differs in case alone
    [patient] = await patients(archive)
    assert (patient["name_key"], patient["birth_date"], patient["sex"]) == ("doe^jane", "19700101", "F")
    rows = await archive.rows("SELECT tag, kept, other, sop_instance_uid FROM patient_conflict ORDER BY tag")
    assert [(row["tag"], row["sop_instance_uid"]) for row in rows] == [
        ("00100010", "1.2"),
        ("00100030", "1.2"),
        ("00100040", "1.2"),
    ]
    assert "JANE" in rows[0]["kept"]
    assert "JOHN" in rows[0]["other"]


async def test_study_and_series_are_completed_too(archive: TestArchive):
    bare = IMAGE.but(sop="1.1", more=((0x00080020, "DA", ""), (0x0008103E, "LO", "")))
    full = IMAGE.but(sop="1.2", description="Abdomen", more=((0x0008103E, "LO", "Portal"),))
    await archive.send(bare, full, IMAGE.but(sop="1.3"))
    [study] = await archive.rows("SELECT study_date, description_key FROM study")
    assert tuple(study.values()) == ("20260101", "abdomen")
    assert await archive.one("SELECT description_key FROM series") == "portal"


async def test_the_same_id_of_two_issuers_is_two_patients(archive: TestArchive):
    for number, issuer in enumerate(["NORTH", "SOUTH", None]):
        await archive.send_one(IMAGE.but(sop=f"1.{number}", study=f"2.{number}", issuer=issuer))
    assert [row["issuer"] for row in await patients(archive)] == ["NORTH", "SOUTH", ""]


# --- without an ID --------------------------------------------------------------------------------------


async def test_an_object_without_an_id_gets_one_for_its_study(archive: TestArchive):
    nameless = IMAGE.but(patient_id=None)
    await archive.send_one(nameless.but(sop="1.1"))
    await archive.send_one(nameless.but(sop="1.2", series="1.2.3.1.2", patient_id=""))
    await archive.send_one(nameless.but(sop="1.3", study="1.2.9"))
    one, other = await patients(archive)
    assert one["generated"] == other["generated"] == 1
    assert one["patient_id"] != other["patient_id"]
    assert re.fullmatch(r"ISO-[0-9A-F]{16}", one["patient_id"])
    assert one["patient_id"] in one["fragments"]


async def test_an_object_without_an_id_joins_its_studys_patient(archive: TestArchive):
    await archive.send_one(IMAGE)
    assert (await archive.send_one(IMAGE.but(sop="1.2", patient_id=None))).kind is KIND.STORED
    assert [row["patient_id"] for row in await patients(archive)] == ["P1"]


@pytest.mark.parametrize("known_before", [True, False])
async def test_the_real_id_takes_a_generated_ones_place(archive: TestArchive, known_before: bool):
    if known_before:
        await archive.send_one(IMAGE.but(sop="1.1", study="1.2.9", sex=None))
    await archive.send_one(IMAGE.but(sop="1.2", patient_id=None))
    assert (await archive.send_one(IMAGE.but(sop="1.3"))).kind is KIND.STORED
    [patient] = await patients(archive)
    assert (patient["patient_id"], patient["generated"], patient["sex"]) == ("P1", 0, "F")
    assert (await archive.send_one(IMAGE.but(sop="1.4", patient_id=None))).kind is KIND.STORED
    assert len(await patients(archive)) == 1


async def test_within_one_batch_too(archive: TestArchive):
    ids = [None, "P1", None, "P1"]
    outcomes = await archive.send(*(IMAGE.but(sop=f"1.{n}", patient_id=i) for n, i in enumerate(ids)))
    assert {outcome.kind for outcome in outcomes} == {KIND.STORED}
    assert [row["patient_id"] for row in await patients(archive)] == ["P1"]


# --- never blended --------------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    "wrong",
    [
        IMAGE.but(sop="1.2", patient_id="P2"),
        IMAGE.but(sop="1.2", patient_id="P2", name="ROE^RICHARD"),
        IMAGE.but(sop="1.2", patient_id=None, name="ROE^RICHARD"),
        IMAGE.but(sop="1.2", issuer="SOUTH"),
    ],
    ids=["another ID", "another person", "a nameless other", "another issuer"],
)
async def test_a_study_of_another_patient_goes_to_quarantine(
    archive: TestArchive, wrong: Image, together: bool
):
    first = IMAGE.but(issuer="NORTH")
    if together:
        stored, refused = await archive.send(first, wrong)
    else:
        stored, refused = await archive.send_one(first), await archive.send_one(wrong)
    assert (stored.kind, refused.kind) == (KIND.STORED, KIND.QUARANTINED)
    assert [problem.code for problem in refused.problems] == ["study-of-another-patient"]
    assert len(await patients(archive)) == 1
    assert await archive.one("SELECT instance_count FROM study") == 1


async def test_a_nameless_study_of_somebody_else_is_not_taken_over(archive: TestArchive):
    await archive.send_one(IMAGE.but(patient_id=None, name="ROE^RICHARD"))
    assert (await archive.send_one(IMAGE.but(sop="1.2"))).kind is KIND.QUARANTINED
    [patient] = await patients(archive)
    assert patient["generated"] == 1


async def test_a_name_told_a_moment_ago_counts(archive: TestArchive):
    """In one transaction: the first object names the patient, also for the patient's other study."""
    await archive.send(IMAGE.but(name=None), IMAGE.but(sop="1.2", study="1.2.9", name=None))
    nameless = IMAGE.but(patient_id=None, name="ROE^RICHARD")
    named, *refused = await archive.send(
        IMAGE.but(sop="1.3"),
        nameless.but(sop="1.4"),
        nameless.but(sop="1.5", study="1.2.9"),
    )
    assert named.kind is KIND.STORED
    assert [outcome.kind for outcome in refused] == [KIND.QUARANTINED] * 2


async def test_values_that_run_together_alike_are_two_patients(archive: TestArchive):
    """What is decoded once is looked up by a digest of the raw values: those must not run together."""
    for name, patient_id in ((b"A", b"B\0\1C"), (b"A\0\1B", b"C"), (b"AB", b"C"), (b"A", b"BC")):
        await archive.receive(IMAGE.but(name=name, patient_id=patient_id).file)
        received = await archive.receive(IMAGE.but(name=name, patient_id=patient_id).file)
        told = getattr(received, "levels", None)
        if told is not None:
            assert told.patient.columns["patient_id"] == patient_id.decode()


# --- the change feed ------------------------------------------------------------------------------------


async def test_the_feed_tells_everything_once_and_in_order(archive: TestArchive):
    await archive.send(*(IMAGE.but(sop=f"1.{n}") for n in range(5)))
    await archive.send_one(IMAGE.but(sop="1.3"))  # a duplicate changes nothing
    await archive.send_one(IMAGE.but(sop="1.9", modality=None))
    changes = await read_changes(archive.database, ORGANIZATION)
    assert [change.sop_instance_uid for change in changes] == ["1.0", "1.1", "1.2", "1.3", "1.4", "1.9"]
    assert [change.kind for change in changes] == ["stored"] * 5 + ["quarantined"]
    assert changes[-1].detail == {"codes": ["missing"]}
    assert [change.number for change in changes] == sorted({change.number for change in changes})
    rest = await read_changes(archive.database, ORGANIZATION, after=changes[1].number, limit=2)
    assert [change.sop_instance_uid for change in rest] == ["1.2", "1.3"]


async def test_a_reader_of_the_feed_misses_nothing_while_many_write(processes: list[TestArchive]):
    """The reader keeps the last number as its cursor: no smaller one may appear afterwards."""
    images = [
        IMAGE.but(sop=f"1.2.4.{n}", study=f"1.2.5.{n % 7}", series=f"1.2.5.{n % 7}.1") for n in range(160)
    ]
    reader, writers = processes[0], processes[1:]
    seen: list[str] = []

    async def follow() -> None:
        cursor = 0
        while len(seen) < len(images):
            for change in await read_changes(reader.database, ORGANIZATION, after=cursor, limit=7):
                assert change.number > cursor
                cursor = change.number
                seen.append(change.sop_instance_uid)

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(follow())
        tasks.create_task(send_at_once(writers, images))
    assert sorted(seen) == sorted(image.sop for image in images)


async def test_no_smaller_number_appears_after_a_larger_one(request: pytest.FixtureRequest, tmp_path: Path):
    """PostgreSQL draws a number before the commit that shows it: who draws later must commit later."""
    with fresh_url(request, "postgresql", tmp_path) as url:
        async with opened(url, tmp_path) as archive:
            first = await asyncpg.connect(url)
            await first.execute(f"SET isocenter.organization_id = '{ORGANIZATION}'")
            begun = first.transaction()
            await begun.start()
            for call in (
                ADVANCE(organization_id=ORGANIZATION, changes=1, objects=0, bytes=0),
                queries.APPEND_TO_FEED(
                    organization_id=ORGANIZATION,
                    number=1,
                    now_us=0,
                    kind="stored",
                    study_instance_uid="1",
                    series_instance_uid="1",
                    sop_instance_uid="drawn first",
                    detail="{}",
                ),
            ):
                await first.execute(call.sql.postgres, *call.sql.postgres_params(call.params))
            second = asyncio.create_task(archive.send_one(IMAGE))
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while not second.done() and not await archive.one(waiting):
                await asyncio.wait({second}, timeout=0.01)
            assert await read_changes(archive.database, ORGANIZATION) == []
            await begun.commit()
            await second
            await first.close()
            changes = await read_changes(archive.database, ORGANIZATION)
            assert [change.sop_instance_uid for change in changes] == ["drawn first", IMAGE.sop]
