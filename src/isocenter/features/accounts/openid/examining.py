"""What is wrong with a provider, in plain words: everything that a login would trip over, in its order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from isocenter.features.accounts.openid.addresses import is_loopback
from isocenter.features.accounts.openid.discovery import Discovery, Metadata
from isocenter.features.accounts.openid.entries import Provider
from isocenter.features.accounts.openid.exchange import Client, ask_for_tokens
from isocenter.features.accounts.openid.fetching import Fetcher
from isocenter.features.accounts.openid.providers import Providers
from isocenter.features.accounts.secret_words import random_word
from isocenter.kit.errors import IsocenterError

_NO_CODE = "isocenter.asks.whether.it.is.known"  # no provider ever gave it out
_NOT_US = frozenset({"invalid_client", "unauthorized_client"})


@dataclass(frozen=True, slots=True)
class ProviderFinding:
    """``ok``: None where it cannot be told. ``says`` and ``remedy`` are sentences."""

    ok: bool | None
    says: str
    remedy: str = ""


class Examination:
    """Asks anew, whatever was kept of earlier answers."""

    def __init__(self, providers: Providers, discovery: Discovery, fetcher: Fetcher, public_url: str) -> None:
        self._providers = providers
        self._discovery = discovery
        self._fetcher = fetcher
        self._public_url = public_url

    async def of(self, provider: Provider) -> list[ProviderFinding]:
        """Never raises what a provider does; that is a finding."""
        found: list[ProviderFinding] = []
        try:
            async for finding in self._findings(provider):
                found.append(finding)  # noqa: PERF401 - those before an error count too
        except IsocenterError as error:
            found.append(ProviderFinding(False, error.detail, _remedy(error, provider)))
        return found

    async def _findings(self, provider: Provider) -> AsyncIterator[ProviderFinding]:
        yield self._address(provider)
        if not provider.enabled:
            yield ProviderFinding(None, "It is switched off: nobody logs in by it.")
        secret = self._providers.secret_of(provider)
        metadata = await self._discovery.metadata(provider.issuer, fresh=True)
        yield ProviderFinding(
            True, f"Its discovery document is in order; it signs with {_algorithms(metadata)}."
        )
        if metadata.s256 is False:
            yield ProviderFinding(
                None, "It does not say that it looks at PKCE with S256; we send it all the same."
            )
        keys = await self._discovery.keys(metadata, fresh=True)
        yield ProviderFinding(True, f"Of its keys {len(keys)} can be used.")
        yield await self._client(provider, metadata, secret)

    def _address(self, provider: Provider) -> ProviderFinding:
        uri = provider.redirect_uri(self._public_url)
        said = f"The redirect URI to register at the provider is {uri}"
        if urlsplit(uri).scheme != "https" and not is_loopback(uri):
            return ProviderFinding(
                False, f"{said} and that is not https.", "Serve HTTPS and set public_url: https://…"
            )
        if is_loopback(uri) and not is_loopback(provider.issuer):
            return ProviderFinding(
                None, f"{said} which works on this machine only.", "Set public_url to what browsers call us."
            )
        return ProviderFinding(True, said)

    async def _client(self, provider: Provider, metadata: Metadata, secret: str) -> ProviderFinding:
        """A code that nobody was given is refused as such, if client and secret are right."""
        client = Client(provider.client_id, secret, provider.redirect_uri(self._public_url))
        answer = await ask_for_tokens(
            self._fetcher, metadata, client, authorization_code=_NO_CODE, verifier=random_word()
        )
        error = answer.document("token answer").get("error")
        if error in _NOT_US or answer.status == 401:
            return ProviderFinding(
                False,
                "It does not accept the client id and the client secret.",
                "Compare both with the provider: isocenter idp change NAME --client-secret-stdin",
            )
        if error == "invalid_grant":
            return ProviderFinding(True, "It knows the client id and the client secret.")
        return ProviderFinding(None, "Whether it accepts the client id and secret shows at the first login.")


def _algorithms(metadata: Metadata) -> str:
    return ", ".join(metadata.algorithms)


def _remedy(error: IsocenterError, provider: Provider) -> str:
    if "idp test" in error.remedy:  # that is what is running
        return f"Is {provider.issuer} right, and can this machine reach it?"
    return error.remedy
