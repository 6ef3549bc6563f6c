"""``/api/v1/auth``, the public part: log in, refresh, register, accept an invitation, the first set-up."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Cookie, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from isocenter.doors.http.gate import PUBLIC, client_address, declare
from isocenter.doors.http.passkey_models import CredentialModel
from isocenter.doors.http.user_routes import UserModel, user_model
from isocenter.features.accounts.opening import Accounts
from isocenter.features.accounts.sessions import RefreshRefused, Tokens

PATH = "/api/v1/auth"
COOKIE = "isocenter_refresh"
Login = Annotated[str, Field(max_length=254)]
Password = Annotated[str, Field(max_length=1024)]
Name = Annotated[str, Field(max_length=200)]
Token = Annotated[str, Field(max_length=256)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LoginModel(_Asked):
    """``totp``: a code of the second factor or a recovery code; ``passkey`` in its place, see
    ``passkeys/second-factor/options``. ``cookie``: see TokensModel."""

    login: Login
    password: Password
    totp: Annotated[str, Field(max_length=64)] = ""
    passkey: CredentialModel | None = None
    cookie: bool = False


class RefreshModel(_Asked):
    """Without a token the cookie's is taken, and the new one goes there."""

    refresh_token: Token = ""


class RegisterModel(_Asked):
    organization: Annotated[str, Field(max_length=63)]
    login: Login
    name: Name = ""
    password: Password


class AcceptModel(_Asked):
    token: Token
    password: Password


class SetupModel(_Asked):
    token: Token
    login: Login
    name: Name = ""
    password: Password


class TokensModel(BaseModel):
    """``refresh_token`` is null where it went into the cookie, which no script of a page can read."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - the name of a scheme
    expires_in: int
    refresh_token: str | None
    refresh_expires_in: int


def auth_router(accounts: Accounts, *, https: bool) -> APIRouter:
    """``https``: browsers reach us by it, whatever a proxy in between makes of it."""
    router = APIRouter(prefix=PATH, tags=["auth"])

    @router.post("/login")
    async def log_in(asked: LoginModel, request: Request, response: Response) -> TokensModel:
        tokens = await accounts.login.log_in(
            asked.login,
            asked.password,
            code=asked.totp,
            passkey=asked.passkey.as_sent() if asked.passkey else None,
            address=client_address(request),
            user_agent=request.headers.get("user-agent", ""),
        )
        return tokens_model(tokens, request, response, cookie=asked.cookie, https=https)

    @router.post("/refresh")
    async def refresh(
        request: Request,
        response: Response,
        asked: RefreshModel | None = None,
        isocenter_refresh: Annotated[str, Cookie(max_length=256)] = "",
    ) -> TokensModel:
        given = asked.refresh_token if asked else ""
        if not given and not isocenter_refresh:
            raise RefreshRefused
        tokens = await accounts.sessions.refresh(given or isocenter_refresh, client_address(request))
        return tokens_model(tokens, request, response, cookie=not given, https=https)

    @router.post("/register", status_code=201)
    async def register(asked: RegisterModel, request: Request) -> UserModel:
        account = await accounts.joining.register(
            asked.organization, asked.login, asked.name, asked.password, client_address(request)
        )
        return user_model(account)

    @router.post("/invitations/accept")
    async def accept(asked: AcceptModel, request: Request) -> UserModel:
        """Also for the link of a reset."""
        return user_model(await accounts.joining.accept(asked.token, asked.password, client_address(request)))

    @router.post("/setup", status_code=201)
    async def set_up(asked: SetupModel, request: Request) -> UserModel:
        """The first administrator, by the link that the server prints while nobody has an account."""
        account = await accounts.joining.set_up(
            asked.token, asked.login, asked.name, asked.password, client_address(request)
        )
        return user_model(account)

    for route in router.routes:
        declare(route, PUBLIC)
    return router


def tokens_model(
    tokens: Tokens, request: Request, response: Response, *, cookie: bool, https: bool
) -> TokensModel:
    if cookie:
        response.set_cookie(
            COOKIE,
            tokens.refresh_token,
            max_age=tokens.refresh_expires_in_s,
            path=PATH,
            secure=https or request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
    return TokensModel(
        access_token=tokens.access_token,
        expires_in=tokens.expires_in_s,
        refresh_token=None if cookie else tokens.refresh_token,
        refresh_expires_in=tokens.refresh_expires_in_s,
    )
