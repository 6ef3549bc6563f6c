"""``/api/v1/organization``: one's own; ``/api/v1/organizations``: all of them, for operators."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from isocenter.doors.http.gate import Gate
from isocenter.doors.http.instants import instant
from isocenter.doors.http.user_routes import ID_MAX, InvitedModel, InviteModel, invited_model
from isocenter.features.accounts.entries import Organization
from isocenter.features.accounts.opening import Accounts
from isocenter.features.accounts.organization_settings import OrganizationSettings
from isocenter.features.archive.holdings import Holdings
from isocenter.platform.security import Permission, Subject

OrganizationId = Annotated[int, Path(ge=1, le=ID_MAX)]
_SETTINGS_MAX = 50


class OrganizationModel(BaseModel):
    id: int
    slug: str
    name: str
    created_at: datetime


class OrganizationsModel(BaseModel):
    organizations: list[OrganizationModel]


class UsageModel(BaseModel):
    """Of all versions, and in quarantine. ``percent_of_quota`` is null where there is no quota."""

    objects: int
    bytes: int
    percent_of_quota: float | None


class DecidedModel(OrganizationModel):
    """A setting that is null follows the server's. ``due_studies``: how many ``retention_days`` is going to
    remove as things stand; null where it is not set."""

    settings: dict[str, Any]
    usage: UsageModel
    due_studies: int | None


class MakeOrganizationModel(BaseModel):
    model_config = ConfigDict(extra="forbid")
    slug: Annotated[str, Field(max_length=63)]
    name: Annotated[str, Field(max_length=200)] = ""


class ChangeOrganizationModel(BaseModel):
    """Only the settings that are named change."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    settings: Annotated[dict[str, Any], Field(max_length=_SETTINGS_MAX)] = {}


def own_organization_router(accounts: Accounts, gate: Gate, holdings: Holdings) -> APIRouter:
    router = APIRouter(prefix="/api/v1/organization", tags=["organizations"])
    manages = gate.needs(Permission.ORGANIZATION_MANAGE)

    @router.get("")
    async def show(subject: Subject = manages) -> DecidedModel:
        found = await accounts.organizations.find(subject.organization_id)
        return await decided_model(*found, holdings)

    @router.patch("")
    async def change(asked: ChangeOrganizationModel, subject: Subject = manages) -> DecidedModel:
        """Its quota is the operator's to change."""
        changed = await accounts.organizations.change(
            subject, subject.organization_id, name=asked.name, settings=asked.settings
        )
        return await decided_model(*changed, holdings)

    return router


def organization_router(accounts: Accounts, gate: Gate, holdings: Holdings) -> APIRouter:
    router = APIRouter(prefix="/api/v1/organizations", tags=["organizations"])
    operates = gate.needs(Permission.ORGANIZATIONS_MANAGE)
    organizations = accounts.organizations

    @router.get("")
    async def list_organizations(subject: Subject = operates) -> OrganizationsModel:
        found = await organizations.list(subject)
        return OrganizationsModel(organizations=[organization_model(one) for one in found])

    @router.post("", status_code=201)
    async def make(asked: MakeOrganizationModel, subject: Subject = operates) -> OrganizationModel:
        return organization_model(await organizations.create(subject, asked.slug, asked.name))

    @router.get("/{organization_id}")
    async def show(organization_id: OrganizationId, subject: Subject = operates) -> DecidedModel:
        return await decided_model(*await organizations.find(organization_id), holdings)

    @router.patch("/{organization_id}")
    async def change(
        asked: ChangeOrganizationModel, organization_id: OrganizationId, subject: Subject = operates
    ) -> DecidedModel:
        changed = await organizations.change(
            subject, organization_id, name=asked.name, settings=asked.settings
        )
        return await decided_model(*changed, holdings)

    @router.post("/{organization_id}/users", status_code=201)
    async def invite(
        asked: InviteModel, organization_id: OrganizationId, subject: Subject = operates
    ) -> InvitedModel:
        """Its first administrator, most of the time: those invite the others."""
        await organizations.find(organization_id)
        there = replace(subject, organization_id=organization_id)
        return invited_model(await accounts.people.invite(there, asked.login, asked.name, asked.role))

    return router


def organization_model(organization: Organization) -> OrganizationModel:
    return OrganizationModel(
        id=organization.id,
        slug=organization.slug,
        name=organization.name,
        created_at=instant(organization.created_at_us),
    )


async def decided_model(
    organization: Organization, settings: OrganizationSettings, holdings: Holdings
) -> DecidedModel:
    held = await holdings.of(organization.id)
    return DecidedModel(
        **organization_model(organization).model_dump(),
        settings=settings.model_dump(),
        usage=UsageModel(objects=held.objects, bytes=held.bytes, percent_of_quota=held.percent_of_quota),
        due_studies=held.due_studies,
    )
