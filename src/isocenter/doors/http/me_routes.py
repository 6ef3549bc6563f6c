"""``/api/v1/me`` and the rest of ``/api/v1/auth``: what everybody may see and change of their own."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from isocenter.doors.http.auth_routes import COOKIE, PATH, Password
from isocenter.doors.http.gate import Gate
from isocenter.doors.http.instants import instant
from isocenter.doors.http.user_routes import ID_MAX, UserModel, user_model
from isocenter.features.accounts.entries import LoginSession
from isocenter.features.accounts.opening import Accounts
from isocenter.platform.security import Permission, Subject, SubjectKind

SessionId = Annotated[int, Path(ge=1, le=ID_MAX)]


class MeModel(BaseModel):
    """``user`` is null for whoever is no person."""

    kind: SubjectKind
    name: str
    organization_id: int
    permissions: list[Permission]
    user: UserModel | None


class SessionModel(BaseModel):
    id: int
    current: bool
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    address: str
    user_agent: str


class SessionsModel(BaseModel):
    sessions: list[SessionModel]


class PasswordModel(BaseModel):
    model_config = ConfigDict(extra="forbid")
    current: Password
    new: Password


class CodeModel(BaseModel):
    model_config = ConfigDict(extra="forbid")
    code: Annotated[str, Field(max_length=64)]


class EnrolmentModel(BaseModel):
    """``svg`` and ``png`` (base64) show ``uri`` as a QR code."""

    secret: str
    uri: str
    svg: str
    png: str


class RecoveryModel(BaseModel):
    """Shown this once."""

    recovery_codes: list[str]


def me_router(accounts: Accounts, gate: Gate) -> APIRouter:
    router = APIRouter(prefix="/api/v1/me", tags=["me"])
    known = gate.needs(None)

    @router.get("")
    async def me(subject: Subject = known) -> MeModel:
        person = subject.kind is SubjectKind.USER
        user = user_model(await accounts.people.get(subject, int(subject.id))) if person else None
        return MeModel(
            kind=subject.kind,
            name=subject.name,
            organization_id=subject.organization_id,
            permissions=sorted(subject.permissions),
            user=user,
        )

    @router.get("/sessions")
    async def sessions(subject: Subject = known) -> SessionsModel:
        found = await accounts.sessions.list(subject)
        return SessionsModel(sessions=[_session_model(one, subject) for one in found])

    @router.delete("/sessions/{session_id}", status_code=204)
    async def end_session(session_id: SessionId, subject: Subject = known) -> None:
        await accounts.sessions.end(subject, session_id)

    return router


def own_auth_router(accounts: Accounts, gate: Gate) -> APIRouter:
    router = APIRouter(prefix=PATH, tags=["auth"])
    known = gate.needs(None)

    @router.post("/logout", status_code=204)
    async def log_out(response: Response, subject: Subject = known) -> None:
        await accounts.sessions.end(subject, int(subject.session_id or 0))
        response.delete_cookie(COOKIE, path=PATH)

    @router.post("/password", status_code=204)
    async def change_password(asked: PasswordModel, subject: Subject = known) -> None:
        """The other logins end."""
        await accounts.joining.change_password(subject, asked.current, asked.new)

    @router.post("/totp/enrol")
    async def enrol(subject: Subject = known) -> EnrolmentModel:
        enrolment = await accounts.second_factor.enrol(subject)
        return EnrolmentModel(
            secret=enrolment.secret,
            uri=enrolment.uri,
            svg=enrolment.svg,
            png=base64.b64encode(enrolment.png).decode(),
        )

    @router.post("/totp/confirm")
    async def confirm(asked: CodeModel, subject: Subject = known) -> RecoveryModel:
        return RecoveryModel(recovery_codes=await accounts.second_factor.confirm(subject, asked.code))

    @router.post("/totp/disable", status_code=204)
    async def disable(asked: CodeModel, subject: Subject = known) -> None:
        await accounts.second_factor.disable(subject, asked.code)

    return router


def _session_model(session: LoginSession, subject: Subject) -> SessionModel:
    used_at_us = session.last_used_at_us
    return SessionModel(
        id=session.id,
        current=str(session.id) == subject.session_id,
        created_at=instant(session.created_at_us),
        expires_at=instant(session.expires_at_us),
        last_used_at=None if used_at_us is None else instant(used_at_us),
        address=session.address,
        user_agent=session.user_agent,
    )
