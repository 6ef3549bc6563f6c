"""Is it true what the browser brings from the provider? The provider itself is asked."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from isocenter.features.accounts.openid.discovery import Discovery, Metadata
from isocenter.features.accounts.openid.entries import Provider
from isocenter.features.accounts.openid.errors import AnswerRefused, LoginDeclined, ProviderUnreachable
from isocenter.features.accounts.openid.exchange import Client, exchanged, known_error, told_of_person
from isocenter.features.accounts.openid.fetching import Fetcher
from isocenter.features.accounts.openid.id_tokens import Expected, UnknownKey, verified_claims
from isocenter.features.accounts.openid.people import missing_claims
from isocenter.features.accounts.openid.providers import Providers
from isocenter.features.accounts.openid.transactions import LoginWords
from isocenter.features.accounts.secret_words import hash_of
from isocenter.kit.clock import Clock

_DEADLINE_S = 25.0


@dataclass(frozen=True, slots=True)
class Callback:
    """What the provider gave the browser to bring (Core §3.1.2.5, RFC 9207)."""

    state: str
    code: str = ""
    error: str = ""
    issuer: str = ""


class Proof:
    def __init__(
        self, providers: Providers, discovery: Discovery, fetcher: Fetcher, clock: Clock, *, public_url: str
    ) -> None:
        self._providers = providers
        self._discovery = discovery
        self._fetcher = fetcher
        self._clock = clock
        self._public_url = public_url

    async def claims(self, provider: Provider, words: LoginWords, callback: Callback) -> dict[str, Any]:
        """What the provider vouches for; ``sub`` is among them. Raises AnswerRefused, LoginDeclined,
        ProviderUnreachable, ProviderBroken, Busy."""
        try:
            async with asyncio.timeout(_DEADLINE_S):
                return await self._claims(provider, words, callback)
        except TimeoutError:
            raise ProviderUnreachable(f"it took more than {_DEADLINE_S:g} s in all") from None

    async def _claims(self, provider: Provider, words: LoginWords, callback: Callback) -> dict[str, Any]:
        if callback.issuer and callback.issuer != provider.issuer:  # RFC 9207 §2.4: before anything else
            raise AnswerRefused("the answer says that it is another provider's")
        if callback.error:
            raise LoginDeclined(known_error(callback.error))
        metadata = await self._discovery.metadata(provider.issuer)
        if metadata.names_itself and not callback.issuer:
            raise AnswerRefused("the answer does not say whose it is")
        if not callback.code:
            raise AnswerRefused("the answer holds no code")
        client = Client(
            provider.client_id, self._providers.secret_of(provider), provider.redirect_uri(self._public_url)
        )
        tokens = await exchanged(
            self._fetcher, metadata, client, authorization_code=callback.code, verifier=words.verifier
        )
        expected = Expected(
            provider.issuer,
            provider.client_id,
            metadata.algorithms,
            hash_of(words.nonce),
            tokens.access_token,
            self._clock.now().timestamp(),
        )
        claims = await self._verified(metadata, tokens.id_token, expected)
        if metadata.userinfo_endpoint and missing_claims(claims, provider.settings):
            more = await told_of_person(self._fetcher, metadata, tokens.access_token, claims["sub"])
            return more | claims  # what is signed counts
        return claims

    async def _verified(self, metadata: Metadata, id_token: str, expected: Expected) -> dict[str, Any]:
        keys = await self._discovery.keys(metadata)
        try:
            return verified_claims(id_token, keys, expected)
        except UnknownKey:  # exchanged since we fetched them, perhaps
            keys = await self._discovery.keys(metadata, fresh=True)
            return verified_claims(id_token, keys, expected)
