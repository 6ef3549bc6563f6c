"""The modality worklist and performed procedure steps over DIMSE, on both databases: DCMTK asks, pynetdicom
performs, and who was not granted it gets nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom import AE

from isocenter.dicom.dataset import read_dataset
from isocenter.dicom.sop_classes import (
    MODALITY_PERFORMED_PROCEDURE_STEP,
    MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE,
    MODALITY_WORKLIST_FIND,
)
from isocenter.dimse.net.client import Proposal
from isocenter.dimse.net.errors import ContextNotAccepted, DimseFailure
from isocenter.features.worklist.items import WorklistItems
from isocenter.features.worklist.matching import Keys
from isocenter.features.worklist.performed import PerformedSteps
from services.archive import ORGANIZATION
from services.dcmtk import Dcmtk
from services.schema import fresh_url
from services.scp import AE_TITLE, EXPLICIT, OnePageOnly, ScpDoor, scp_door
from services.workitems import dicom_json
from services.worklists import STUDY, a_performed_step, an_item, encoded, the_end

_ASKED = dicom_json(
    PatientName=None,
    PatientID=None,
    AccessionNumber=None,
    StudyInstanceUID=None,
    ScheduledProcedureStepSequence=dicom_json(
        ScheduledStationAETitle=None, ScheduledProcedureStepStartDate=None, Modality=None
    ),
)


@pytest.fixture(params=["sqlite", "postgresql"])
async def door(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ScpDoor]:
    with fresh_url(request, request.param, tmp_path) as url:
        async with scp_door(tmp_path, database_url=url) as made:
            yield made


def worklist(door: ScpDoor) -> WorklistItems:
    return WorklistItems(door.archive.database, door.archive.clock)


async def schedule(door: ScpDoor, *items: dict[str, Any]) -> None:
    for item in items or (an_item(),):
        await worklist(door).put(ORGANIZATION, item, source="api")


async def states(door: ScpDoor) -> list[str]:
    found = await worklist(door).listed(ORGANIZATION, Keys(), limit=100, all_states=True)
    return [item.state.value for item in found]


async def asked(door: ScpDoor, query: dict[str, Any], syntax: str = EXPLICIT) -> list[dict[int, Any]]:
    async with await door.connect(Proposal(MODALITY_WORKLIST_FIND, (syntax,))) as association:
        return [
            {one.tag: one.value for one in read_dataset(answer, syntax)}
            async for answer in association.find(MODALITY_WORKLIST_FIND, encoded(query, syntax))
        ]


def with_step(**attributes: Any) -> dict[str, Any]:
    return _ASKED | dicom_json(ScheduledProcedureStepSequence=dicom_json(**attributes))


async def test_matching(door: ScpDoor) -> None:
    other = {"ScheduledStationAETitle": ["MR1", "MR2"], "Modality": "MR", "ScheduledProcedureStepID": "SPS2"}
    other |= {"ScheduledProcedureStepStartDate": "20260102", "ScheduledProcedureStepStartTime": "080000"}
    await schedule(
        door,
        an_item(),
        an_item(
            step=other,
            PatientName="MÜLLER^HANS",
            PatientID="P2",
            AccessionNumber="A2",
            StudyInstanceUID="1.2",
        ),
    )
    for query, expected in (
        (_ASKED, [b"P1", b"P2"]),
        (with_step(ScheduledStationAETitle="CT1"), [b"P1"]),
        (with_step(ScheduledStationAETitle="MR2"), [b"P2"]),
        (with_step(ScheduledStationAETitle="MR"), []),
        (with_step(ScheduledStationAETitle="MR*"), [b"P2"]),
        (with_step(ScheduledStationAETitle="CT_"), []),
        (with_step(Modality="CT"), [b"P1"]),
        (with_step(ScheduledProcedureStepStartDate="20260101"), [b"P1"]),
        (with_step(ScheduledProcedureStepStartDate="20260102-"), [b"P2"]),
        (with_step(ScheduledProcedureStepStartDate="-20260101"), [b"P1"]),
        (
            with_step(
                ScheduledProcedureStepStartDate="20260101-20260102",
                ScheduledProcedureStepStartTime="110000-090000",
            ),
            [b"P2"],
        ),
        (
            with_step(
                ScheduledProcedureStepStartDate="20260101", ScheduledProcedureStepStartTime="100000-110000"
            ),
            [b"P1"],
        ),
        (_ASKED | dicom_json(PatientName="doe*"), [b"P1"]),
        (_ASKED | dicom_json(PatientID="P2"), [b"P2"]),
        (_ASKED | dicom_json(AccessionNumber="A2"), [b"P2"]),
        (_ASKED | dicom_json(RequestedProcedureID="RP1"), [b"P1", b"P2"]),
        (with_step(ScheduledProcedureStepID="SPS2"), [b"P2"]),
        (with_step(Modality="CT", ScheduledStationAETitle="MR1"), []),
        (with_step(ScheduledProcedureStepStatus="SCHEDULED"), [b"P1", b"P2"]),
        (with_step(ScheduledProcedureStepStatus="COMPLETED"), []),
    ):
        assert [one[0x00100020] for one in await asked(door, query)] == expected, query


async def test_an_answer_holds_what_was_asked(door: ScpDoor) -> None:
    await schedule(door)
    (answer,) = await asked(door, with_step(ScheduledProcedureStepID=None, ScheduledStationName=None))
    (step,) = answer[0x00400100]
    assert {one.tag: one.value for one in step} == {0x00400009: b"SPS1", 0x00400010: b""}
    assert answer[0x0020000D] == STUDY.encode() + b"\0" * (len(STUDY) % 2)
    (answer,) = await asked(door, dicom_json(ScheduledProcedureStepSequence=None))
    assert len(answer[0x00400100][0]) > 5


async def test_character_sets(door: ScpDoor) -> None:
    await schedule(door, an_item(PatientName="MÜLLER^HANS"))
    (latin,) = await asked(
        door, _ASKED | dicom_json(SpecificCharacterSet="ISO_IR 100", PatientName="M?LLER*")
    )
    assert latin[0x00100010] == "MÜLLER^HANS ".encode("latin_1") and latin[0x00080005] == b"ISO_IR 100"
    (utf_8,) = await asked(door, _ASKED)
    assert utf_8[0x00100010].rstrip() == "MÜLLER^HANS".encode() and utf_8[0x00080005] == b"ISO_IR 192"


async def test_dcmtk_asks(door: ScpDoor, dcmtk: Dcmtk) -> None:
    await schedule(door)
    done = await door.run(
        dcmtk,
        "findscu",
        "-W",
        *("-k", "PatientName"),
        *("-k", "ScheduledProcedureStepSequence[0].ScheduledStationAETitle=CT1"),
        *("-k", "ScheduledProcedureStepSequence[0].Modality"),
    )
    assert done.returncode == 0, done.stderr
    assert "DOE^JANE" in done.stdout and "[CT" in done.stdout


async def test_what_is_no_query(door: ScpDoor) -> None:
    for identifier in (b"\xff" * 40, encoded(with_step(ScheduledProcedureStepStartDate="soon"))):
        async with await door.connect(Proposal(MODALITY_WORKLIST_FIND, (EXPLICIT,))) as association:
            with pytest.raises(DimseFailure) as failure:
                [_ async for _ in association.find(MODALITY_WORKLIST_FIND, identifier)]
            assert failure.value.status == 0xC000


async def test_only_for_those_who_were_granted_it(tmp_path: Path) -> None:
    async with scp_door(tmp_path, loopback_exempt=False) as door:
        await schedule(door)
        await door.ae_titles.register(ORGANIZATION, "VIEWER", services=["find", "store"], by_operator=True)
        await door.ae_titles.register(ORGANIZATION, "CT1", services=["worklist"], by_operator=True)
        proposals = (
            Proposal(MODALITY_WORKLIST_FIND, (EXPLICIT,)),
            Proposal(MODALITY_PERFORMED_PROCEDURE_STEP, (EXPLICIT,)),
        )
        async with await door.connect(*proposals, calling="CT1") as association:
            found = [_ async for _ in association.find(MODALITY_WORKLIST_FIND, encoded(_ASKED))]
            assert len(found) == 1
        with pytest.raises(ContextNotAccepted):
            async with await door.connect(*proposals, calling="VIEWER") as association:
                [_ async for _ in association.find(MODALITY_WORKLIST_FIND, encoded(_ASKED))]


# --- performed procedure steps, by pynetdicom


def as_pydicom(data_set: dict[str, Any]) -> Dataset:
    return Dataset.from_json(data_set)


class Modality:
    """An association of pynetdicom, whose calls block: each runs in a thread."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Modality:
        ae = AE(ae_title="CT1")
        ae.add_requested_context(MODALITY_PERFORMED_PROCEDURE_STEP)
        ae.add_requested_context(MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE)
        self._association = await asyncio.to_thread(ae.associate, "127.0.0.1", self._port, ae_title=AE_TITLE)
        assert self._association.is_established
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._association.release)

    async def create(self, uid: str | None, data_set: dict[str, Any]) -> Dataset:
        status, _ = await asyncio.to_thread(
            self._association.send_n_create, as_pydicom(data_set), MODALITY_PERFORMED_PROCEDURE_STEP, uid
        )
        return status

    async def set(self, uid: str, data_set: dict[str, Any]) -> Dataset:
        status, _ = await asyncio.to_thread(
            self._association.send_n_set, as_pydicom(data_set), MODALITY_PERFORMED_PROCEDURE_STEP, uid
        )
        return status

    async def get(self, uid: str) -> tuple[Dataset, Dataset | None]:
        return await asyncio.to_thread(
            self._association.send_n_get, [], MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE, uid
        )


@pytest.mark.parametrize(("end", "state"), [("COMPLETED", "completed"), ("DISCONTINUED", "discontinued")])
async def test_a_step_is_performed(door: ScpDoor, end: str, state: str) -> None:
    await schedule(door)
    async with Modality(door.port) as modality:
        assert (await modality.create("1.2.3", a_performed_step())).Status == 0
        assert await states(door) == ["started"]
        assert (await modality.set("1.2.3", dicom_json(StudyID="7"))).Status == 0x0107  # may not change
        assert (await modality.set("1.2.3", dicom_json(CommentsOnThePerformedProcedureStep="x"))).Status == 0
        assert (await modality.set("1.2.3", the_end(end))).Status == 0
        assert await states(door) == [state]
        over = await modality.set("1.2.3", the_end("COMPLETED"))
        assert (over.Status, over.ErrorID) == (0x0110, 0xA710)
        status, found = await modality.get("1.2.3")
        assert status.Status == 0 and found is not None
        assert found.PerformedProcedureStepStatus == end and found.PatientName == "DOE^JANE"
    assert await asked(door, _ASKED) == []
    step = await PerformedSteps(door.archive.database, door.archive.clock).find(ORGANIZATION, "1.2.3")
    assert (step.state, step.ae_title) == (end, "CT1")


async def test_what_is_refused(door: ScpDoor) -> None:
    lacking = a_performed_step()
    del lacking["00400253"]
    async with Modality(door.port) as modality:
        assert (await modality.create("1.2.3", lacking)).Status == 0x0120
        empty = a_performed_step(PerformedStationAETitle=None)
        assert (await modality.create("1.2.3", empty)).Status == 0x0121
        done = a_performed_step(PerformedProcedureStepStatus="COMPLETED")
        assert (await modality.create("1.2.3", done)).Status == 0x0106
        assert (await modality.set("1.2.3", the_end())).Status == 0x0112
        assert (await modality.create("1.2.3", a_performed_step())).Status == 0
        assert (await modality.create("1.2.3", a_performed_step())).Status == 0x0111
        unended = the_end(PerformedProcedureStepEndDate=None)
        assert (await modality.set("1.2.3", unended)).Status == 0x0121
        assert (await modality.set("1.2.3", the_end("FINISHED"))).Status == 0x0106
        made = await modality.create(None, a_performed_step())
        assert made.Status == 0
        assert (await modality.get("9.9"))[0].Status == 0x0112
    steps = await PerformedSteps(door.archive.database, door.archive.clock).listed(ORGANIZATION)
    assert [step.state.value for step in steps] == ["IN PROGRESS", "IN PROGRESS"]
    assert steps[0].sop_instance_uid.startswith("2.25.")


async def test_two_performed_steps_of_one_scheduled(door: ScpDoor) -> None:
    """It is over when all are; one that was given up does not undo one that was done."""
    await schedule(door)
    async with Modality(door.port) as modality:
        await modality.create("1.2.3", a_performed_step())
        await modality.create("1.2.4", a_performed_step())
        await modality.set("1.2.3", the_end())
        assert await states(door) == ["started"]
        await modality.set("1.2.4", the_end("DISCONTINUED"))
        assert await states(door) == ["completed"]


async def test_unscheduled_and_foreign_steps(door: ScpDoor) -> None:
    await schedule(door)
    other = await door.archive.add_organization("other")
    await worklist(door).put(other, an_item(), source="api")
    async with Modality(door.port) as modality:
        assert (await modality.create("1.2.3", a_performed_step("1.9", ""))).Status == 0
        assert await states(door) == ["scheduled"]
        await modality.create("1.2.4", a_performed_step())
    assert await states(door) == ["started"]
    (foreign,) = await worklist(door).listed(other, Keys(), limit=9, all_states=True)
    assert foreign.state == "scheduled"
    await door.trail.settled()
    told = await door.archive.rows(
        "SELECT resource_id, outcome FROM audit_event WHERE resource_kind = 'performed-step' ORDER BY id"
    )
    assert [tuple(one.values()) for one in told] == [("1.2.3", "success"), ("1.2.4", "success")]


async def test_cancel_ends_a_query(tmp_path: Path) -> None:
    def cancelled(port: int) -> list[int]:
        ae = AE(ae_title="CT1")
        ae.add_requested_context(MODALITY_WORKLIST_FIND)
        association = ae.associate("127.0.0.1", port, ae_title=AE_TITLE)
        statuses = []
        keys = Dataset()
        keys.PatientID = ""
        for status, _ in association.send_c_find(keys, MODALITY_WORKLIST_FIND, msg_id=7):
            statuses.append(status.Status)
            if len(statuses) == 5:
                association.send_c_cancel(7, query_model=MODALITY_WORKLIST_FIND)
        association.release()
        return statuses

    async with scp_door(tmp_path, searching=OnePageOnly) as door:
        await schedule(door, *(an_item(StudyInstanceUID=f"1.9.{number}") for number in range(250)))
        statuses = await asyncio.to_thread(cancelled, door.port)
    assert statuses == [0xFF00] * 200 + [0xFE00]
