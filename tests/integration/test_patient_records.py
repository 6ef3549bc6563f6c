"""Patients as persons see them: records, links, contradictions and what was settled (MISSION A1)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from isocenter.dicom.levels import Level
from isocenter.features.archive.changes import read_changes
from isocenter.features.archive.deletion.deleting import Scope
from isocenter.features.archive.deletion.deletions import Deletions
from isocenter.features.archive.entry import OutcomeKind
from isocenter.features.archive.patient_tokens import resolve_token
from isocenter.features.archive.patients.identity import PatientIdentity
from isocenter.features.archive.patients.merges import CHANGED
from isocenter.features.archive.patients.services import Patients, patients_of
from isocenter.features.archive.query import Query, Search
from isocenter.kit.errors import IsocenterError
from isocenter.platform.security import NoRecorder, anybody
from services.archive import ORGANIZATION, Image, TestArchive, broken_promises, opened
from services.schema import fresh_url

KIND = OutcomeKind
A, B, C = PatientIdentity("A"), PatientIdentity("B"), PatientIdentity("C")
NAME, BIRTH_DATE, SEX = 0x00100010, 0x00100030, 0x00100040


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
def patients(archive: TestArchive) -> Patients:
    return patients_of(archive.database, archive.clock)


def image(number: int, patient_id: str | None = "A", **more: Any) -> Image:
    """An object of a study of its own."""
    study = f"1.{number}"
    return Image(
        sop=f"{study}.1.1",
        series=f"{study}.1",
        study=study,
        patient_id=patient_id,
        **{"name": "DOE^JANE"} | more,
    )


async def refusal(doing: Any) -> str:
    with pytest.raises(IsocenterError) as refused:
        await doing
    return refused.value.code


async def names_found(archive: TestArchive, name: str, *, fuzzy: bool = False) -> int:
    query = Query(Level.PATIENT, {NAME: name}, frozenset({NAME}), fuzzy=fuzzy)
    return await Search(archive.database, ORGANIZATION, query).count()


# --- records and links -----------------------------------------------------------------------------------


async def test_a_record_tells_of_merges_from_both_sides(archive: TestArchive, patients: Patients) -> None:
    await archive.send(image(1, "A"), image(2, "B"), image(3, "C"), image(4, "C", birth_date="19800101"))
    await patients.merges.merge(ORGANIZATION, A, B, by="jane", reason="one person")
    await patients.merges.merge(ORGANIZATION, B, C)
    left = await patients.records.get(ORGANIZATION, C)
    assert (left.studies, left.merged, left.open_conflicts, left.generated) == (4, None, 1, False)
    assert {(one.patient, one.into, one.survivor) for one in left.behind} == {(A, B, C), (B, C, C)}
    assert left.attributes["00100010"]["Value"] == [{"Alphabetic": "DOE^JANE"}]
    assert [one.patient for one in await patients.conflicts.list(ORGANIZATION, patient=C)] == [C]
    assert await patients.conflicts.list(ORGANIZATION, patient=A) == []
    gone = await patients.records.get(ORGANIZATION, A)
    assert gone.merged is not None and gone.behind == () and gone.studies == 0
    assert (gone.merged.into, gone.merged.survivor, gone.merged.by, gone.merged.reason) == (
        B,
        C,
        "jane",
        "one person",
    )
    between = await patients.records.get(ORGANIZATION, B)
    assert [one.patient for one in between.behind] == [A] and between.merged is not None
    assert await refusal(patients.records.get(ORGANIZATION, PatientIdentity("X"))) == "no-such-patient"
    assert await refusal(patients.records.get(ORGANIZATION + 1, A)) == "no-such-patient"


async def test_a_link_is_seen_from_both_sides_and_follows_merges(
    archive: TestArchive, patients: Patients
) -> None:
    await archive.send(image(1, "A"), image(2, "B"), image(3, "C"))
    records = patients.records
    for _ in range(2):
        await records.link(ORGANIZATION, B, A, by="jane")

    async def linked(identity: PatientIdentity) -> list[PatientIdentity]:
        return [one.other for one in (await records.get(ORGANIZATION, identity)).links]

    assert (await linked(A), await linked(B), await linked(C)) == ([B], [A], [])
    await patients.merges.merge(ORGANIZATION, A, C)
    assert (await linked(C), await linked(B)) == ([B], [C])
    await patients.merges.merge(ORGANIZATION, C, B)
    assert await linked(B) == []
    await patients.merges.unmerge(ORGANIZATION, C)
    await records.unlink(ORGANIZATION, B, C)
    assert (await linked(A), await linked(B), await linked(C)) == ([], [], [])
    assert await archive.one("SELECT count(*) FROM patient_link") == 0


async def test_links_that_are_refused(archive: TestArchive, patients: Patients) -> None:
    await archive.send(image(1, "A"), image(2, "B"), image(3, "C"))
    await patients.merges.merge(ORGANIZATION, A, B)
    records = patients.records
    assert await refusal(records.link(ORGANIZATION, A, A)) == "same-patient"
    assert await refusal(records.link(ORGANIZATION, A, C)) == "patient-merged"
    assert await refusal(records.link(ORGANIZATION, C, PatientIdentity("B", "X"))) == "no-such-patient"
    assert await refusal(records.link(ORGANIZATION + 1, B, C)) == "no-such-patient"
    assert await refusal(records.unlink(ORGANIZATION, B, C)) == "no-such-link"
    await records.link(ORGANIZATION, B, C)
    assert await refusal(records.unlink(ORGANIZATION + 1, B, C)) == "no-such-patient"
    for study in ("1.1", "1.2"):
        await Deletions(archive.database, archive.clock).delete(ORGANIZATION, Scope(study))
    assert [one.other for one in (await records.get(ORGANIZATION, C)).links] == [B], "B stays, for A's sake"
    await Deletions(archive.database, archive.clock).delete(ORGANIZATION, Scope("1.3"))
    assert await archive.one("SELECT count(*) FROM patient_link") == 0


async def test_tokens_of_old_ids_resolve(archive: TestArchive, patients: Patients) -> None:
    await archive.send(image(1, "A"), image(2, "B"))
    await patients.merges.merge(ORGANIZATION, A, B)
    found = await resolve_token(
        archive.database,
        anybody(ORGANIZATION),
        "1//A",
        lambda *words: "/".join(map(str, words)),
        NoRecorder(),
    )
    assert found is not None and found.patient_id == "A"


# --- conflicts -------------------------------------------------------------------------------------------


async def test_conflicts_are_listed_in_pages_and_kept(archive: TestArchive, patients: Patients) -> None:
    await archive.send(image(1), image(2, birth_date="19800101", sex="M"), image(3, birth_date="19900101"))
    conflicts = patients.conflicts
    listed = await conflicts.list(ORGANIZATION)
    assert [(one.tag, one.other["Value"]) for one in listed] == [
        ("00100030", ["19800101"]),
        ("00100040", ["M"]),
        ("00100030", ["19900101"]),
    ]
    assert {one.patient for one in listed} == {A} and listed[0].kept["Value"] == ["19700101"]
    assert listed[0].sop_instance_uid == "1.2.1.1"
    page = await conflicts.list(ORGANIZATION, after=listed[0].id, limit=1)
    assert page == listed[1:2]
    assert await conflicts.list(ORGANIZATION, patient=A, after=listed[0].id) == listed[1:]
    await conflicts.settle(ORGANIZATION, listed[0].id, "keep", by="jane", note="typing error")
    settled = await conflicts.get(ORGANIZATION, listed[0].id)
    assert (settled.state, settled.settled_by, settled.settled_note) == ("kept", "jane", "typing error")
    assert [one.id for one in await conflicts.list(ORGANIZATION)] == [one.id for one in listed[1:]]
    assert await conflicts.list(ORGANIZATION, state="kept") == [settled]
    assert await archive.rows("SELECT birth_date, corrected FROM patient") == [
        {"birth_date": "19700101", "corrected": 0}
    ]
    await archive.send(image(4, birth_date="19800101"))
    assert len(await conflicts.list(ORGANIZATION)) == 2, "nobody is asked twice"
    for attempt in (
        conflicts.settle(ORGANIZATION, settled.id, "take"),
        conflicts.settle(ORGANIZATION, settled.id, "keep"),
    ):
        assert await refusal(attempt) == "already-settled"
    for attempt in (
        conflicts.settle(ORGANIZATION, "9" * 32, "keep"),
        conflicts.settle(ORGANIZATION + 1, listed[1].id, "keep"),
        conflicts.get(ORGANIZATION + 1, listed[1].id),
        conflicts.list(ORGANIZATION + 1, after=listed[1].id),
    ):
        assert await refusal(attempt) == "no-such-conflict"
    assert await refusal(conflicts.settle(ORGANIZATION, listed[1].id, "keep", note="\0")) == "invalid-value"


async def test_the_other_value_is_taken(archive: TestArchive, patients: Patients) -> None:
    other = "SMITH^JANE=山田^花子"
    await archive.send(
        image(1),
        image(2, name=other.encode(), more=((0x00080005, "CS", "ISO_IR 192"),)),
        image(3, name="ROE^JANE"),
    )
    conflicts = patients.conflicts
    taken, third = await conflicts.list(ORGANIZATION)
    before = len(await read_changes(archive.database, ORGANIZATION))
    await conflicts.settle(ORGANIZATION, taken.id, "take", by="jane")
    assert [(one.kind, one.study_instance_uid) for one in await read_changes(archive.database, ORGANIZATION)][
        before:
    ] == [(CHANGED, "1.1"), (CHANGED, "1.2"), (CHANGED, "1.3")]
    record = await patients.records.get(ORGANIZATION, A)
    assert record.corrected and record.open_conflicts == 1
    assert record.attributes["00100010"] == taken.other
    for name in ("smith^jane*", "*=山田^花子"):
        assert await names_found(archive, name) == 1
    assert (await names_found(archive, "DOE^JANE"), await names_found(archive, "smyth", fuzzy=True)) == (0, 1)
    assert await names_found(archive, "doe", fuzzy=True) == 0
    # The value given up is settled; the third one is a question about the new value.
    await archive.send(image(4), image(5, name="ROE^JANE"), image(6, name=other.encode(), more=image(2).more))
    assert [one.id for one in await conflicts.list(ORGANIZATION)] == [third.id]
    assert (await conflicts.get(ORGANIZATION, third.id)).kept == taken.other
    [given_up] = await conflicts.list(ORGANIZATION, state="kept")
    assert given_up.other["Value"] == [{"Alphabetic": "DOE^JANE"}] and given_up.settled_by == "jane"
    # And back again, by hand.
    await patients.conflicts.correct(ORGANIZATION, A, name="DOE^JANE")
    await archive.send(image(7), image(8, name=other.encode(), more=((0x00080005, "CS", "ISO_IR 192"),)))
    assert [one.id for one in await conflicts.list(ORGANIZATION)] == [third.id]
    assert await names_found(archive, "DOE^JANE") == 1


async def test_demographics_are_corrected_by_hand(archive: TestArchive, patients: Patients) -> None:
    await archive.send(image(1), image(2, birth_date="19800101"), image(3, birth_date="19900101"))
    correct = patients.conflicts.correct
    await correct(
        ORGANIZATION, A, name="Müller^Jane", birth_date="19900101", sex="O", by="jane", note="passport"
    )
    assert await archive.rows("SELECT name_key, birth_date, sex, corrected FROM patient") == [
        {"name_key": "muller^jane", "birth_date": "19900101", "sex": "O", "corrected": 1}
    ]
    assert await names_found(archive, "MULLER*") == 1
    [still] = await patients.conflicts.list(ORGANIZATION)
    assert (still.kept["Value"], still.other["Value"]) == (["19900101"], ["19800101"])
    [same] = await patients.conflicts.list(ORGANIZATION, state="taken")
    assert same.other["Value"] == ["19900101"] and same.settled_note == "passport"
    await archive.send(image(4))
    assert len(await patients.conflicts.list(ORGANIZATION)) == 1, "what was given up asks nobody again"
    lines = str(await archive.one("SELECT fragments FROM patient")).split("\n")
    assert lines == sorted(lines)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"name": "A\\B"},
        {"name": "a\0b"},
        {"name": "x" * 65},
        {"name": "^"},
        {"name": "\ud800"},
        {"name": "A^B^C^D^E^F"},
        {"name": "a=b=c=d"},
        {"birth_date": "1970-01-01"},
        {"birth_date": "19700230"},
        {"birth_date": "19700101-19710101"},
        {"birth_date": "*"},
        {"sex": "female"},
        {"sex": "f"},
    ],
)
async def test_corrections_that_are_none(archive: TestArchive, patients: Patients, wrong: Any) -> None:
    await archive.send(image(1))
    assert await refusal(patients.conflicts.correct(ORGANIZATION, A, **wrong)) == "invalid-demographics"
    assert await archive.one("SELECT corrected FROM patient") == 0


async def test_whom_nobody_may_correct(archive: TestArchive, patients: Patients) -> None:
    await archive.send(image(1), image(2, "B"))
    await patients.merges.merge(ORGANIZATION, A, B)
    correct = patients.conflicts.correct
    assert await refusal(correct(ORGANIZATION, A, sex="M")) == "patient-merged"
    assert await refusal(correct(ORGANIZATION, C, sex="M")) == "no-such-patient"
    assert await refusal(correct(ORGANIZATION + 1, B, sex="M")) == "no-such-patient"


async def test_a_correction_goes_with_a_changed_id(archive: TestArchive, patients: Patients) -> None:
    await archive.send(image(1))
    await patients.conflicts.correct(ORGANIZATION, A, name="ROE^ANN")
    await patients.merges.change_id(ORGANIZATION, A, PatientIdentity("N", "X"))
    record = await patients.records.get(ORGANIZATION, PatientIdentity("N", "X"))
    assert record.corrected and record.attributes["00100010"]["Value"] == [{"Alphabetic": "ROE^ANN"}]
    assert (record.attributes["00100020"]["Value"], record.attributes["00100021"]["Value"]) == (["N"], ["X"])
    assert await names_found(archive, "ann", fuzzy=True) == 1


async def test_settling_while_objects_come(url: str, tmp_path: Path) -> None:
    """Processes file contradicting objects while others settle: each question is answered once."""
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(opened(url, tmp_path)) for _ in range(3)]
        await processes[0].send(image(1), image(2, birth_date="19500101"))
        sent = asyncio.Event()

        async def send(archive: TestArchive, first: int) -> None:
            for number in range(first, first + 10):
                await archive.send_one(image(number, birth_date=f"19{number % 7 + 60}0101"))

        async def settle(archive: TestArchive) -> int:
            settled, conflicts = 0, patients_of(archive.database, archive.clock).conflicts
            turns = itertools.count()
            while not sent.is_set():
                turn = next(turns)
                for one in await conflicts.list(ORGANIZATION, limit=1):
                    try:
                        await conflicts.settle(ORGANIZATION, one.id, "take" if turn % 2 else "keep")
                        settled += 1
                    except IsocenterError as error:
                        assert error.code == "already-settled"
            return settled

        settling = [asyncio.create_task(settle(archive)) for archive in processes[:2]]
        await asyncio.gather(*(send(archive, 10 * n + 10) for n, archive in enumerate(processes)))
        sent.set()
        assert sum(await asyncio.gather(*settling)) > 0
        assert await broken_promises(processes[0]) == []
        [row] = await processes[0].rows("SELECT birth_date, fragments FROM patient")
        assert f'"{row["birth_date"]}"' in row["fragments"]
        duplicates = await processes[0].rows(
            "SELECT tag, other FROM patient_conflict GROUP BY tag, other HAVING count(*) > 1"
        )
        assert duplicates == []


async def test_what_is_taken_of_a_former_id_is_who_is_left_s_too(
    archive: TestArchive, patients: Patients
) -> None:
    """Where both said the same; a survivor that said something else keeps it."""
    await archive.send(image(1), image(2, birth_date="19800101"), image(3, "B", birth_date="19600101"))
    [conflict] = await patients.conflicts.list(ORGANIZATION)
    new = PatientIdentity("N")
    await patients.merges.change_id(ORGANIZATION, A, new)
    assert (await patients.records.get(ORGANIZATION, new)).open_conflicts == 1
    await patients.conflicts.settle(ORGANIZATION, conflict.id, "take")

    async def birth_dates() -> dict[str, str]:
        rows = await archive.rows("SELECT patient_id, birth_date FROM patient")
        return {row["patient_id"]: row["birth_date"] for row in rows}

    assert await birth_dates() == {"A": "19800101", "N": "19800101", "B": "19600101"}
    await archive.send(image(4, birth_date="19900101"))
    await patients.merges.merge(ORGANIZATION, new, B)
    [second] = await patients.conflicts.list(ORGANIZATION)
    await patients.conflicts.settle(ORGANIZATION, second.id, "take")
    assert await birth_dates() == {"A": "19900101", "N": "19800101", "B": "19600101"}


@pytest.mark.parametrize("patient_id", [None, "A"])
async def test_objects_without_an_id_may_tell_a_name_that_was_given_up(
    archive: TestArchive, patients: Patients, patient_id: str | None
) -> None:
    await archive.send(image(1, patient_id))
    [row] = await archive.rows("SELECT patient_id FROM patient")
    await patients.conflicts.correct(ORGANIZATION, PatientIdentity(row["patient_id"]), name="ROE^ANN")
    kinds = [
        (await archive.send_one(image(1, None, name=name).but(sop=f"1.1.1.{n}"))).kind
        for n, name in enumerate(("DOE^JANE", "ROE^ANN", None, "POE^EVE"), 2)
    ]
    assert kinds == [KIND.STORED, KIND.STORED, KIND.STORED, KIND.QUARANTINED]
    assert await patients.conflicts.list(ORGANIZATION) == []
    real = image(1, "A", name="DOE^JANE").but(sop="1.1.1.9")
    assert (await archive.send_one(real)).kind is KIND.STORED
