"""``/api/v1/users``: the people of the subject's organisation."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from isocenter.doors.http.gate import Gate
from isocenter.doors.http.instants import instant
from isocenter.features.accounts.entries import Account, AccountState, Link
from isocenter.features.accounts.opening import Accounts
from isocenter.features.accounts.people import Invited
from isocenter.platform.security import Permission, Role, Subject

ID_MAX = (1 << 63) - 1
UserId = Annotated[int, Path(ge=1, le=ID_MAX)]


class UserModel(BaseModel):
    """``second_factor``: one is asked for; ``totp`` and ``passkeys`` (their number) answer it."""

    id: int
    organization_id: int
    login: str
    name: str
    role: Role
    operator: bool
    state: AccountState
    second_factor: bool
    totp: bool
    passkeys: int
    created_at: datetime
    last_login_at: datetime | None


class UsersModel(BaseModel):
    users: list[UserModel]


class LinkModel(BaseModel):
    """``token`` is shown this once; it goes to ``POST /api/v1/auth/invitations/accept``."""

    token: str
    expires_at: datetime


class InviteModel(BaseModel):
    model_config = ConfigDict(extra="forbid")
    login: Annotated[str, Field(max_length=254)]
    name: Annotated[str, Field(max_length=200)] = ""
    role: Role


class InvitedModel(BaseModel):
    user: UserModel
    link: LinkModel


class ChangeModel(BaseModel):
    model_config = ConfigDict(extra="forbid")
    role: Role | None = None
    state: Literal[AccountState.ACTIVE, AccountState.LOCKED, AccountState.DISABLED] | None = None


class EndedModel(BaseModel):
    sessions: int


def user_router(accounts: Accounts, gate: Gate) -> APIRouter:
    router = APIRouter(prefix="/api/v1/users", tags=["users"])
    reads, manages = gate.needs(Permission.USERS_READ), gate.needs(Permission.USERS_MANAGE)
    people = accounts.people

    @router.get("")
    async def list_users(
        after: Annotated[int, Query(ge=0, le=ID_MAX)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        subject: Subject = reads,
    ) -> UsersModel:
        found = await people.list(subject, after=after, limit=limit)
        return UsersModel(users=[user_model(one) for one in found])

    @router.post("", status_code=201)
    async def invite(asked: InviteModel, subject: Subject = manages) -> InvitedModel:
        return invited_model(await people.invite(subject, asked.login, asked.name, asked.role))

    @router.get("/{user_id}")
    async def show(user_id: UserId, subject: Subject = reads) -> UserModel:
        return user_model(await people.get(subject, user_id))

    @router.patch("/{user_id}")
    async def change(asked: ChangeModel, user_id: UserId, subject: Subject = manages) -> UserModel:
        return user_model(await people.change(subject, user_id, role=asked.role, state=asked.state))

    @router.post("/{user_id}/reset")
    async def reset(user_id: UserId, subject: Subject = manages) -> LinkModel:
        return link_model(await people.reset(subject, user_id))

    @router.delete("/{user_id}/second-factor", status_code=204)
    async def clear_second_factor(user_id: UserId, subject: Subject = manages) -> None:
        """The app, the passkeys and the recovery codes."""
        await accounts.second_factor.clear(subject, user_id)

    @router.delete("/{user_id}/sessions")
    async def end_sessions(user_id: UserId, subject: Subject = manages) -> EndedModel:
        await people.get(subject, user_id)
        return EndedModel(sessions=await accounts.sessions.end_of(subject, user_id))

    return router


def user_model(account: Account) -> UserModel:
    login_at_us = account.last_login_at_us
    return UserModel(
        id=account.id,
        organization_id=account.organization_id,
        login=account.login,
        name=account.display_name,
        role=account.role,
        operator=account.operator,
        state=account.state,
        second_factor=account.second_factor,
        totp=account.totp,
        passkeys=account.passkeys,
        created_at=instant(account.created_at_us),
        last_login_at=None if login_at_us is None else instant(login_at_us),
    )


def link_model(link: Link) -> LinkModel:
    return LinkModel(token=link.token, expires_at=instant(link.expires_at_us))


def invited_model(invited: Invited) -> InvitedModel:
    return InvitedModel(user=user_model(invited.account), link=link_model(invited.link))
