"""A login at a provider begins: to log in, to accept an invitation, to link an identity while signed in."""

from __future__ import annotations

import re
from urllib.parse import urlencode

from isocenter.features.accounts import queries as account_queries
from isocenter.features.accounts.attempts import Attempts
from isocenter.features.accounts.entries import Purpose
from isocenter.features.accounts.joining import account_id_of
from isocenter.features.accounts.links import LinkUsedUp
from isocenter.features.accounts.openid.discovery import Discovery
from isocenter.features.accounts.openid.entries import Begun, Provider
from isocenter.features.accounts.openid.errors import NoSuchProvider, OperatorsStayOut
from isocenter.features.accounts.openid.providers import Providers
from isocenter.features.accounts.openid.transactions import Errand, new_words, put_login
from isocenter.features.accounts.proof import proven_recently
from isocenter.features.accounts.rows import found_account
from isocenter.features.accounts.secret_words import hash_of
from isocenter.kit.clock import Clock, now_us
from isocenter.kit.errors import InvalidInput
from isocenter.platform.db import Database, Work
from isocenter.platform.security import Subject

_RETURN_CHARACTERS_MAX = 2000
# One slash, then anything printable but a second slash or a backslash: browsers read "//" and "/\" as a host.
_RETURN = re.compile(r"/(?![/\\])[!-\[\]-~]*")


def checked_return_to(path: str) -> str:
    """Where on this server the browser goes in the end; empty: its start page. Raises InvalidInput."""
    if not path:
        return "/"
    if len(path) > _RETURN_CHARACTERS_MAX or not _RETURN.fullmatch(path):
        raise InvalidInput(
            "After the login nobody is sent to another server.",
            code="invalid-return-path",
            remedy="'return_to' is a path of this server such as /studies, with spaces percent-encoded.",
        )
    return path


class Beginning:
    """``key`` makes what only this server knows of a login under way.

    Raises NotFound for an unknown provider, RateLimited, Busy, ProviderUnreachable, ProviderBroken.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        providers: Providers,
        discovery: Discovery,
        *,
        attempts: Attempts,
        key: bytes,
        public_url: str,
    ) -> None:
        self._database = database
        self._clock = clock
        self._providers = providers
        self._discovery = discovery
        self._attempts = attempts
        self._key = key
        self._public_url = public_url

    async def log_in(self, provider_address: str, return_to: str, *, address: str) -> Begun:
        """Raises InvalidInput."""
        errand = Errand(checked_return_to(return_to))
        await self._attempts.begin(address)
        return await self._begun(await self._providers.at(provider_address), errand)

    async def accept(self, provider_address: str, token: str, return_to: str, *, address: str) -> Begun:
        """By the link of an invitation, which stays good until the login has succeeded. Raises Forbidden."""
        return_to = checked_return_to(return_to)
        await self._attempts.begin(address)
        provider = await self._providers.at(provider_address)
        link_hash = hash_of(token)
        account_id = await self._database.read(
            _invited, provider.organization_id, link_hash, now_us(self._clock)
        )
        return await self._begun(provider, Errand(return_to, account_id, link_hash=link_hash), again=True)

    async def link(self, subject: Subject, provider_address: str, return_to: str) -> Begun:
        """Raises NotFound for whoever is no person, Forbidden for operators and without a recent proof."""
        return_to, account_id = checked_return_to(return_to), account_id_of(subject)
        await self._attempts.begin(subject.address)
        provider = await self._providers.at(provider_address)
        if provider.organization_id != subject.organization_id:
            raise NoSuchProvider
        await self._database.read(_may_link, subject.organization_id, subject, now_us(self._clock))
        errand = Errand(return_to, account_id, session_id=int(subject.session_id or 0))
        return await self._begun(provider, errand, again=True)

    async def _begun(self, provider: Provider, errand: Errand, *, again: bool = False) -> Begun:
        """``again``: they show the provider anew who they are, since what they do here is for good."""
        metadata = await self._discovery.metadata(provider.issuer)
        words = new_words(self._key)
        await self._database.write(
            put_login,
            provider.organization_id,
            provider,
            words.state,
            words.browser_word,
            errand,
            at_us=now_us(self._clock),
        )
        asked = {
            "response_type": "code",
            "client_id": provider.client_id,
            "redirect_uri": provider.redirect_uri(self._public_url),
            "scope": provider.settings.scopes,
            "state": words.state,
            "nonce": words.nonce,
            "code_challenge": words.challenge,
            "code_challenge_method": "S256",
            **({"prompt": "login"} if again else {}),
        }
        there = metadata.authorization_endpoint
        return Begun(
            f"{there}{'&' if '?' in there else '?'}{urlencode(asked)}", words.cookie, words.browser_word
        )


def _may_link(organization_id: int, subject: Subject, at_us: int) -> Work[None]:
    account = yield from found_account(organization_id, account_id_of(subject))
    if account.operator:
        raise OperatorsStayOut
    yield from proven_recently(organization_id, subject, at_us)


def _invited(organization_id: int, link_hash: str, at_us: int) -> Work[int]:
    rows = yield account_queries.FIND_LINK(token_hash=link_hash, now_us=at_us)
    if (
        not rows
        or rows[0]["organization_id"] != organization_id
        or rows[0]["purpose"] != Purpose.INVITATION
        or rows[0]["account_id"] is None
    ):
        raise LinkUsedUp
    return int(rows[0]["account_id"])
