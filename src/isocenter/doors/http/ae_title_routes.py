"""``/api/v1/ae-titles``: who may call by DIMSE, and who was refused."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from isocenter.doors.http.gate import Gate
from isocenter.doors.http.instants import instant
from isocenter.doors.http.witness import Witness
from isocenter.features.ae_titles.entries import AeService, RefusedPeer, RegisteredTitle
from isocenter.features.ae_titles.service import AeTitles
from isocenter.platform.security import Action, NoRecorder, Permission, Recorder, Subject

_REFUSED_SHOWN = 100


class AeTitleModel(BaseModel):
    """``host``: the address or network that the title may call from; empty: any. ``certificate``: a name in
    the certificate that it must show, or its SHA-256 fingerprint; empty: none is asked for."""

    title: str
    host: str
    description: str
    created_at: datetime
    last_seen_at: datetime | None
    last_seen_host: str
    services: list[AeService]
    certificate: str


class RefusedModel(BaseModel):
    """``command`` lets the peer in; empty where it called an AE title that is not ours, or its user was not
    accepted. ``certificate``: the fingerprint of the one that it showed."""

    calling_ae_title: str
    peer_host: str
    called_ae_title: str
    reason: str
    times: int
    first_at: datetime
    last_at: datetime
    command: str
    certificate: str


class AeTitlesModel(BaseModel):
    ae_titles: list[AeTitleModel]
    refused: list[RefusedModel]


class RegisterModel(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: Annotated[str, Field(max_length=64)]
    host: Annotated[str, Field(max_length=64)] = ""
    description: Annotated[str, Field(max_length=500)] = ""
    services: Annotated[list[AeService], Field(min_length=1, max_length=len(AeService))] | None = None
    certificate: Annotated[str, Field(max_length=300)] | None = None


class RemovedModel(BaseModel):
    removed: int


def ae_title_router(ae_titles: AeTitles, gate: Gate, recorder: Recorder | None = None) -> APIRouter:
    """The routes over the subject's own list of callers."""
    router = APIRouter(prefix="/api/v1/ae-titles", tags=["ae-titles"])
    witness = Witness(recorder or NoRecorder(), "ae-title")
    reads, manages = gate.needs(Permission.AE_TITLES_READ), gate.needs(Permission.AE_TITLES_MANAGE)

    @router.get("")
    async def list_titles(request: Request, subject: Subject = reads) -> AeTitlesModel:
        async with witness.of(request, Action.READ):
            return AeTitlesModel(
                ae_titles=[title_model(one) for one in await ae_titles.titles(subject.organization_id)],
                refused=[
                    refused_model(one)
                    for one in await ae_titles.refused(subject.organization_id, limit=_REFUSED_SHOWN)
                ],
            )

    @router.post("", status_code=201)
    async def register(request: Request, asked: RegisterModel, subject: Subject = manages) -> AeTitleModel:
        async with witness.of(request, Action.CHANGE, asked.title, durable=True) as told:
            told |= {"host": asked.host, "description": asked.description}
            told["services"] = None if asked.services is None else ",".join(asked.services)
            told["certificate"] = asked.certificate
            registered = await ae_titles.register(
                subject.organization_id,
                asked.title,
                host=asked.host,
                description=asked.description,
                services=asked.services,
                certificate=asked.certificate,
                by_operator=subject.may(Permission.ORGANIZATIONS_MANAGE),
            )
            return title_model(registered)

    @router.delete("/{title}")
    async def remove(
        request: Request,
        *,
        title: Annotated[str, Path(max_length=64)],
        host: Annotated[str | None, Query(max_length=64)] = None,
        subject: Subject = manages,
    ) -> RemovedModel:
        """Without ``host`` all registrations of the title; with an empty one that for any host alone."""
        async with witness.of(request, Action.DELETE, title, durable=True) as told:
            told["host"] = host
            removed = await ae_titles.remove(subject.organization_id, title, host=host)
            told["removed"] = removed
            return RemovedModel(removed=removed)

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
        services=list(registered.services),
        certificate=registered.certificate,
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
        certificate=refused.certificate,
    )
