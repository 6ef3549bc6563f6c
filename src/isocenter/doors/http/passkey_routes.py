"""Passkeys: ``/api/v1/auth/passkeys`` makes and uses them, ``/api/v1/me/passkeys`` are a person's own."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from isocenter.doors.http.auth_routes import PATH, Login, Name, Password, TokensModel, tokens_model
from isocenter.doors.http.gate import PUBLIC, Gate, client_address, declare
from isocenter.doors.http.instants import instant
from isocenter.doors.http.passkey_models import CredentialModel, NewCredentialModel, OptionsModel
from isocenter.doors.http.user_routes import ID_MAX
from isocenter.features.accounts.entries import Passkey
from isocenter.features.accounts.opening import Accounts
from isocenter.platform.security import Subject

PasskeyId = Annotated[int, Path(ge=1, le=ID_MAX)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PasskeyLoginModel(_Asked):
    """``cookie``: see TokensModel."""

    credential: CredentialModel
    cookie: bool = False


class PasswordOnceModel(_Asked):
    login: Login
    password: Password


class NewPasskeyModel(_Asked):
    credential: NewCredentialModel
    name: Name = ""


class NameModel(_Asked):
    name: Name


class ProofModel(_Asked):
    """The password where no second factor is on, else a code, a recovery code or a passkey."""

    password: Password = ""
    code: Annotated[str, Field(max_length=64)] = ""
    passkey: CredentialModel | None = None


class PasskeyModel(BaseModel):
    """``backed_up``: losing the device does not lose it. ``revoked_at``: it counts no longer."""

    id: int
    name: str
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None
    backed_up: bool


class PasskeysModel(BaseModel):
    passkeys: list[PasskeyModel]


class AddedModel(BaseModel):
    """``recovery_codes``: with the first second factor of an account, shown this once."""

    passkey: PasskeyModel
    recovery_codes: list[str]


def passkey_login_router(accounts: Accounts, *, https: bool) -> APIRouter:
    """``https``: see `auth_router`."""
    router = APIRouter(prefix=f"{PATH}/passkeys", tags=["auth"])

    @router.post("/login/options")
    async def login_options() -> OptionsModel:
        return OptionsModel(public_key=accounts.passkey_login.options())

    @router.post("/login")
    async def log_in(asked: PasskeyLoginModel, request: Request, response: Response) -> TokensModel:
        """Without a login name: the passkey says whose it is."""
        tokens = await accounts.passkey_login.log_in(
            asked.credential.as_sent(),
            address=client_address(request),
            user_agent=request.headers.get("user-agent", ""),
        )
        return tokens_model(tokens, request, response, cookie=asked.cookie, https=https)

    @router.post("/second-factor/options")
    async def second_factor_options(asked: PasswordOnceModel, request: Request) -> OptionsModel:
        """What comes of it goes to ``POST /api/v1/auth/login`` as ``passkey``, with login and password."""
        return OptionsModel(
            public_key=await accounts.login.passkey_options(
                asked.login, asked.password, address=client_address(request)
            )
        )

    for route in router.routes:
        declare(route, PUBLIC)
    return router


def own_passkey_router(accounts: Accounts, gate: Gate) -> APIRouter:
    router = APIRouter(prefix=PATH, tags=["auth"])
    known = gate.needs(None)

    @router.post("/passkeys/register/options")
    async def options(subject: Subject = known) -> OptionsModel:
        """Asks for a proof where the login is older than ten minutes."""
        return OptionsModel(public_key=await accounts.passkeys.options(subject))

    @router.post("/passkeys/register", status_code=201)
    async def register(asked: NewPasskeyModel, subject: Subject = known) -> AddedModel:
        added = await accounts.passkeys.add(subject, asked.credential.as_sent(), asked.name)
        return AddedModel(passkey=_passkey_model(added.passkey), recovery_codes=added.recovery_codes)

    @router.post("/passkeys/proof/options")
    async def proof_options(subject: Subject = known) -> OptionsModel:
        return OptionsModel(public_key=await accounts.proofs.passkey_options(subject))

    @router.post("/proof", status_code=204)
    async def prove(asked: ProofModel, subject: Subject = known) -> None:
        """Show again that it is you; counts ten minutes for this login."""
        passkey = asked.passkey.as_sent() if asked.passkey else None
        await accounts.proofs.give(subject, password=asked.password, code=asked.code, passkey=passkey)

    return router


def my_passkey_router(accounts: Accounts, gate: Gate) -> APIRouter:
    router = APIRouter(prefix="/api/v1/me/passkeys", tags=["me"])
    known = gate.needs(None)

    @router.get("")
    async def passkeys(subject: Subject = known) -> PasskeysModel:
        return PasskeysModel(passkeys=[_passkey_model(one) for one in await accounts.passkeys.list(subject)])

    @router.patch("/{passkey_id}")
    async def rename(asked: NameModel, passkey_id: PasskeyId, subject: Subject = known) -> PasskeyModel:
        return _passkey_model(await accounts.passkeys.rename(subject, passkey_id, asked.name))

    @router.delete("/{passkey_id}", status_code=204)
    async def remove(passkey_id: PasskeyId, subject: Subject = known) -> None:
        """Asks for a proof where the login is older than ten minutes."""
        await accounts.passkeys.remove(subject, passkey_id)

    return router


def _passkey_model(passkey: Passkey) -> PasskeyModel:
    used_at_us, revoked_at_us = passkey.last_used_at_us, passkey.revoked_at_us
    return PasskeyModel(
        id=passkey.id,
        name=passkey.name,
        created_at=instant(passkey.created_at_us),
        last_used_at=None if used_at_us is None else instant(used_at_us),
        revoked_at=None if revoked_at_us is None else instant(revoked_at_us),
        backed_up=passkey.backed_up,
    )
