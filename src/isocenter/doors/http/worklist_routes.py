"""``/api/v1/worklist``: the modality worklist, what modalities perform of it, and what happened to both."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from isocenter.doors.http.gate import Gate
from isocenter.doors.http.instants import DateAndTime, instant
from isocenter.doors.http.witness import Witness
from isocenter.features.worklist.changes import read_changes
from isocenter.features.worklist.datasets import checked
from isocenter.features.worklist.item_rules import ItemState
from isocenter.features.worklist.items import WorklistItem, WorklistItems
from isocenter.features.worklist.matching import keys_of_parameters
from isocenter.features.worklist.orders import Order, data_set_of, order_of
from isocenter.features.worklist.performed import PerformedState, PerformedStep, PerformedSteps
from isocenter.kit.clock import Clock
from isocenter.platform.db import Database
from isocenter.platform.security import Action, NoRecorder, Permission, Recorder, Subject

_LIMIT_MAX = 5000
_Id = Annotated[int, Path(ge=1, le=2**63 - 1)]
_Uid = Annotated[str, Path(max_length=64)]
_Short = Annotated[str, Field(max_length=16)]
_Name = Annotated[str, Field(max_length=194)]
_Text = Annotated[str, Field(max_length=64)]

# The words that a list may be narrowed by, and the attribute of each.
_STEP = "ScheduledProcedureStepSequence."
_FILTERS = {
    "station": _STEP + "ScheduledStationAETitle",
    "modality": _STEP + "Modality",
    "date": _STEP + "ScheduledProcedureStepStartDate",
    "patient_id": "PatientID",
    "patient_name": "PatientName",
    "accession_number": "AccessionNumber",
}


class OrderFields(BaseModel):
    """Names as DICOM writes them (DOE^JANE); ``start`` in the hospital's own time, without a zone. Of an item
    with the same study UID and step ID everything is changed but its state."""

    model_config = ConfigDict(extra="forbid")
    patient_id: Annotated[str, Field(min_length=1, max_length=64)]
    patient_name: Annotated[str, Field(min_length=1, max_length=194)]
    station_ae_title: Annotated[str, Field(min_length=1, max_length=16)]
    modality: Annotated[str, Field(pattern=r"^[A-Z0-9_ ]{1,16}$")]
    start: DateAndTime
    birth_date: Annotated[str, Field(pattern=r"^(\d{8})?$")] = ""
    sex: Annotated[str, Field(pattern=r"^[MFO]?$")] = ""
    accession_number: _Short = ""
    study_instance_uid: Annotated[str, Field(max_length=64)] = ""
    requested_procedure_id: _Short = ""
    step_id: _Short = ""
    description: _Text = ""
    referring_physician: _Name = ""
    requesting_physician: _Name = ""
    performing_physician: _Name = ""


class WorklistItemModel(BaseModel):
    """``source``: api, file or workitem. ``start``: YYYYMMDDHHMMSS. ``document``: DICOM JSON."""

    id: int
    study_instance_uid: str
    step_id: str
    state: ItemState
    source: str
    workitem_uid: str
    patient_id: str
    patient_name: str
    accession_number: str
    requested_procedure_id: str
    station_ae_title: str
    modality: str
    start: str
    description: str
    created_at: datetime
    changed_at: datetime
    document: dict[str, Any]


class WorklistModel(BaseModel):
    items: list[WorklistItemModel]


class PerformedStepModel(BaseModel):
    id: int
    sop_instance_uid: str
    state: PerformedState
    ae_title: str
    created_at: datetime
    changed_at: datetime
    document: dict[str, Any]


class PerformedStepsModel(BaseModel):
    """``next_before``: the next page's cursor, null after the last."""

    performed: list[PerformedStepModel]
    next_before: int | None


class WorklistChangeModel(BaseModel):
    number: int
    at: datetime
    kind: str
    uid: str
    state: str


class WorklistChangesModel(BaseModel):
    """``last`` is the cursor to ask with next (``after=``)."""

    changes: list[WorklistChangeModel]
    last: int
    done: bool


class ItemRemoved(BaseModel):
    removed: int


def worklist_router(
    database: Database, clock: Clock, gate: Gate, recorder: Recorder | None = None
) -> APIRouter:
    """The routes over the subject's own worklist."""
    router = APIRouter(prefix="/api/v1/worklist", tags=["worklist"])
    _performed_routes(router, database, clock, gate, recorder or NoRecorder())
    _item_routes(router, WorklistItems(database, clock), gate, recorder or NoRecorder())
    return router


def _item_routes(router: APIRouter, worklist: WorklistItems, gate: Gate, recorder: Recorder) -> None:
    witness = Witness(recorder, "worklist")
    reads, manages = gate.needs(Permission.WORKLIST_READ), gate.needs(Permission.WORKLIST_MANAGE)

    @router.get("")
    async def list_items(
        request: Request,
        *,
        station: Annotated[str, Query(max_length=64)] = "",
        modality: Annotated[str, Query(max_length=64)] = "",
        date: Annotated[str, Query(max_length=64, description="YYYYMMDD, or a range with a hyphen")] = "",
        patient_id: Annotated[str, Query(max_length=64)] = "",
        patient_name: Annotated[str, Query(max_length=194)] = "",
        accession_number: Annotated[str, Query(max_length=64)] = "",
        all_states: bool = False,
        limit: Annotated[int, Query(ge=1, le=_LIMIT_MAX)] = 1000,
        subject: Subject = reads,
    ) -> WorklistModel:
        asked = (station, modality, date, patient_id, patient_name, accession_number)
        given = {name: value for name, value in zip(_ORDER, asked, strict=True) if value}
        async with witness.of(request, Action.SEARCH) as told:
            told.update(given)
            keys = keys_of_parameters([(_FILTERS[name], value) for name, value in given.items()])
            found = await worklist.listed(subject.organization_id, keys, limit=limit, all_states=all_states)
            told["answers"] = len(found)
        return WorklistModel(items=[item_model(one) for one in found])

    @router.post("", status_code=201)
    async def add(request: Request, *, asked: OrderFields, subject: Subject = manages) -> WorklistModel:
        async with witness.of(request, Action.CHANGE, durable=True) as told:
            order = Order(**asked.model_dump())
            found = await worklist.put(subject.organization_id, data_set_of(order), source="api")
            told["items"] = len(found)
        return WorklistModel(items=[item_model(one) for one in found])

    @router.post("/dicom-json", status_code=201)
    async def add_dicom_json(
        request: Request,
        *,
        asked: Annotated[dict[str, Any], Body(description="DICOM JSON (PS3.18 F.2) of PS3.4 Table K.6-1")],
        subject: Subject = manages,
    ) -> WorklistModel:
        async with witness.of(request, Action.CHANGE, durable=True) as told:
            found = await worklist.put(subject.organization_id, checked(asked), source="api")
            told["items"] = len(found)
        return WorklistModel(items=[item_model(one) for one in found])

    @router.delete("/{item_id:int}")  # or it would answer for the other names, too
    async def remove(request: Request, *, item_id: _Id, subject: Subject = manages) -> ItemRemoved:
        async with witness.of(request, Action.DELETE, str(item_id), durable=True):
            await worklist.remove(subject.organization_id, item_id)
        return ItemRemoved(removed=1)


_ORDER = ("station", "modality", "date", "patient_id", "patient_name", "accession_number")


def _performed_routes(
    router: APIRouter, database: Database, clock: Clock, gate: Gate, recorder: Recorder
) -> None:
    witness, steps = Witness(recorder, "performed-step"), PerformedSteps(database, clock)
    reads = gate.needs(Permission.WORKLIST_READ)

    @router.get("/performed")
    async def list_performed(
        request: Request,
        *,
        state: PerformedState | None = None,
        before: Annotated[int, Query(ge=1, le=2**63 - 1)] = 2**63 - 1,
        limit: Annotated[int, Query(ge=1, le=_LIMIT_MAX)] = 100,
        subject: Subject = reads,
    ) -> PerformedStepsModel:
        """The newest first."""
        async with witness.of(request, Action.SEARCH) as told:
            found = await steps.listed(subject.organization_id, state=state or "", before=before, limit=limit)
            told["answers"] = len(found)
        return PerformedStepsModel(
            performed=[performed_model(one) for one in found],
            next_before=found[-1].id if len(found) == limit else None,
        )

    @router.get("/performed/{uid}")
    async def show_performed(request: Request, *, uid: _Uid, subject: Subject = reads) -> PerformedStepModel:
        async with witness.of(request, Action.READ, uid):
            return performed_model(await steps.find(subject.organization_id, uid))

    @router.get("/changes")
    async def list_changes(
        request: Request,
        *,
        after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
        limit: Annotated[int, Query(ge=1, le=_LIMIT_MAX)] = 1000,
        subject: Subject = reads,
    ) -> WorklistChangesModel:
        async with witness.of(request, Action.READ) as told:
            found = await read_changes(database, subject.organization_id, after=after, limit=limit)
            told["changes"] = len(found)
        return WorklistChangesModel(
            changes=[
                WorklistChangeModel(
                    number=one.number, at=instant(one.at_us), kind=one.kind, uid=one.uid, state=one.state
                )
                for one in found
            ],
            last=found[-1].number if found else after,
            done=len(found) < limit,
        )


def item_model(one: WorklistItem) -> WorklistItemModel:
    return WorklistItemModel(
        id=one.id,
        study_instance_uid=one.study_instance_uid,
        step_id=one.step_id,
        state=one.state,
        source=one.source,
        workitem_uid=one.workitem_uid,
        created_at=instant(one.created_at_us),
        changed_at=instant(one.changed_at_us),
        document=one.document,
        **order_of(one.document),
    )


def performed_model(one: PerformedStep) -> PerformedStepModel:
    return PerformedStepModel(
        id=one.id,
        sop_instance_uid=one.sop_instance_uid,
        state=one.state,
        ae_title=one.ae_title,
        created_at=instant(one.created_at_us),
        changed_at=instant(one.changed_at_us),
        document=one.document,
    )
