"""``/api/v1/patients``: merging and its undo, other IDs, links, contradictions, corrections (MISSION A1)."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import StringConstraints

from isocenter.doors.http.gate import Gate
from isocenter.doors.http.patient_models import (
    ChangeIdModel,
    ConflictModel,
    ConflictsModel,
    CorrectModel,
    LinkModel,
    MergeModel,
    MovedModel,
    PatientModel,
    SettleModel,
    UnmergeModel,
    conflict_model,
    patient_model,
)
from isocenter.doors.http.witness import Told, Witness
from isocenter.features.archive.patients.conflicts import PatientConflicts
from isocenter.features.archive.patients.identity import PatientIdentity, identity_asked_for
from isocenter.features.archive.patients.services import Patients
from isocenter.platform.security import Action, NoRecorder, Permission, Recorder, Subject

_LIMIT_MAX = 1000
_CONFLICT_ID = r"^[0-9a-f]{32}$"
_ConflictId = Annotated[str, Path(pattern=_CONFLICT_ID)]
_Identifier = Annotated[str, StringConstraints(max_length=64)]


def patient_router(patients: Patients, gate: Gate, recorder: Recorder | None = None) -> APIRouter:
    """The routes over the patients of the subject's own organisation."""
    router = APIRouter(prefix="/api/v1/patients", tags=["patients"])
    recorder = recorder or NoRecorder()
    of_patients = Witness(recorder, "patient")
    _records(router, patients, gate, of_patients)
    _merges(router, patients, gate, of_patients)
    _links(router, patients, gate, of_patients)
    _corrections(router, patients, gate, of_patients)
    _conflicts(router, patients.conflicts, gate, Witness(recorder, "patient-conflict"))
    return router


def _records(router: APIRouter, patients: Patients, gate: Gate, witness: Witness) -> None:
    reads = gate.needs(Permission.PATIENTS_READ)

    @router.get("")
    async def get_patient(
        request: Request, *, patient_id: _Identifier, issuer: _Identifier = "", subject: Subject = reads
    ) -> PatientModel:
        identity = identity_asked_for(patient_id, issuer)
        async with witness.of(request, Action.READ, patient_id) as told:
            told["issuer"] = issuer
            return patient_model(await patients.records.get(subject.organization_id, identity))


def _merges(router: APIRouter, patients: Patients, gate: Gate, witness: Witness) -> None:
    manages = gate.needs(Permission.PATIENTS_MANAGE)

    @router.post("/merge")
    async def merge(request: Request, asked: MergeModel, subject: Subject = manages) -> MovedModel:
        source, target = asked.source.identity, asked.target.identity
        async with witness.of(request, Action.CHANGE, source.patient_id, durable=True) as told:
            told.update(_told("merge", source, into=target) | {"why": asked.reason})
            moved = await patients.merges.merge(
                subject.organization_id, source, target, by=subject.called, reason=asked.reason
            )
            told["studies"] = len(moved.studies)
            return MovedModel(studies=list(moved.studies))

    @router.post("/unmerge")
    async def unmerge(request: Request, asked: UnmergeModel, subject: Subject = manages) -> MovedModel:
        patient = asked.patient.identity
        async with witness.of(request, Action.CHANGE, patient.patient_id, durable=True) as told:
            told.update(_told("unmerge", patient))
            moved = await patients.merges.unmerge(subject.organization_id, patient)
            told["studies"] = len(moved.studies)
            return MovedModel(studies=list(moved.studies))

    @router.post("/change-id")
    async def change_id(request: Request, asked: ChangeIdModel, subject: Subject = manages) -> MovedModel:
        patient, to = asked.patient.identity, asked.to.identity
        async with witness.of(request, Action.CHANGE, patient.patient_id, durable=True) as told:
            told.update(_told("change-id", patient, into=to) | {"why": asked.reason})
            moved = await patients.merges.change_id(
                subject.organization_id, patient, to, by=subject.called, reason=asked.reason
            )
            told["studies"] = len(moved.studies)
            return MovedModel(studies=list(moved.studies))


def _links(router: APIRouter, patients: Patients, gate: Gate, witness: Witness) -> None:
    manages = gate.needs(Permission.PATIENTS_MANAGE)

    @router.post("/link")
    async def link(request: Request, asked: LinkModel, subject: Subject = manages) -> PatientModel:
        patient, other = asked.patient.identity, asked.other.identity
        async with witness.of(request, Action.CHANGE, patient.patient_id, durable=True) as told:
            told.update(_told("link", patient, into=other))
            await patients.records.link(subject.organization_id, patient, other, by=subject.called)
            return patient_model(await patients.records.get(subject.organization_id, patient))

    @router.post("/unlink")
    async def unlink(request: Request, asked: LinkModel, subject: Subject = manages) -> PatientModel:
        patient, other = asked.patient.identity, asked.other.identity
        async with witness.of(request, Action.CHANGE, patient.patient_id, durable=True) as told:
            told.update(_told("unlink", patient, into=other))
            await patients.records.unlink(subject.organization_id, patient, other)
            return patient_model(await patients.records.get(subject.organization_id, patient))


def _corrections(router: APIRouter, patients: Patients, gate: Gate, witness: Witness) -> None:
    manages = gate.needs(Permission.PATIENTS_MANAGE)

    @router.post("/correct")
    async def correct(request: Request, asked: CorrectModel, subject: Subject = manages) -> PatientModel:
        patient = asked.patient.identity
        given = {"name": asked.name, "birth_date": asked.birth_date, "sex": asked.sex}
        async with witness.of(request, Action.CHANGE, patient.patient_id, durable=True) as told:
            told.update(_told("correct", patient) | {name: value for name, value in given.items() if value})
            told["why"] = asked.note
            await patients.conflicts.correct(
                subject.organization_id, patient, **given, by=subject.called, note=asked.note
            )
            return patient_model(await patients.records.get(subject.organization_id, patient))


def _conflicts(router: APIRouter, conflicts: PatientConflicts, gate: Gate, witness: Witness) -> None:
    reads, manages = gate.needs(Permission.PATIENTS_READ), gate.needs(Permission.PATIENTS_MANAGE)

    @router.get("/conflicts")
    async def list_conflicts(
        request: Request,
        *,
        patient_id: _Identifier = "",
        issuer: _Identifier = "",
        state: Literal["open", "kept", "taken"] = "open",
        after: Annotated[str | None, Query(pattern=_CONFLICT_ID)] = None,
        limit: Annotated[int, Query(ge=1, le=_LIMIT_MAX)] = 100,
        subject: Subject = reads,
    ) -> ConflictsModel:
        patient = identity_asked_for(patient_id, issuer) if patient_id else None
        async with witness.of(request, Action.READ) as told:
            if patient is not None:
                told |= {"patient": patient_id, "issuer": issuer}
            found = await conflicts.list(
                subject.organization_id, patient=patient, state=state, after=after or "", limit=limit
            )
            told["conflicts"] = len(found)
            return ConflictsModel(
                conflicts=[conflict_model(one) for one in found],
                next_after=found[-1].id if len(found) == limit else None,
            )

    @router.get("/conflicts/{conflict_id}")
    async def get_conflict(
        request: Request, conflict_id: _ConflictId, subject: Subject = reads
    ) -> ConflictModel:
        async with witness.of(request, Action.READ, conflict_id):
            return conflict_model(await conflicts.get(subject.organization_id, conflict_id))

    @router.post("/conflicts/{conflict_id}/settle")
    async def settle(
        request: Request, conflict_id: _ConflictId, asked: SettleModel, subject: Subject = manages
    ) -> ConflictModel:
        async with witness.of(request, Action.CHANGE, conflict_id, durable=True) as told:
            told |= {"settled": asked.decision, "why": asked.note}
            await conflicts.settle(
                subject.organization_id, conflict_id, asked.decision, by=subject.called, note=asked.note
            )
            return conflict_model(await conflicts.get(subject.organization_id, conflict_id))


def _told(doing: str, patient: PatientIdentity, into: PatientIdentity | None = None) -> Told:
    told: Told = {"doing": doing, "issuer": patient.issuer}
    if into is not None:
        told |= {"other": into.patient_id, "other_issuer": into.issuer}
    return told
