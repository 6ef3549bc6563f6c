"""``/api/v1/api-keys``: what programs of the subject's organisation show."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field, model_validator

from isocenter.doors.http.gate import Gate
from isocenter.doors.http.instants import Instant, instant
from isocenter.doors.http.user_routes import ID_MAX
from isocenter.features.accounts.entries import ApiKey
from isocenter.features.accounts.opening import Accounts
from isocenter.platform.security import PERMISSIONS_OF_ROLE, Permission, Role, Subject


class KeyModel(BaseModel):
    id: int
    name: str
    prefix: str
    permissions: list[Permission]
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class KeysModel(BaseModel):
    keys: list[KeyModel]


class MakeKeyModel(BaseModel):
    """Either the permissions one by one, or those of a role."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1, max_length=200)]
    permissions: Annotated[list[Permission], Field(max_length=len(Permission))] = []
    role: Role | None = None
    expires_at: Instant | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.permissions) == (self.role is not None):
            raise ValueError("name either permissions or a role")
        return self


class MadeKeyModel(BaseModel):
    """``secret`` is shown this once: ``Authorization: Api-Key <secret>``."""

    key: KeyModel
    secret: str


def api_key_router(accounts: Accounts, gate: Gate) -> APIRouter:
    router = APIRouter(prefix="/api/v1/api-keys", tags=["api-keys"])
    manages = gate.needs(Permission.KEYS_MANAGE)

    @router.get("")
    async def list_keys(subject: Subject = manages) -> KeysModel:
        return KeysModel(keys=[key_model(one) for one in await accounts.keys.list(subject)])

    @router.post("", status_code=201)
    async def make(asked: MakeKeyModel, subject: Subject = manages) -> MadeKeyModel:
        permissions = asked.permissions if asked.role is None else PERMISSIONS_OF_ROLE[asked.role]
        made = await accounts.keys.make(subject, asked.name, permissions, expires_at=asked.expires_at)
        return MadeKeyModel(key=key_model(made.key), secret=made.secret)

    @router.delete("/{key_id}", status_code=204)
    async def revoke(key_id: Annotated[int, Path(ge=1, le=ID_MAX)], subject: Subject = manages) -> None:
        await accounts.keys.revoke(subject, key_id)

    return router


def key_model(key: ApiKey) -> KeyModel:
    return KeyModel(
        id=key.id,
        name=key.name,
        prefix=key.prefix,
        permissions=list(key.permissions),
        created_by=key.created_by,
        created_at=instant(key.created_at_us),
        expires_at=_instant_or_none(key.expires_at_us),
        revoked_at=_instant_or_none(key.revoked_at_us),
        last_used_at=_instant_or_none(key.last_used_at_us),
    )


def _instant_or_none(at_us: int | None) -> datetime | None:
    return None if at_us is None else instant(at_us)
