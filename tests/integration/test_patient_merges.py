"""Merging patients and taking it back (MISSION A1, ADR 0021): nothing is lost, blended or forgotten."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from isocenter.dicom.levels import Level
from isocenter.features.archive.changes import read_changes
from isocenter.features.archive.deletion.deleting import Scope
from isocenter.features.archive.deletion.deletions import Deletions
from isocenter.features.archive.entry import OutcomeKind
from isocenter.features.archive.patients.identity import PatientIdentity
from isocenter.features.archive.patients.merges import CHANGED, PatientMerges
from isocenter.features.archive.query import Query, Search
from isocenter.features.archive.selection import Selection, select_instances
from isocenter.kit.errors import Busy, Conflict, InvalidInput, IsocenterError, NotFound
from services.archive import ORGANIZATION, Image, TestArchive, broken_promises, opened
from services.schema import fresh_url

KIND = OutcomeKind
PATIENT_ID, ISSUER, STUDY_UID = 0x00100020, 0x00100021, 0x0020000D
DOINGS = (*["send"] * 3, *["merge"] * 4, *["unmerge"] * 3, *["change"] * 2, "delete")
A, B, C = PatientIdentity("A"), PatientIdentity("B"), PatientIdentity("C")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def archive(url: str, tmp_path: Path) -> AsyncIterator[TestArchive]:
    async with opened(url, tmp_path) as made:
        yield made
        assert await broken_promises(made) == []


def merges(archive: TestArchive) -> PatientMerges:
    return PatientMerges(archive.database, archive.clock)


def image(study: str, patient_id: str | None, **more: str | None) -> Image:
    return Image(
        sop=f"{study}.1.1",
        series=f"{study}.1",
        study=study,
        patient_id=patient_id,
        name=more.pop("name", f"NAME^{patient_id}"),
        **more,
    )


async def owners(archive: TestArchive) -> dict[str, str]:
    rows = await archive.rows(
        "SELECT study_instance_uid, patient_id FROM study JOIN patient ON patient.id = study.patient_pk"
    )
    return {row["study_instance_uid"]: row["patient_id"] for row in rows}


async def found(archive: TestArchive, matches: dict[int, str], level: Level = Level.STUDY) -> list[str]:
    search = Search(archive.database, ORGANIZATION, Query(level, matches, frozenset({PATIENT_ID, STUDY_UID})))
    page = await search.page()
    assert await search.count() == len(page.matches)
    return sorted(match.study_instance_uid or match.json() for match in page.matches)


async def test_studies_move_old_ids_resolve_and_all_goes_back(archive: TestArchive) -> None:
    await archive.send(image("1.1", "A"), image("1.2", "A"), image("1.3", "B"))
    moved = await merges(archive).merge(ORGANIZATION, A, B, by="jane", reason="one person")
    assert moved.studies == ("1.1", "1.2")
    assert await owners(archive) == {"1.1": "B", "1.2": "B", "1.3": "B"}
    for patient_id in ("A", "B"):
        assert await found(archive, {PATIENT_ID: patient_id}) == ["1.1", "1.2", "1.3"]
        [match] = await found(archive, {PATIENT_ID: patient_id}, Level.PATIENT)
        assert '"B"' in match
        selected = await select_instances(
            archive.database, ORGANIZATION, Selection(patient_id=patient_id, issuer="")
        )
        assert len(selected) == 3
    told = [one for one in await read_changes(archive.database, ORGANIZATION) if one.kind == CHANGED]
    assert [one.study_instance_uid for one in told] == ["1.1", "1.2"]

    await archive.send(image("1.4", "A"), image("1.5", "B"))
    assert (await owners(archive))["1.4"] == "B"
    back = await merges(archive).unmerge(ORGANIZATION, A)
    assert back.studies == ("1.1", "1.2", "1.4")
    assert await owners(archive) == {"1.1": "A", "1.2": "A", "1.3": "B", "1.4": "A", "1.5": "B"}
    assert await found(archive, {PATIENT_ID: "A"}) == ["1.1", "1.2", "1.4"]
    assert len(await found(archive, {}, Level.PATIENT)) == 2


async def test_objects_of_a_merged_study_may_name_either(archive: TestArchive) -> None:
    await archive.send(image("1.1", "A"), image("1.3", "B"), image("1.4", "C"))
    await merges(archive).merge(ORGANIZATION, A, B)
    more = image("1.1", "A")
    outcomes = [
        await archive.send_one(more.but(sop=f"1.1.1.{n}", patient_id=patient_id, name=f"NAME^{patient_id}"))
        for n, patient_id in ((2, "A"), (3, "B"), (4, "C"))
    ]
    assert [one.kind for one in outcomes] == [KIND.STORED, KIND.STORED, KIND.QUARANTINED]


async def test_what_objects_say_completes_whom_they_name(archive: TestArchive) -> None:
    await archive.send(image("1.1", "A", sex=None), image("1.3", "B", sex=None, birth_date="19800101"))
    await merges(archive).merge(ORGANIZATION, A, B)
    await archive.send(image("1.1", "A", sex="F").but(sop="1.1.1.2"))
    assert await archive.rows("SELECT patient_id, sex FROM patient ORDER BY patient_id") == [
        {"patient_id": "A", "sex": "F"},
        {"patient_id": "B", "sex": ""},
    ]
    assert await archive.one("SELECT count(*) FROM patient_conflict") == 0


@pytest.mark.parametrize("order", list(itertools.permutations("AB")))
async def test_chains_are_undone_in_any_order(archive: TestArchive, order: tuple[str, ...]) -> None:
    await archive.send(image("1.1", "A"), image("1.2", "B"), image("1.3", "C"))
    await merges(archive).merge(ORGANIZATION, A, B)
    await merges(archive).merge(ORGANIZATION, B, C)
    assert await owners(archive) == {"1.1": "C", "1.2": "C", "1.3": "C"}
    assert await found(archive, {PATIENT_ID: "A"}) == ["1.1", "1.2", "1.3"]
    first, second = (PatientIdentity(one) for one in order)
    await merges(archive).unmerge(ORGANIZATION, first)
    halfway = {"A": {"1.1": "A", "1.2": "C", "1.3": "C"}, "B": {"1.1": "B", "1.2": "B", "1.3": "C"}}
    assert await owners(archive) == halfway[order[0]]
    await merges(archive).unmerge(ORGANIZATION, second)
    assert await owners(archive) == {"1.1": "A", "1.2": "B", "1.3": "C"}


async def test_another_id(archive: TestArchive) -> None:
    await archive.send(image("1.1", "A"), image("1.2", "B"))
    new = PatientIdentity("N", "Hospital & Söhne")
    await merges(archive).change_id(ORGANIZATION, A, new, by="jane")
    assert await owners(archive) == {"1.1": "N", "1.2": "B"}
    assert await found(archive, {PATIENT_ID: "A"}) == ["1.1"] == await found(archive, {PATIENT_ID: "N"})
    assert await found(archive, {PATIENT_ID: "N", ISSUER: new.issuer}) == ["1.1"]
    assert await found(archive, {PATIENT_ID: "B", ISSUER: new.issuer}) == []
    [match] = await found(archive, {PATIENT_ID: "A"}, Level.PATIENT)
    assert '"N"' in match
    await archive.send(image("1.1", "N", issuer=new.issuer).but(sop="1.1.1.2"))
    with pytest.raises(Conflict) as refused:
        await merges(archive).change_id(ORGANIZATION, new, B)
    assert refused.value.code == "patient-id-taken"
    with pytest.raises(Conflict) as earlier:
        await merges(archive).change_id(ORGANIZATION, new, A)
    assert earlier.value.code == "patient-id-taken" and "undo the merge of that ID" in earlier.value.remedy
    await merges(archive).unmerge(ORGANIZATION, A)
    assert await owners(archive) == {"1.1": "A", "1.2": "B"}
    assert await archive.one("SELECT count(*) FROM patient") == 2


async def test_a_made_up_id_gives_way(archive: TestArchive) -> None:
    await archive.send(image("1.1", None, name=None), image("1.2", "B"))
    made_up = PatientIdentity((await owners(archive))["1.1"])
    with pytest.raises(Conflict) as refused:
        await merges(archive).merge(ORGANIZATION, B, made_up)
    assert refused.value.code == "patient-id-made-up"
    await merges(archive).merge(ORGANIZATION, made_up, B)
    await archive.send(image("1.1", None, name=None).but(sop="1.1.1.2"))
    assert await owners(archive) == {"1.1": "B", "1.2": "B"}
    assert await archive.one("SELECT count(*) FROM instance") == 3


async def test_ids_with_issuers_and_without(archive: TestArchive) -> None:
    """An ID of one issuer is not the same ID of another; objects of a study may leave the issuer out."""
    await archive.send(image("1.1", "A", issuer="X"), image("1.2", "A"), image("1.3", "B", issuer="Y"))
    ax, by = PatientIdentity("A", "X"), PatientIdentity("B", "Y")
    with pytest.raises(NotFound):
        await merges(archive).merge(ORGANIZATION, ax, B)
    await merges(archive).merge(ORGANIZATION, ax, by, by="jane")
    await archive.send(image("1.4", "A", issuer="X"), image("1.5", "A"), image("1.6", "B", issuer="Y"))
    assert (await owners(archive)) == {"1.1": "B", "1.2": "A", "1.3": "B", "1.4": "B", "1.5": "A", "1.6": "B"}
    more = [
        image("1.1", patient_id, issuer=issuer).but(sop=f"1.1.1.{n}", name="NAME^A")
        for n, (patient_id, issuer) in enumerate(
            (("A", "X"), ("A", None), ("A", "Z"), ("B", "Y"), (None, None)), 2
        )
    ]
    kinds = [(await archive.send_one(one)).kind for one in more]
    assert kinds == [KIND.STORED, KIND.STORED, KIND.QUARANTINED, KIND.STORED, KIND.STORED]
    assert await found(archive, {PATIENT_ID: "A", ISSUER: "X"}) == ["1.1", "1.3", "1.4", "1.6"]
    assert await found(archive, {PATIENT_ID: "A"}) == ["1.1", "1.2", "1.3", "1.4", "1.5", "1.6"]
    assert await found(archive, {PATIENT_ID: "B", ISSUER: "X"}) == []
    for patient_id, issuer, objects in (
        ("A", "X", 8),
        ("B", "Y", 8),
        ("A", "Y", 0),
        ("A", "", 2),
        ("", "X", 0),
    ):
        selected = await select_instances(archive.database, ORGANIZATION, Selection(patient_id, issuer))
        assert len(selected) == objects, (patient_id, issuer)
    selected = await select_instances(
        archive.database, ORGANIZATION, Selection(issuer="X", studies=("1.3", "1.2"))
    )
    assert {one.study_instance_uid for one in selected} == {"1.3"}
    back = await merges(archive).unmerge(ORGANIZATION, ax)
    assert back.studies == ("1.1", "1.4")


async def test_what_was_said_outlives_the_studies(archive: TestArchive) -> None:
    await archive.send(image("1.1", "A"), image("1.2", "B"))
    await merges(archive).merge(ORGANIZATION, A, B)
    for study in ("1.1", "1.2"):
        await Deletions(archive.database, archive.clock).delete(ORGANIZATION, Scope(study))
    assert await found(archive, {}, Level.PATIENT) == []
    await archive.send(image("1.3", "A"))
    assert await owners(archive) == {"1.3": "B"}
    assert len(await found(archive, {PATIENT_ID: "A"}, Level.PATIENT)) == 1


async def test_refused(archive: TestArchive) -> None:
    await archive.send(image("1.1", "A"), image("1.2", "B"), image("1.3", "C"))
    service = merges(archive)
    await service.merge(ORGANIZATION, A, B)
    for refused, code in (
        (service.merge(ORGANIZATION, A, A), "same-patient"),
        (service.merge(ORGANIZATION, A, C), "patient-merged"),
        (service.merge(ORGANIZATION, C, A), "patient-merged"),
        (service.merge(ORGANIZATION, C, PatientIdentity("A", "elsewhere")), "no-such-patient"),
        (service.merge(ORGANIZATION, PatientIdentity("X"), C), "no-such-patient"),
        (service.merge(ORGANIZATION + 1, B, C), "no-such-patient"),
        (service.unmerge(ORGANIZATION, B), "patient-not-merged"),
        (service.unmerge(ORGANIZATION + 1, A), "no-such-patient"),
        (service.change_id(ORGANIZATION, A, PatientIdentity("N")), "patient-merged"),
        (service.change_id(ORGANIZATION, B, A), "patient-id-taken"),
        (service.change_id(ORGANIZATION, B, PatientIdentity("")), "invalid-patient-id"),
        (service.change_id(ORGANIZATION, B, PatientIdentity("a\\b")), "invalid-patient-id"),
        (service.change_id(ORGANIZATION, B, PatientIdentity("x" * 65)), "invalid-patient-id"),
    ):
        with pytest.raises((InvalidInput, Conflict, NotFound)) as error:
            await refused
        assert error.value.code == code


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_done_studies_follow_whom_they_name(archive: TestArchive, seed: int) -> None:
    """Against a model that only knows whom each study names and who was merged into whom."""
    chance, service = random.Random(seed), merges(archive)
    names, into, numbers, done = {}, dict[str, str](), itertools.count(), Counter[str]()

    def left(patient_id: str) -> str:
        while patient_id in into:
            patient_id = into[patient_id]
        return patient_id

    for _ in range(60):
        known = sorted({*"ABCDEF", *into, *into.values()})
        living = {name for name in known if name not in into}
        one, other = chance.sample(sorted(living | {*chance.sample(known, 2)}), 2)
        with suppress(Conflict, NotFound):
            doing = chance.choice(DOINGS)
            match doing:
                case "send":
                    study = f"1.{next(numbers)}"
                    await archive.send_one(image(study, one))
                    names[study] = one
                case "merge":
                    await service.merge(ORGANIZATION, PatientIdentity(one), PatientIdentity(other))
                    into[one] = other
                case "unmerge":
                    one = chance.choice(sorted(into) or [one])
                    await service.unmerge(ORGANIZATION, PatientIdentity(one))
                    del into[one]
                case "change":
                    new = f"N{next(numbers)}"
                    await service.change_id(ORGANIZATION, PatientIdentity(one), PatientIdentity(new))
                    into[one] = new
                case "delete" if names:
                    study = chance.choice(sorted(names))
                    await Deletions(archive.database, archive.clock).delete(ORGANIZATION, Scope(study))
                    del names[study]
            done[doing] += 1
        assert await owners(archive) == {study: left(told) for study, told in names.items()}
        expected = sorted(study for study, told in names.items() if left(told) == left(one))
        assert await found(archive, {PATIENT_ID: one}) == expected
        assert await broken_promises(archive) == []
    assert min(done["merge"], done["unmerge"], done["change"], done["delete"]) >= 1, done


async def test_merging_while_objects_come(url: str, tmp_path: Path) -> None:
    """Processes file and persons merge and undo, all at once: each object is there, under whom it names."""
    chance = random.Random(4)
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(opened(url, tmp_path)) for _ in range(3)]
        images = [image(f"1.{n}", "ABC"[n % 3]) for n in range(60)]
        await processes[0].send(*images[:3])

        async def send(archive: TestArchive, some: list[Image]) -> None:
            for one in some:
                assert (await archive.send_one(one)).kind is KIND.STORED

        async def change(archive: TestArchive) -> None:
            service = merges(archive)
            for _ in range(20):
                source, target = chance.sample([A, B, C], 2)
                with suppress(Conflict, Busy):
                    await service.merge(ORGANIZATION, source, target)
                with suppress(Conflict, Busy):
                    await service.unmerge(ORGANIZATION, chance.choice([A, B, C]))

        async with asyncio.TaskGroup() as group:
            for number, archive in enumerate(processes):
                group.create_task(send(archive, images[3 + number :: 3]))
                group.create_task(change(archive))
        assert await broken_promises(processes[0]) == []
        for one in (A, B, C):
            with suppress(IsocenterError):
                await merges(processes[0]).unmerge(ORGANIZATION, one)
        assert await owners(processes[0]) == {one.study: str(one.patient_id) for one in images}
