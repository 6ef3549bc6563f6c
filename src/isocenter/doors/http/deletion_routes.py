"""``/api/v1/deletions``: delete with a reason; see what waits, restore it, purge it (ADR 0022)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from isocenter.doors.http.gate import Gate
from isocenter.doors.http.instants import instant
from isocenter.doors.http.patient_models import IdentityModel
from isocenter.doors.http.witness import Told, Witness
from isocenter.features.archive.deletion.deleting import Deleted, Scope
from isocenter.features.archive.deletion.deletions import Deletion, Deletions
from isocenter.features.archive.deletion.restoring import Restoring
from isocenter.features.archive.said import REASON_CHARACTERS_MAX
from isocenter.platform.security import Action, NoRecorder, Permission, Recorder, Subject

_LIMIT_MAX = 1000
_DELETION_ID = r"^[0-9a-f]{32}$"
_DeletionId = Annotated[str, Path(pattern=_DELETION_ID)]
_Uid = Annotated[str, Field(max_length=64)]


class DeletionModel(BaseModel):
    """What was deleted at once. UIDs are empty where it was a whole patient, or more than that level.
    ``known`` is DICOM JSON of whose it was, until it is settled; ``objects`` and ``bytes`` wait still."""

    id: str
    state: Literal["waiting", "restored", "purged"]
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    known: dict[str, Any]
    reason: str
    deleted_by: str
    objects: int
    bytes: int
    deleted_at: datetime
    purge_at: datetime
    settled_at: datetime | None
    settled_by: str


class WaitingModel(BaseModel):
    """All that can still be restored."""

    deletions: int
    objects: int
    bytes: int


class DeletionsModel(BaseModel):
    """``next_after``: the next page's cursor, null after the last."""

    deletions: list[DeletionModel]
    waiting: WaitingModel
    next_after: str | None


class DeleteModel(BaseModel):
    """A whole patient, or a study, one of its series, or one instance of that."""

    model_config = ConfigDict(extra="forbid")
    patient: IdentityModel | None = None
    study_instance_uid: _Uid = ""
    series_instance_uid: _Uid = ""
    sop_instance_uid: _Uid = ""
    reason: Annotated[str, Field(max_length=REASON_CHARACTERS_MAX)] = ""

    @model_validator(mode="after")
    def _names_one(self) -> DeleteModel:
        if (self.patient is None) == (not self.study_instance_uid):
            raise ValueError("give either patient or study_instance_uid")
        if self.series_instance_uid and not self.study_instance_uid:
            raise ValueError("a series needs its study_instance_uid")
        if self.sop_instance_uid and not self.series_instance_uid:
            raise ValueError("an instance needs its series_instance_uid")
        return self


class DeletedModel(BaseModel):
    """``deletion`` restores it; empty where the organisation keeps nothing of what it deletes."""

    instances: int
    deletion: str


class NotRestoredModel(BaseModel):
    """An object that goes on waiting: another has its UID (``in-the-way``), the archive does not take it
    (``refused``), its bytes are not there or not whole (``lost``)."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    reason: Literal["in-the-way", "refused", "lost"]
    detail: str


class RestoredModel(BaseModel):
    """``objects`` are back; ``complete``: nothing of the deletion waits any more."""

    objects: int
    complete: bool
    waiting: list[NotRestoredModel]


def deletion_router(
    deletions: Deletions, restoring: Restoring, gate: Gate, recorder: Recorder | None = None
) -> APIRouter:
    """The routes over what the subject's own organisation has deleted."""
    router = APIRouter(prefix="/api/v1/deletions", tags=["deletions"])
    witness = Witness(recorder or NoRecorder(), "deletion")
    _looks(router, deletions, gate, witness)
    _deletes(router, deletions, gate, witness)
    _settles(router, deletions, restoring, gate, witness)
    return router


def _looks(router: APIRouter, deletions: Deletions, gate: Gate, witness: Witness) -> None:
    reads = gate.needs(Permission.DELETIONS_READ)

    @router.get("")
    async def list_deletions(
        request: Request,
        *,
        state: Literal["waiting", "restored", "purged"] = "waiting",
        after: Annotated[str | None, Query(pattern=_DELETION_ID)] = None,
        limit: Annotated[int, Query(ge=1, le=_LIMIT_MAX)] = 100,
        subject: Subject = reads,
    ) -> DeletionsModel:
        async with witness.of(request, Action.READ) as told:
            organization_id = subject.organization_id
            found = await deletions.list(organization_id, state=state, after=after or "", limit=limit)
            told["entries"] = len(found)
            waiting = await deletions.waiting(organization_id)
            return DeletionsModel(
                deletions=[deletion_model(one) for one in found],
                waiting=WaitingModel(
                    deletions=waiting.deletions, objects=waiting.objects, bytes=waiting.bytes
                ),
                next_after=found[-1].id if len(found) == limit else None,
            )

    @router.get("/{deletion_id}")
    async def get_deletion(
        request: Request, deletion_id: _DeletionId, subject: Subject = reads
    ) -> DeletionModel:
        async with witness.of(request, Action.READ, deletion_id):
            return deletion_model(await deletions.get(subject.organization_id, deletion_id))


def _deletes(router: APIRouter, deletions: Deletions, gate: Gate, witness: Witness) -> None:
    may_delete = gate.needs(Permission.STUDIES_DELETE)

    @router.post("", status_code=201)
    async def delete(request: Request, asked: DeleteModel, subject: Subject = may_delete) -> DeletedModel:
        named = asked.patient.patient_id if asked.patient else asked.study_instance_uid
        async with witness.of(request, Action.DELETE, named, durable=True) as told:
            told.update(_told(asked))
            deleted = await _delete(deletions, subject, asked)
            told |= {"deletion": deleted.deletion, "instances": deleted.instances}
            return DeletedModel(instances=deleted.instances, deletion=deleted.deletion)


def _settles(
    router: APIRouter, deletions: Deletions, restoring: Restoring, gate: Gate, witness: Witness
) -> None:
    settles = gate.needs(Permission.DELETIONS_SETTLE)

    @router.post("/{deletion_id}/restore")
    async def restore(
        request: Request, deletion_id: _DeletionId, subject: Subject = settles
    ) -> RestoredModel:
        async with witness.of(request, Action.CHANGE, deletion_id, durable=True) as told:
            told["settled"] = "restored"
            restored = await restoring.restore(subject.organization_id, deletion_id, by=subject.called)
            told |= {"objects": restored.objects, "waiting": len(restored.waiting)}
            return RestoredModel(
                objects=restored.objects,
                complete=restored.complete,
                waiting=[
                    NotRestoredModel(
                        study_instance_uid=one.study_instance_uid,
                        series_instance_uid=one.series_instance_uid,
                        sop_instance_uid=one.sop_instance_uid,
                        reason=one.reason,
                        detail=one.detail,
                    )
                    for one in restored.waiting
                ],
            )

    @router.post("/{deletion_id}/purge")
    async def purge(request: Request, deletion_id: _DeletionId, subject: Subject = settles) -> DeletionModel:
        async with witness.of(request, Action.DELETE, deletion_id, durable=True) as told:
            told["settled"] = "purged"
            purged = await deletions.purge(subject.organization_id, deletion_id, by=subject.called)
            return deletion_model(purged)


async def _delete(deletions: Deletions, subject: Subject, asked: DeleteModel) -> Deleted:
    said = {"by": subject.called, "reason": asked.reason}
    if asked.patient is not None:
        return await deletions.delete_patient(subject.organization_id, asked.patient.identity, **said)
    scope = Scope(asked.study_instance_uid, asked.series_instance_uid, asked.sop_instance_uid)
    return await deletions.delete(subject.organization_id, scope, **said)


def _told(asked: DeleteModel) -> Told:
    told: Told = {"what": "patient", "issuer": asked.patient.issuer} if asked.patient else {"what": "study"}
    if asked.series_instance_uid:
        told |= {"what": "series", "series": asked.series_instance_uid}
    if asked.sop_instance_uid:
        told |= {"what": "instance", "instance": asked.sop_instance_uid}
    return told | {"why": asked.reason}


def deletion_model(one: Deletion) -> DeletionModel:
    return DeletionModel(
        id=one.id,
        state=one.state,
        study_instance_uid=one.study_instance_uid,
        series_instance_uid=one.series_instance_uid,
        sop_instance_uid=one.sop_instance_uid,
        known=one.known,
        reason=one.reason,
        deleted_by=one.deleted_by,
        objects=one.objects,
        bytes=one.bytes,
        deleted_at=instant(one.deleted_at_us),
        purge_at=instant(one.purge_at_us),
        settled_at=None if one.settled_at_us is None else instant(one.settled_at_us),
        settled_by=one.settled_by,
    )
