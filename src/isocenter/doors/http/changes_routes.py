"""``/api/v1/changes``: what happened to objects, in order, for programs that react to it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from isocenter.doors.http.gate import Gate
from isocenter.doors.http.instants import instant
from isocenter.doors.http.witness import Witness
from isocenter.features.archive.changes import read_changes
from isocenter.platform.db import Database
from isocenter.platform.security import Action, NoRecorder, Permission, Recorder, Subject

_LIMIT_MAX = 5000


class ChangeModel(BaseModel):
    number: int
    at: datetime
    kind: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    detail: dict[str, Any]


class ChangesModel(BaseModel):
    """``last`` is the cursor to ask with next (``after=``); ``done``: there was nothing more just now."""

    changes: list[ChangeModel]
    last: int
    done: bool


def changes_router(database: Database, gate: Gate, recorder: Recorder | None = None) -> APIRouter:
    """The route over the subject's own change feed."""
    router = APIRouter(prefix="/api/v1/changes", tags=["changes"])
    reads = gate.needs(Permission.CHANGES_READ)
    witness = Witness(recorder or NoRecorder(), "changes")

    @router.get("")
    async def list_changes(
        request: Request,
        *,
        after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
        limit: Annotated[int, Query(ge=1, le=_LIMIT_MAX)] = 1000,
        subject: Subject = reads,
    ) -> ChangesModel:
        async with witness.of(request, Action.READ) as told:
            told |= {"after": after, "limit": limit}
            changes = await read_changes(database, subject.organization_id, after=after, limit=limit)
            told["changes"] = len(changes)
        return ChangesModel(
            changes=[
                ChangeModel(
                    number=change.number,
                    at=instant(change.at_us),
                    kind=change.kind,
                    study_instance_uid=change.study_instance_uid,
                    series_instance_uid=change.series_instance_uid,
                    sop_instance_uid=change.sop_instance_uid,
                    detail=change.detail,
                )
                for change in changes
            ],
            last=changes[-1].number if changes else after,
            done=len(changes) < limit,
        )

    return router
