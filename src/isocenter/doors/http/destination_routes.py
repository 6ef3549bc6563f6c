"""``/api/v1/destinations``: where AE titles are reached, for retrievals and reports."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from isocenter.doors.http.gate import Gate
from isocenter.doors.http.instants import instant
from isocenter.doors.http.witness import Witness
from isocenter.features.ae_titles.destinations import (
    ASSOCIATIONS_MAX,
    AVAILABILITY_AFTER_S_MAX,
    Destination,
    Destinations,
)
from isocenter.features.availability.notices import Notice, Notices, NoticeState
from isocenter.platform.security import Action, NoRecorder, Permission, Recorder, Subject

Title = Annotated[str, Path(max_length=64)]


class DestinationFields(BaseModel):
    """``tls_name``: the name in its certificate; empty: the address. ``transfer_syntaxes``: UIDs of those
    that it likes best. ``associations_max``: how many are opened to it at once. ``availability_after_s``:
    studies that rest so long are told to it; null: none are."""

    model_config = ConfigDict(extra="forbid")
    address: Annotated[str, Field(min_length=1, max_length=255)]
    port: Annotated[int, Field(ge=1, le=65535)]
    tls: bool = False
    tls_name: Annotated[str, Field(max_length=255)] = ""
    transfer_syntaxes: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=64)] = []
    associations_max: Annotated[int, Field(ge=1, le=ASSOCIATIONS_MAX)] = 4
    availability_after_s: Annotated[int, Field(ge=1, le=AVAILABILITY_AFTER_S_MAX)] | None = None
    description: Annotated[str, Field(max_length=500)] = ""


class DestinationModel(DestinationFields):
    title: str
    created_at: datetime


class DestinationsModel(BaseModel):
    destinations: list[DestinationModel]


class NoticeModel(BaseModel):
    """A study that is told to a destination, or was. ``due_at`` null: nothing is left to do."""

    id: int
    ae_title: str
    study_instance_uid: str
    state: NoticeState
    due_at: datetime | None
    attempts: int
    last_error: str
    changed_at: datetime
    told_at: datetime | None


class NoticesModel(BaseModel):
    notices: list[NoticeModel]


class DestinationRemoved(BaseModel):
    removed: int


def destination_router(
    destinations: Destinations, notices: Notices, gate: Gate, recorder: Recorder | None = None
) -> APIRouter:
    """The routes over the subject's own list."""
    router = APIRouter(prefix="/api/v1/destinations", tags=["ae-titles"])
    witness = Witness(recorder or NoRecorder(), "ae-title")
    reads, manages = gate.needs(Permission.AE_TITLES_READ), gate.needs(Permission.AE_TITLES_MANAGE)

    @router.get("")
    async def list_destinations(request: Request, subject: Subject = reads) -> DestinationsModel:
        async with witness.of(request, Action.READ) as told:
            told["what"] = "destinations"
            found = await destinations.all(subject.organization_id)
            return DestinationsModel(destinations=[destination_model(one) for one in found])

    @router.get("/notices")
    async def list_notices(
        request: Request,
        *,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        subject: Subject = reads,
    ) -> NoticesModel:
        """Studies whose availability is told, the latest first."""
        async with witness.of(request, Action.READ) as told:
            told["what"] = "notices"
            found = await notices.find(subject.organization_id, limit=limit)
            return NoticesModel(notices=[notice_model(one) for one in found])

    @router.put("/{title}")
    async def put(
        request: Request, *, title: Title, asked: DestinationFields, subject: Subject = manages
    ) -> DestinationModel:
        async with witness.of(request, Action.CHANGE, title, durable=True) as told:
            told |= {"address": asked.address, "port": asked.port, "tls": asked.tls}
            values = asked.model_dump() | {"transfer_syntaxes": tuple(asked.transfer_syntaxes)}
            return destination_model(
                await destinations.put(subject.organization_id, Destination(title, **values))
            )

    @router.delete("/{title}")
    async def remove(request: Request, *, title: Title, subject: Subject = manages) -> DestinationRemoved:
        async with witness.of(request, Action.DELETE, title, durable=True) as told:
            told["what"] = "destination"
            await destinations.remove(subject.organization_id, title)
            return DestinationRemoved(removed=1)

    return router


def notice_model(one: Notice) -> NoticeModel:
    return NoticeModel(
        id=one.id,
        ae_title=one.ae_title,
        study_instance_uid=one.study_instance_uid,
        state=one.state,
        due_at=None if one.due_at_us is None else instant(one.due_at_us),
        attempts=one.attempts,
        last_error=one.last_error,
        changed_at=instant(one.changed_at_us),
        told_at=None if one.told_at_us is None else instant(one.told_at_us),
    )


def destination_model(one: Destination) -> DestinationModel:
    return DestinationModel(
        title=one.title,
        address=one.address,
        port=one.port,
        tls=one.tls,
        tls_name=one.tls_name,
        transfer_syntaxes=list(one.transfer_syntaxes),
        associations_max=one.associations_max,
        availability_after_s=one.availability_after_s,
        description=one.description,
        created_at=instant(one.created_at_us),
    )
