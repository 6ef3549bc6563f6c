"""``/api/v1/auth/oidc``: logging in by an identity provider (OpenID Connect, code flow with PKCE).

A browser goes to ``…/{provider}/start`` and ends at a path of this server, with the refresh token in its
cookie; whoever asks for JSON at the callback gets the tokens. ``{provider}`` is the organisation's short
name, a dot, the provider's name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import APIRouter, Cookie, Path, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, ConfigDict, Field

from isocenter.doors.http.auth_routes import COOKIE, PATH, Token, TokensModel, tokens_model
from isocenter.doors.http.gate import PUBLIC, Gate, client_address, declare
from isocenter.doors.http.passkey_models import CredentialModel, OptionsModel
from isocenter.features.accounts.login import CodeNeeded
from isocenter.features.accounts.openid.entries import Begun, Finished
from isocenter.features.accounts.openid.proving import Callback
from isocenter.features.accounts.openid.transactions import VALID_S, cookie_of
from isocenter.features.accounts.opening import Accounts
from isocenter.platform.security import Subject

OIDC = f"{PATH}/oidc"
CODE_COOKIE = "isocenter_oidc_code"
_WORD_MAX = 256
ProviderAddress = Annotated[str, Path(max_length=127, description="organisation.provider")]
ReturnTo = Annotated[str, Field(max_length=2000)]
_FOUND: dict[int | str, dict[str, Any]] = {
    302: {"description": "To the provider, or back to a path of this server."}
}


class OfferedModel(BaseModel):
    """``start`` is where a login by it begins."""

    name: str
    title: str
    start: str


class OfferedListModel(BaseModel):
    providers: list[OfferedModel]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LinkModel(_Asked):
    return_to: ReturnTo = ""


class AcceptInvitationModel(_Asked):
    token: Token
    return_to: ReturnTo = ""


class BegunModel(BaseModel):
    """Where the browser goes; its cookie was set."""

    authorization_url: str


class SecondFactorModel(_Asked):
    """``totp``: a code or a recovery code; else ``passkey``. ``cookie``: see TokensModel."""

    totp: Annotated[str, Field(max_length=64)] = ""
    passkey: CredentialModel | None = None
    cookie: bool = False


class LinkedModel(BaseModel):
    linked: Literal[True] = True


class LoggedOutModel(BaseModel):
    """``end_session_url``: where the browser ends the login at the provider too; null where there is none."""

    end_session_url: str | None


def openid_router(accounts: Accounts, *, https: bool) -> APIRouter:
    """What needs no credential. ``https``: browsers reach us by it, whatever a proxy makes of it."""
    router = APIRouter(prefix=OIDC, tags=["auth"])
    openid, cookies = accounts.openid, _Cookies(https)

    @router.get("")
    async def offered(organization: Annotated[str, Query(max_length=63)]) -> OfferedListModel:
        """For the login page; an organisation that there is not has none."""
        found = await openid.providers.offered(organization)
        return OfferedListModel(
            providers=[
                OfferedModel(name=one.name, title=one.title or one.name, start=f"{OIDC}/{one.address}/start")
                for one in found
            ]
        )

    @router.get("/{provider}/start", status_code=302, responses=_FOUND)
    async def start(
        provider: ProviderAddress,
        request: Request,
        return_to: Annotated[str, Query(max_length=2000)] = "",
    ) -> Response:
        begun = await openid.beginning.log_in(provider, return_to, address=client_address(request))
        response = RedirectResponse(begun.authorization_url, status_code=302)
        cookies.begin(request, response, begun)
        return response

    @router.post("/{provider}/accept")
    async def accept(
        asked: AcceptInvitationModel, provider: ProviderAddress, request: Request, response: Response
    ) -> BegunModel:
        """An invitation, by logging in at the provider instead of choosing a password."""
        begun = await openid.beginning.accept(
            provider, asked.token, asked.return_to, address=client_address(request)
        )
        cookies.begin(request, response, begun)
        return BegunModel(authorization_url=begun.authorization_url)

    @router.get("/{provider}/callback", responses=_FOUND, response_model=TokensModel | LinkedModel)
    async def callback(
        provider: ProviderAddress,
        request: Request,
        *,
        state: Annotated[str, Query(max_length=_WORD_MAX)] = "",
        code: Annotated[str, Query(max_length=8192)] = "",
        error: Annotated[str, Query(max_length=_WORD_MAX)] = "",
        iss: Annotated[str, Query(max_length=1000)] = "",
    ) -> Response:
        """The registered redirect URI: the provider sends the browser here."""
        finished = await openid.finishing.finish(
            provider,
            Callback(state, code, error, iss),
            cookies.browser_word(request, state),
            address=client_address(request),
            user_agent=request.headers.get("user-agent", ""),
        )
        return cookies.answer(request, finished, state, provider)

    @router.post("/{provider}/second-factor")
    async def second_factor(
        asked: SecondFactorModel,
        provider: ProviderAddress,
        request: Request,
        response: Response,
        isocenter_oidc_code: Annotated[str, Cookie(max_length=_WORD_MAX)] = "",
    ) -> TokensModel:
        """Where the provider's settings ask for ours too; the callback has set the cookie."""
        finished = await openid.finishing.finish_with_second_factor(
            provider,
            isocenter_oidc_code,
            code=asked.totp,
            passkey=asked.passkey.as_sent() if asked.passkey else None,
            address=client_address(request),
            user_agent=request.headers.get("user-agent", ""),
        )
        assert finished.tokens is not None
        response.delete_cookie(CODE_COOKIE, path=OIDC)
        return tokens_model(finished.tokens, request, response, cookie=asked.cookie, https=https)

    @router.post("/{provider}/second-factor/options")
    async def second_factor_options(
        provider: ProviderAddress,
        isocenter_oidc_code: Annotated[str, Cookie(max_length=_WORD_MAX)] = "",
    ) -> OptionsModel:
        """For an answer by passkey."""
        return OptionsModel(public_key=await openid.finishing.passkey_options(provider, isocenter_oidc_code))

    for route in router.routes:
        declare(route, PUBLIC)
    return router


def own_openid_router(accounts: Accounts, gate: Gate, *, https: bool) -> APIRouter:
    router = APIRouter(prefix=OIDC, tags=["auth"])
    known, cookies = gate.needs(None), _Cookies(https)

    @router.post("/{provider}/link")
    async def link(
        asked: LinkModel,
        provider: ProviderAddress,
        request: Request,
        response: Response,
        subject: Subject = known,
    ) -> BegunModel:
        """Bind the identity that one has there to one's own account."""
        begun = await accounts.openid.beginning.link(subject, provider, asked.return_to)
        cookies.begin(request, response, begun)
        return BegunModel(authorization_url=begun.authorization_url)

    @router.post("/logout")
    async def log_out(response: Response, subject: Subject = known) -> LoggedOutModel:
        url = await accounts.openid.finishing.log_out(subject)
        response.delete_cookie(COOKIE, path=PATH)
        return LoggedOutModel(end_session_url=url or None)

    return router


class _Cookies:
    """What a browser keeps of a login, and how its end is told to it.

    Lax: the provider's page sends the browser here, which a strict cookie would not survive. Where there is
    TLS the name begins with ``__Host-``: no other host of the domain can plant one (RFC 6265bis §4.1.3.2).
    """

    def __init__(self, https: bool) -> None:
        self._https = https

    def begin(self, request: Request, response: Response, begun: Begun) -> None:
        response.set_cookie(
            self._name(request, begun.cookie),
            begun.browser_word,
            max_age=VALID_S,
            path="/",
            secure=self._secure(request),
            httponly=True,
            samesite="lax",
        )

    def browser_word(self, request: Request, state: str) -> str:
        return request.cookies.get(self._name(request, cookie_of(state)), "")[:_WORD_MAX]

    def answer(self, request: Request, finished: Finished, state: str, provider: str) -> Response:
        """Raises CodeNeeded, with the cookie that goes with the code, to whoever asked for JSON."""
        page = not _asks_for_json(request)
        return_to = finished.return_to
        if finished.code_word:
            return_to = _with_query(return_to, login="second-factor", provider=provider)
        response: Response = RedirectResponse(return_to, status_code=302)
        if finished.tokens is not None:
            told = tokens_model(finished.tokens, request, response, cookie=page, https=self._https)
            if not page:
                response = Response(told.model_dump_json(), media_type="application/json")
        elif finished.code_word:
            self._ask_for_code(request, response, finished.code_word)
        elif not page:
            response = Response(LinkedModel().model_dump_json(), media_type="application/json")
        if finished.code_word and not page:
            needed = CodeNeeded(finished.accepts)
            needed.remedy = f"Send it to {OIDC}/{provider}/second-factor, with the cookie of this answer."
            needed.headers = {"Set-Cookie": response.headers["set-cookie"]}  # type: ignore[attr-defined]
            raise needed
        response.delete_cookie(
            self._name(request, cookie_of(state)), path="/", secure=self._secure(request), httponly=True
        )
        return response

    def _ask_for_code(self, request: Request, response: Response, code_word: str) -> None:
        response.set_cookie(
            CODE_COOKIE,
            code_word,
            max_age=VALID_S,
            path=OIDC,
            secure=self._secure(request),
            httponly=True,
            samesite="strict",
        )

    def _secure(self, request: Request) -> bool:
        return self._https or request.url.scheme == "https"

    def _name(self, request: Request, name: str) -> str:
        return f"__Host-{name}" if self._secure(request) else name


def _asks_for_json(request: Request) -> bool:
    """A browser that follows a redirect asks for HTML, a program for what it can read."""
    accepted = request.headers.get("accept", "")
    return "application/json" in accepted and "text/html" not in accepted


def _with_query(path: str, **more: str) -> str:
    parts = urlsplit(path)
    query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *more.items()])
    return parts._replace(query=query).geturl()
