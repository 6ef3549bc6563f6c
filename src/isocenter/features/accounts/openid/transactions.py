"""A login under way: from the browser's going to the provider until it comes back, ten minutes at most.

Kept are hashes only. ``state`` goes through the provider, the browser's word stays in its cookie; nonce and
PKCE's verifier are made of both under a key of ours: nobody but us has them, and we only while the browser
is here.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass

from isocenter.features.accounts.openid import queries
from isocenter.features.accounts.openid.entries import Provider
from isocenter.features.accounts.openid.errors import LoginExpired
from isocenter.features.accounts.secret_words import hash_of, random_word
from isocenter.kit.errors import Busy
from isocenter.platform.db import Work

VALID_S = 600
LOGINS_MAX = 100_000
"""Under way at one provider: whoever begins them by the million fills no disk."""

_S = 1_000_000
_COOKIE = "isocenter_oidc_"
AT_PROVIDER, AT_CODE = "provider", "code"


@dataclass(frozen=True, slots=True)
class Errand:
    """What somebody wants of the login: ``account_id`` and ``session_id`` to link an identity, ``account_id``
    and ``link_hash`` to accept an invitation, none of them to log in."""

    return_to: str = ""
    account_id: int | None = None
    session_id: int = 0
    link_hash: str = ""


@dataclass(frozen=True, slots=True)
class LoginWords:
    """``nonce`` and ``verifier`` (RFC 7636 §4.1) belong to this ``state`` in this browser alone."""

    state: str
    browser_word: str
    nonce: str
    verifier: str

    @property
    def challenge(self) -> str:
        return _base64url(hashlib.sha256(self.verifier.encode()).digest())

    @property
    def cookie(self) -> str:
        return cookie_of(self.state)


def cookie_of(state: str) -> str:
    """Each login under way has its own, so that two tabs do not end each other's."""
    return _COOKIE + hash_of(state)[:16]


def words_of(key: bytes, state: str, browser_word: str) -> LoginWords:
    def made(purpose: str) -> str:
        message = "\0".join((purpose, hash_of(state), hash_of(browser_word)))
        return _base64url(hmac.digest(key, message.encode(), "sha256"))

    return LoginWords(state, browser_word, made("nonce"), made("verifier"))


def new_words(key: bytes) -> LoginWords:
    return words_of(key, random_word(), random_word())


def put_login(
    organization_id: int,
    provider: Provider,
    state: str,
    browser_word: str,
    errand: Errand,
    *,
    at_us: int,
    step: str = AT_PROVIDER,
) -> Work[None]:
    """Raises Busy."""
    yield queries.FORGET_OLD_LOGINS(organization_id=organization_id, before_us=at_us)
    counted = yield queries.COUNT_LOGINS(organization_id=organization_id, provider_id=provider.id)
    if counted[0]["logins"] >= LOGINS_MAX:
        raise Busy("Too many logins at this identity provider are under way.", remedy="Try again in a while.")
    yield queries.PUT_LOGIN(
        organization_id=organization_id,
        provider_id=provider.id,
        state_hash=hash_of(state),
        browser_hash=hash_of(browser_word),
        step=step,
        return_to=errand.return_to,
        account_id=errand.account_id,
        session_id=errand.session_id,
        link_hash=errand.link_hash,
        expires_at_us=at_us + VALID_S * _S,
    )


def use_login(
    organization_id: int,
    provider: Provider,
    state: str,
    browser_word: str,
    *,
    at_us: int,
    step: str = AT_PROVIDER,
) -> Work[Errand]:
    """Raises LoginExpired."""
    rows = yield queries.USE_LOGIN(
        organization_id=organization_id,
        provider_id=provider.id,
        state_hash=hash_of(state),
        browser_hash=hash_of(browser_word),
        step=step,
        now_us=at_us,
    )
    if not rows:
        raise LoginExpired
    row = rows[0]
    return Errand(row["return_to"], row["account_id"], row["session_id"], row["link_hash"])


def account_at_code(organization_id: int, provider: Provider, code_word: str, *, at_us: int) -> Work[int]:
    """Who has still to show a code; the login stays unused. Raises LoginExpired."""
    rows = yield queries.FIND_LOGIN(
        organization_id=organization_id,
        provider_id=provider.id,
        state_hash=hash_of(code_word),
        browser_hash=hash_of(code_word),
        step=AT_CODE,
        now_us=at_us,
    )
    if not rows:
        raise LoginExpired
    return int(rows[0]["account_id"])


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
