"""``/api/v1/quarantine``: what validation refused, for a person to look at and decide (MISSION A5)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from isocenter.doors.http.filenames import attachment
from isocenter.doors.http.gate import Gate
from isocenter.doors.http.instants import instant
from isocenter.doors.http.witness import Witness
from isocenter.features.archive.entry import Outcome
from isocenter.features.archive.quarantine import Quarantine, Quarantined
from isocenter.platform.security import Action, NoRecorder, Permission, Recorder, Subject

_LIMIT_MAX = 1000
_ENTRY_ID = r"^[0-9a-f]{32}$"
_EntryId = Annotated[str, Path(pattern=_ENTRY_ID)]


class ProblemModel(BaseModel):
    """One broken rule. ``tag`` is ``GGGGEEEE``; empty where the problem is not one attribute's."""

    code: str
    tag: str
    detail: str
    remedy: str


class EntryModel(BaseModel):
    """An object in quarantine. ``known`` is DICOM JSON of what could be read of it."""

    id: str
    state: Literal["waiting", "accepted", "discarded"]
    problems: list[ProblemModel]
    known: dict[str, Any]
    size: int
    transfer_syntax_uid: str
    door: str
    peer: str
    received_at: datetime
    times_seen: int
    settled_at: datetime | None
    settled_note: str


class EntriesModel(BaseModel):
    """``waiting`` counts all that wait; ``next_after``: the next page's cursor, null after the last."""

    entries: list[EntryModel]
    waiting: int
    next_after: str | None


class AcceptModel(BaseModel):
    """``corrections``: attributes by keyword or tag with the value to set, before the object is filed."""

    model_config = ConfigDict(extra="forbid")
    corrections: Annotated[dict[str, str], Field(max_length=100)] = {}


class DiscardModel(BaseModel):
    model_config = ConfigDict(extra="forbid")
    reason: Annotated[str, Field(max_length=1000)] = ""


class OutcomeModel(BaseModel):
    """What became of an accepted object."""

    outcome: str
    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


def quarantine_router(quarantine: Quarantine, gate: Gate, recorder: Recorder | None = None) -> APIRouter:
    """The routes over the subject's own quarantine."""
    witness = Witness(recorder or NoRecorder(), "quarantine")
    router = APIRouter(prefix="/api/v1/quarantine", tags=["quarantine"])
    reads, settles = gate.needs(Permission.QUARANTINE_READ), gate.needs(Permission.QUARANTINE_SETTLE)

    @router.get("")
    async def list_entries(
        request: Request,
        *,
        state: Literal["waiting", "accepted", "discarded"] = "waiting",
        after: Annotated[str | None, Query(pattern=_ENTRY_ID)] = None,
        limit: Annotated[int, Query(ge=1, le=_LIMIT_MAX)] = 100,
        subject: Subject = reads,
    ) -> EntriesModel:
        async with witness.of(request, Action.READ) as told:
            entries = await quarantine.list(
                subject.organization_id, state=state, after=after or "", limit=limit
            )
            told["entries"] = len(entries)
            return EntriesModel(
                entries=[entry_model(entry) for entry in entries],
                waiting=await quarantine.count(subject.organization_id),
                next_after=entries[-1].id if len(entries) == limit else None,
            )

    @router.get("/{entry_id}")
    async def get_entry(request: Request, entry_id: _EntryId, subject: Subject = reads) -> EntryModel:
        async with witness.of(request, Action.READ, entry_id):
            return entry_model(await quarantine.get(subject.organization_id, entry_id))

    @router.get("/{entry_id}/content", response_class=StreamingResponse)
    async def get_content(
        request: Request, entry_id: _EntryId, subject: Subject = reads
    ) -> StreamingResponse:
        async with witness.of(request, Action.READ, entry_id) as told:
            entry = await quarantine.get(subject.organization_id, entry_id)
            told["bytes"] = entry.size
            pieces = await quarantine.content(subject.organization_id, entry_id)
            first = await anext(pieces, b"")  # what is wrong with the store shows before the answer begins
        return StreamingResponse(
            _following(first, pieces),
            media_type="application/dicom",
            headers={
                "content-length": str(entry.size),
                "content-disposition": attachment(f"quarantine-{entry_id}.dcm"),
            },
        )

    @router.post("/{entry_id}/accept")
    async def accept(
        request: Request, entry_id: _EntryId, asked: AcceptModel, subject: Subject = settles
    ) -> OutcomeModel:
        async with witness.of(request, Action.CHANGE, entry_id, durable=True) as told:
            told |= {"settled": "accepted", **asked.corrections}
            outcome = await quarantine.accept(subject.organization_id, entry_id, asked.corrections)
            told["study"] = outcome.study_instance_uid
            return outcome_model(outcome)

    @router.post("/{entry_id}/discard")
    async def discard(
        request: Request, entry_id: _EntryId, asked: DiscardModel, subject: Subject = settles
    ) -> EntryModel:
        async with witness.of(request, Action.CHANGE, entry_id, durable=True) as told:
            told |= {"settled": "discarded", "why": asked.reason}
            await quarantine.discard(subject.organization_id, entry_id, asked.reason)
            return entry_model(await quarantine.get(subject.organization_id, entry_id))

    return router


def entry_model(entry: Quarantined) -> EntryModel:
    return EntryModel(
        id=entry.id,
        state=entry.state,
        problems=[
            ProblemModel(
                code=problem["code"],
                tag=problem["tag"] or "",
                detail=problem["detail"],
                remedy=problem["remedy"],
            )
            for problem in entry.problems
        ],
        known=entry.known,
        size=entry.size,
        transfer_syntax_uid=entry.transfer_syntax_uid,
        door=entry.door,
        peer=entry.peer,
        received_at=instant(entry.received_at_us),
        times_seen=entry.times_seen,
        settled_at=None if entry.settled_at_us is None else instant(entry.settled_at_us),
        settled_note=entry.settled_note,
    )


def outcome_model(outcome: Outcome) -> OutcomeModel:
    return OutcomeModel(
        outcome=outcome.kind,
        study_instance_uid=outcome.study_instance_uid,
        series_instance_uid=outcome.series_instance_uid,
        sop_class_uid=outcome.sop_class_uid,
        sop_instance_uid=outcome.sop_instance_uid,
    )


async def _following(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in pieces:
        yield piece
