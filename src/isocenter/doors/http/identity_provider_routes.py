"""``/api/v1/identity-providers``: who logs an organisation's people in; identities bound to accounts."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from isocenter.doors.http.gate import Gate
from isocenter.doors.http.instants import instant
from isocenter.doors.http.user_routes import ID_MAX, UserId
from isocenter.features.accounts.openid.entries import Identity, Provider
from isocenter.features.accounts.openid.providers import ProviderChanges
from isocenter.features.accounts.opening import Accounts
from isocenter.platform.security import Permission, Subject

ProviderName = Annotated[str, Path(max_length=63)]
IdentityId = Annotated[int, Path(ge=1, le=ID_MAX)]
Title = Annotated[str, Field(max_length=200)]
Issuer = Annotated[str, Field(max_length=1000)]
ClientId = Annotated[str, Field(max_length=500)]
ClientSecret = Annotated[str, Field(max_length=2000)]
Chosen = Annotated[dict[str, Any], Field(max_length=50)]
_WORDS = {True: "good", False: "bad", None: "unknown"}


class ProviderModel(BaseModel):
    """``has_secret``: it is never shown itself. ``redirect_uri`` has to be registered at the provider."""

    name: str
    title: str
    issuer: str
    client_id: str
    has_secret: bool
    enabled: bool
    settings: dict[str, Any]
    redirect_uri: str
    created_at: datetime


class ProvidersModel(BaseModel):
    identity_providers: list[ProviderModel]


class AddProviderModel(BaseModel):
    """``client_secret`` empty: a client without one."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(max_length=63)]
    title: Title = ""
    issuer: Issuer
    client_id: ClientId
    client_secret: ClientSecret = ""
    settings: Chosen = {}


class ChangeProviderModel(BaseModel):
    """Only what is named changes; a setting that is null takes its default."""

    model_config = ConfigDict(extra="forbid")
    title: Title | None = None
    issuer: Issuer | None = None
    client_id: ClientId | None = None
    client_secret: ClientSecret | None = None
    enabled: bool | None = None
    settings: Chosen = {}


class FindingModel(BaseModel):
    verdict: Literal["good", "bad", "unknown"]
    says: str
    remedy: str


class ExaminationModel(BaseModel):
    ok: bool
    findings: list[FindingModel]


class IdentityModel(BaseModel):
    """``subject`` is the provider's ``sub``."""

    id: int
    issuer: str
    subject: str
    created_at: datetime
    last_login_at: datetime | None


class IdentitiesModel(BaseModel):
    identities: list[IdentityModel]


class BindModel(BaseModel):
    model_config = ConfigDict(extra="forbid")
    provider: Annotated[str, Field(max_length=63)]
    subject: Annotated[str, Field(max_length=255)]


def identity_provider_router(accounts: Accounts, gate: Gate) -> APIRouter:
    router = APIRouter(prefix="/api/v1/identity-providers", tags=["identity providers"])
    manages = gate.needs(Permission.ORGANIZATION_MANAGE)
    openid = accounts.openid

    def shown(provider: Provider) -> ProviderModel:
        return provider_model(provider, openid.public_url)

    @router.get("")
    async def list_providers(subject: Subject = manages) -> ProvidersModel:
        return ProvidersModel(identity_providers=[shown(one) for one in await openid.providers.all(subject)])

    @router.post("", status_code=201)
    async def add(asked: AddProviderModel, subject: Subject = manages) -> ProviderModel:
        added = await openid.providers.add(
            subject,
            asked.name,
            issuer=asked.issuer,
            client_id=asked.client_id,
            client_secret=asked.client_secret,
            title=asked.title,
            settings=asked.settings,
        )
        return shown(added)

    @router.get("/{provider_name}")
    async def show(provider_name: ProviderName, subject: Subject = manages) -> ProviderModel:
        return shown(await openid.providers.get(subject, provider_name))

    @router.patch("/{provider_name}")
    async def change(
        asked: ChangeProviderModel, provider_name: ProviderName, subject: Subject = manages
    ) -> ProviderModel:
        changes = ProviderChanges(**{name: getattr(asked, name) for name in type(asked).model_fields})
        return shown(await openid.providers.change(subject, provider_name, changes))

    @router.delete("/{provider_name}", status_code=204)
    async def remove(provider_name: ProviderName, subject: Subject = manages) -> None:
        await openid.providers.remove(subject, provider_name)

    @router.post("/{provider_name}/test")
    async def test(provider_name: ProviderName, subject: Subject = manages) -> ExaminationModel:
        """What is wrong with it, in the order in which a login would trip over it."""
        found = await openid.examination.of(await openid.providers.get(subject, provider_name))
        return ExaminationModel(
            ok=all(one.ok is not False for one in found),
            findings=[
                FindingModel(verdict=_WORDS[one.ok], says=one.says, remedy=one.remedy)  # type: ignore[arg-type]
                for one in found
            ],
        )

    return router


def identity_router(accounts: Accounts, gate: Gate) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["identity providers"])
    known = gate.needs(None)
    reads, manages = gate.needs(Permission.USERS_READ), gate.needs(Permission.USERS_MANAGE)
    identities = accounts.openid.identities

    @router.get("/me/identities")
    async def own(subject: Subject = known) -> IdentitiesModel:
        return _identities_model(await identities.own(subject))

    @router.delete("/me/identities/{identity_id}", status_code=204)
    async def unbind_own(identity_id: IdentityId, subject: Subject = known) -> None:
        await identities.unbind_own(subject, identity_id)

    @router.get("/users/{user_id}/identities")
    async def of_user(user_id: UserId, subject: Subject = reads) -> IdentitiesModel:
        return _identities_model(await identities.of(subject, user_id))

    @router.post("/users/{user_id}/identities", status_code=201)
    async def bind(asked: BindModel, user_id: UserId, subject: Subject = manages) -> IdentitiesModel:
        return _identities_model(await identities.bind(subject, user_id, asked.provider, asked.subject))

    @router.delete("/users/{user_id}/identities/{identity_id}", status_code=204)
    async def unbind(user_id: UserId, identity_id: IdentityId, subject: Subject = manages) -> None:
        await identities.unbind(subject, user_id, identity_id)

    return router


def provider_model(provider: Provider, public_url: str) -> ProviderModel:
    return ProviderModel(
        name=provider.name,
        title=provider.title,
        issuer=provider.issuer,
        client_id=provider.client_id,
        has_secret=bool(provider.kept_secret),
        enabled=provider.enabled,
        settings=provider.settings.model_dump(mode="json"),
        redirect_uri=provider.redirect_uri(public_url),
        created_at=instant(provider.created_at_us),
    )


def _identities_model(identities: list[Identity]) -> IdentitiesModel:
    return IdentitiesModel(
        identities=[
            IdentityModel(
                id=one.id,
                issuer=one.issuer,
                subject=one.subject,
                created_at=instant(one.created_at_us),
                last_login_at=None if one.last_login_at_us is None else instant(one.last_login_at_us),
            )
            for one in identities
        ]
    )
