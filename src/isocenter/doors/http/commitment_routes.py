"""``/api/v1/commitments``: who has taken responsibility for which objects (storage commitment, PS3.4 J)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from isocenter.doors.http.gate import Gate
from isocenter.doors.http.instants import instant
from isocenter.doors.http.witness import Witness
from isocenter.features.archive.selection import Selection, select_instances
from isocenter.features.commitment.entries import Commitment, Judged, Reference, Role, State
from isocenter.features.commitment.ledger import Ledger
from isocenter.platform.db import Database
from isocenter.platform.security import Action, NoRecorder, Permission, Recorder, Subject

_LIMIT_MAX = 1000
_Id = Annotated[int, Path(ge=1, le=2**63 - 1)]
_Uid = Annotated[str, Field(max_length=64)]


class CommitmentModel(BaseModel):
    """``role``: scp where it was asked of us, scu where we asked ``ae_title``. ``failed_count``: instances
    that are not committed. ``next_attempt_at`` null: nothing is left to do."""

    id: int
    role: Role
    state: State
    ae_title: str
    own_ae_title: str
    transaction_uid: str
    instance_count: int
    failed_count: int
    attempts: int
    next_attempt_at: datetime | None
    last_error: str
    created_at: datetime
    settled_at: datetime | None


class CommittedInstance(BaseModel):
    """``failure_reason``: null while it is not known, 0 for committed, else (0008,1197)."""

    sop_class_uid: str
    sop_instance_uid: str
    failure_reason: int | None


class CommitmentDetail(CommitmentModel):
    instances: list[CommittedInstance]


class CommitmentsModel(BaseModel):
    """``next_before``: the next page's cursor, null after the last."""

    commitments: list[CommitmentModel]
    next_before: int | None


class AskModel(BaseModel):
    """Ask a destination to commit to a study of the archive, or to some of its series."""

    model_config = ConfigDict(extra="forbid")
    ae_title: Annotated[str, Field(min_length=1, max_length=64)]
    study_instance_uid: Annotated[_Uid, Field(min_length=1)]
    series_instance_uids: Annotated[list[_Uid], Field(max_length=10_000)] = []


def commitment_router(
    ledger: Ledger,
    database: Database,
    gate: Gate,
    recorder: Recorder | None = None,
    *,
    nudge: Callable[[], None] = lambda: None,
    own_ae_title: str = "ISOCENTER",
) -> APIRouter:
    """The routes over the subject's own; ``nudge`` wakes the worker."""
    router = APIRouter(prefix="/api/v1/commitments", tags=["commitments"])
    witness = Witness(recorder or NoRecorder(), "commitment")
    reads, manages = gate.needs(Permission.COMMITMENTS_READ), gate.needs(Permission.COMMITMENTS_MANAGE)

    @router.get("")
    async def list_commitments(
        request: Request,
        *,
        role: Role | None = None,
        state: State | None = None,
        before: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
        limit: Annotated[int, Query(ge=1, le=_LIMIT_MAX)] = 100,
        subject: Subject = reads,
    ) -> CommitmentsModel:
        """The latest first."""
        async with witness.of(request, Action.READ) as told:
            found = await ledger.find(
                subject.organization_id, role=role, state=state, before=before, limit=limit
            )
            told["commitments"] = len(found)
        return CommitmentsModel(
            commitments=[commitment_model(one) for one in found],
            next_before=found[-1].id if len(found) == limit else None,
        )

    @router.get("/{commitment_id}")
    async def get_commitment(
        request: Request, commitment_id: _Id, subject: Subject = reads
    ) -> CommitmentDetail:
        async with witness.of(request, Action.READ, str(commitment_id)):
            found = await ledger.get(subject.organization_id, commitment_id)
            instances = await ledger.instances(subject.organization_id, commitment_id)
        return CommitmentDetail(
            **commitment_model(found).model_dump(), instances=[instance_model(one) for one in instances]
        )

    @router.post("", status_code=202)
    async def ask(request: Request, asked: AskModel, subject: Subject = manages) -> CommitmentModel:
        """It is asked for soon, and again until the destination has answered."""
        async with witness.of(request, Action.CHANGE, asked.ae_title, durable=True) as told:
            told["study"] = asked.study_instance_uid
            selection = Selection(
                studies=(asked.study_instance_uid,), series=tuple(asked.series_instance_uids)
            )
            found = await select_instances(database, subject.organization_id, selection)
            commitment = await ledger.ask(
                subject.organization_id,
                ae_title=asked.ae_title.strip(" "),
                own_ae_title=own_ae_title,
                references=[Reference(one.sop_class_uid, one.sop_instance_uid) for one in found],
            )
            told |= {"commitment": commitment.id, "instances": commitment.instance_count}
        nudge()
        return commitment_model(commitment)

    @router.post("/{commitment_id}/retry", status_code=202)
    async def retry(request: Request, commitment_id: _Id, subject: Subject = manages) -> CommitmentModel:
        """Report or ask again, now."""
        async with witness.of(request, Action.CHANGE, str(commitment_id), durable=True):
            await ledger.try_again(subject.organization_id, commitment_id)
            commitment = await ledger.get(subject.organization_id, commitment_id)
        nudge()
        return commitment_model(commitment)

    return router


def commitment_model(one: Commitment) -> CommitmentModel:
    return CommitmentModel(
        id=one.id,
        role=one.role,
        state=one.state,
        ae_title=one.ae_title,
        own_ae_title=one.own_ae_title,
        transaction_uid=one.transaction_uid,
        instance_count=one.instance_count,
        failed_count=one.failed_count,
        attempts=one.attempts,
        next_attempt_at=None if one.next_attempt_at_us is None else instant(one.next_attempt_at_us),
        last_error=one.last_error,
        created_at=instant(one.created_at_us),
        settled_at=None if one.settled_at_us is None else instant(one.settled_at_us),
    )


def instance_model(one: Judged) -> CommittedInstance:
    return CommittedInstance(
        sop_class_uid=one.reference.sop_class_uid,
        sop_instance_uid=one.reference.sop_instance_uid,
        failure_reason=one.reason,
    )
