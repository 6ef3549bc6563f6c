"""A code for tokens (OpenID Connect Core 1.0 §3.1.3), and what the provider tells of the person (§5.3)."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

from isocenter.features.accounts.openid.addresses import is_loopback
from isocenter.features.accounts.openid.discovery import Metadata
from isocenter.features.accounts.openid.errors import (
    AnswerRefused,
    LoginDeclined,
    ProviderBroken,
    ProviderUnreachable,
)
from isocenter.features.accounts.openid.fetching import Answer, Fetcher

# RFC 6749 §4.1.2.1 and §5.2, OpenID Connect Core §3.1.2.6. Other words are not repeated.
_KNOWN_ERRORS = frozenset(
    {
        *("invalid_request", "unauthorized_client", "access_denied", "unsupported_response_type"),
        *("invalid_scope", "server_error", "temporarily_unavailable", "interaction_required"),
        *("login_required", "account_selection_required", "consent_required", "invalid_request_uri"),
        *("invalid_request_object", "request_not_supported", "request_uri_not_supported"),
        *("registration_not_supported", "invalid_client", "invalid_grant", "unsupported_grant_type"),
    }
)
_OURS = frozenset({"invalid_client", "unauthorized_client"})


@dataclass(frozen=True, slots=True)
class Client:
    """Who we are to the provider."""

    id: str
    secret: str
    redirect_uri: str


@dataclass(frozen=True, slots=True)
class ProviderTokens:
    id_token: str
    access_token: str


def known_error(error: object) -> str:
    return error if isinstance(error, str) and error in _KNOWN_ERRORS else "for a reason of its own"


async def exchanged(
    fetcher: Fetcher, metadata: Metadata, client: Client, *, authorization_code: str, verifier: str
) -> ProviderTokens:
    """Raises ProviderUnreachable, ProviderBroken, LoginDeclined, AnswerRefused, Busy."""
    answer = await ask_for_tokens(
        fetcher, metadata, client, authorization_code=authorization_code, verifier=verifier
    )
    document = answer.document("token answer")
    if answer.status != 200:
        error = document.get("error")
        if error in _OURS:
            raise ProviderBroken(
                "it does not accept our client id and secret",
                "An administrator corrects them: isocenter idp change NAME --client-secret-stdin",
            )
        raise LoginDeclined(known_error(error))
    id_token, access_token = document.get("id_token"), document.get("access_token")
    if not isinstance(id_token, str) or not isinstance(access_token, str):
        raise AnswerRefused("the provider gave no ID token or no access token")
    if str(document.get("token_type", "")).lower() != "bearer":  # Core §3.1.3.3
        raise AnswerRefused("the provider's access token is no bearer token")
    return ProviderTokens(id_token, access_token)


async def ask_for_tokens(
    fetcher: Fetcher, metadata: Metadata, client: Client, *, authorization_code: str, verifier: str
) -> Answer:
    """The token endpoint's answer, whatever it says. Raises ProviderUnreachable, ProviderBroken, Busy."""
    form = {
        "grant_type": "authorization_code",
        "code": authorization_code,
        "redirect_uri": client.redirect_uri,
        "code_verifier": verifier,
    }
    basic = ""
    if client.secret and metadata.auth_method == "client_secret_basic":
        # RFC 6749 §2.3.1: both are form-encoded first, so that a colon in the id splits nothing.
        pair = f"{quote_plus(client.id)}:{quote_plus(client.secret)}"
        basic = base64.b64encode(pair.encode()).decode()
    else:
        form["client_id"] = client.id
        if client.secret:
            form["client_secret"] = client.secret
    answer = await fetcher.post(
        metadata.token_endpoint, form, loopback=is_loopback(metadata.issuer), basic=basic
    )
    if answer.status >= 500:
        raise ProviderUnreachable(f"its token endpoint answers {answer.status}")
    return answer


async def told_of_person(
    fetcher: Fetcher, metadata: Metadata, access_token: str, subject: str
) -> dict[str, Any]:
    """Claims of the UserInfo endpoint. Raises ProviderUnreachable, ProviderBroken, AnswerRefused, Busy."""
    answer = await fetcher.get(
        metadata.userinfo_endpoint, loopback=is_loopback(metadata.issuer), bearer=access_token
    )
    if answer.status != 200:
        raise ProviderBroken(f"its UserInfo endpoint answers {answer.status}, not 200")
    claims = answer.document("UserInfo answer")
    if claims.get("sub") != subject:  # §5.3.2: it may have been exchanged for another person's
        raise AnswerRefused("the UserInfo answer is another person's")
    return claims
