"""``/api/v1/ae-titles``: who may call by DIMSE, and who was refused."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from isocenter.doors.http.gate import Gate
from isocenter.doors.http.instants import instant
from isocenter.features.ae_titles.entries import RefusedPeer, RegisteredTitle
from isocenter.features.ae_titles.service import AeTitles
from isocenter.platform.security import Permission, Subject

_REFUSED_SHOWN = 100


class AeTitleModel(BaseModel):
    """``host``: the address or network that the title may call from; empty: any."""

    title: str
    host: str
    description: str
    created_at: datetime
    last_seen_at: datetime | None
    last_seen_host: str


class RefusedModel(BaseModel):
    """``command`` lets the peer in; empty where it called an AE title that is not ours."""

    calling_ae_title: str
    peer_host: str
    called_ae_title: str
    reason: str
    times: int
    first_at: datetime
    last_at: datetime
    command: str


class AeTitlesModel(BaseModel):
    ae_titles: list[AeTitleModel]
    refused: list[RefusedModel]


class RegisterModel(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: Annotated[str, Field(max_length=64)]
    host: Annotated[str, Field(max_length=64)] = ""
    description: Annotated[str, Field(max_length=500)] = ""


class RemovedModel(BaseModel):
    removed: int


def ae_title_router(ae_titles: AeTitles, gate: Gate) -> APIRouter:
    """The routes over the subject's own list of callers."""
    router = APIRouter(prefix="/api/v1/ae-titles", tags=["ae-titles"])
    reads, manages = gate.needs(Permission.AE_TITLES_READ), gate.needs(Permission.AE_TITLES_MANAGE)

    @router.get("")
    async def list_titles(subject: Subject = reads) -> AeTitlesModel:
        return AeTitlesModel(
            ae_titles=[title_model(one) for one in await ae_titles.titles(subject.organization_id)],
            refused=[
                refused_model(one)
                for one in await ae_titles.refused(subject.organization_id, limit=_REFUSED_SHOWN)
            ],
        )

    @router.post("", status_code=201)
    async def register(request: RegisterModel, subject: Subject = manages) -> AeTitleModel:
        registered = await ae_titles.register(
            subject.organization_id, request.title, host=request.host, description=request.description
        )
        return title_model(registered)

    @router.delete("/{title}")
    async def remove(
        title: Annotated[str, Path(max_length=64)],
        host: Annotated[str | None, Query(max_length=64)] = None,
        subject: Subject = manages,
    ) -> RemovedModel:
        """Without ``host`` all registrations of the title; with an empty one that for any host alone."""
        return RemovedModel(removed=await ae_titles.remove(subject.organization_id, title, host=host))

    return router


def title_model(registered: RegisteredTitle) -> AeTitleModel:
    seen_at_us = registered.last_seen_at_us
    return AeTitleModel(
        title=registered.title,
        host=registered.host,
        description=registered.description,
        created_at=instant(registered.created_at_us),
        last_seen_at=None if seen_at_us is None else instant(seen_at_us),
        last_seen_host=registered.last_seen_host,
    )


def refused_model(refused: RefusedPeer) -> RefusedModel:
    return RefusedModel(
        calling_ae_title=refused.calling_ae_title,
        peer_host=refused.peer_host,
        called_ae_title=refused.called_ae_title,
        reason=refused.reason,
        times=refused.times,
        first_at=instant(refused.first_at_us),
        last_at=instant(refused.last_at_us),
        command=refused.command,
    )
