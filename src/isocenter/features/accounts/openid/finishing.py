"""The browser is back from the provider: is it true what it brings, who is that, and are they let in?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from isocenter.features.accounts.attempts import Attempts
from isocenter.features.accounts.entries import Account
from isocenter.features.accounts.joining import account_id_of
from isocenter.features.accounts.openid import queries, queries_providers
from isocenter.features.accounts.openid.admission import Admitted, accept_invitation, admit, link
from isocenter.features.accounts.openid.discovery import Discovery
from isocenter.features.accounts.openid.entries import Finished, Provider
from isocenter.features.accounts.openid.errors import PersonRefused
from isocenter.features.accounts.openid.people import Person, person_of, refusal_of
from isocenter.features.accounts.openid.providers import Providers
from isocenter.features.accounts.openid.proving import Callback, Proof
from isocenter.features.accounts.openid.second_step import SecondStep
from isocenter.features.accounts.openid.transactions import Errand, LoginWords, use_login, words_of
from isocenter.features.accounts.sessions import ByProvider, Sessions
from isocenter.kit.clock import Clock, now_us
from isocenter.kit.errors import IsocenterError, Unauthenticated
from isocenter.platform.db import Database, Work
from isocenter.platform.security import Action, AuditEvent, EventOutcome, Recorder, Subject, SubjectKind

_HOUR_US = 3_600_000_000


class Finishing:
    """``on_change`` is called when what somebody may do has changed. The trail is told of every attempt."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        recorder: Recorder,
        providers: Providers,
        discovery: Discovery,
        *,
        proof: Proof,
        sessions: Sessions,
        second_step: SecondStep,
        attempts: Attempts,
        key: bytes,
        on_change: Callable[[], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._recorder = recorder
        self._providers = providers
        self._discovery = discovery
        self._proof = proof
        self._sessions = sessions
        self._second_step = second_step
        self._attempts = attempts
        self._key = key
        self._on_change = on_change

    async def finish(
        self, provider_address: str, callback: Callback, browser_word: str, *, address: str, user_agent: str
    ) -> Finished:
        """Raises Unauthenticated (most of what can go wrong), NotFound, RateLimited, Busy, Conflict,
        Forbidden, ProviderUnreachable, ProviderBroken."""
        provider = await self._providers.at(provider_address)
        counted = await self._attempts.begin(address)
        told: dict[str, str] = {"provider": provider.name}
        try:
            errand = await self._database.write(
                use_login,
                provider.organization_id,
                provider,
                callback.state,
                browser_word,
                at_us=now_us(self._clock),
            )
            words = words_of(self._key, callback.state, browser_word)
            person = await self._person(provider, words, callback, told)
            if errand.session_id:
                finished = await self._linked(provider, person, errand, address)
            else:
                finished = await self._let_in(provider, person, errand, address, user_agent)
        except IsocenterError as error:
            await self._refused(provider, error, told, address)
            raise
        await self._attempts.forgive(counted)
        return finished

    async def finish_with_second_factor(
        self,
        provider_address: str,
        word: str,
        *,
        code: str,
        passkey: Mapping[str, Any] | None,
        address: str,
        user_agent: str,
    ) -> Finished:
        """With ours, where the provider's settings ask for it. Raises Unauthenticated, NotFound, RateLimited;
        Forbidden for a passkey of a foreign page."""
        provider = await self._providers.at(provider_address)
        admitted = await self._second_step.waiting(provider, word)
        account, told = admitted.account, {"provider": provider.name}
        try:
            errand = await self._second_step.show(
                provider, word, account, code=code, passkey=passkey, address=address
            )
        except Unauthenticated as error:
            await self._refused(provider, error, told, address, account)
            raise
        return await self._opened(provider, admitted, errand, address, user_agent)

    async def passkey_options(self, provider_address: str, word: str) -> dict[str, Any]:
        """What a page gives its browser to answer with a passkey. Raises Unauthenticated, NotFound for an
        account without passkeys, Unsupported."""
        admitted = await self._second_step.waiting(await self._providers.at(provider_address), word)
        return await self._second_step.passkey_options(admitted.account)

    async def log_out(self, subject: Subject) -> str:
        """End the login; where the browser goes to end the provider's too (OpenID Connect RP-Initiated
        Logout 1.0 §2), empty where that is unknown. Raises NotFound for whoever is no person."""
        account_id_of(subject)
        session_id = int(subject.session_id or 0)
        name = await self._database.read(_provider_of_session, subject.organization_id, session_id)
        await self._sessions.end(subject, session_id)
        if not name:
            return ""
        try:
            provider = await self._providers.get(subject, name)
            there = (await self._discovery.metadata(provider.issuer)).end_session_endpoint
        except IsocenterError:
            return ""  # the login here has ended, and that is what was promised
        if not there:
            return ""
        return f"{there}{'&' if '?' in there else '?'}{urlencode({'client_id': provider.client_id})}"

    async def _person(
        self, provider: Provider, words: LoginWords, callback: Callback, told: dict[str, str]
    ) -> Person:
        claims = await self._proof.claims(provider, words, callback)
        told["subject"] = claims["sub"]
        if why := refusal_of(claims, provider.settings):
            raise PersonRefused(why)
        return person_of(provider.issuer, claims, provider.settings)

    async def _let_in(
        self, provider: Provider, person: Person, errand: Errand, address: str, user_agent: str
    ) -> Finished:
        organization_id, at_us = provider.organization_id, now_us(self._clock)
        if errand.link_hash:
            admitted = await self._database.write(
                accept_invitation, organization_id, person, errand, at_us=at_us
            )
        else:
            create = provider.settings.people == "create"
            admitted = await self._database.write(admit, organization_id, person, create=create, at_us=at_us)
        account = admitted.account
        if admitted.what:
            self._on_change()
            self._tell(provider, Action.PERMISSION_CHANGE, account, address, {"what": admitted.what})
        if provider.settings.second_factor == "ours-too" and account.second_factor:
            await self._recorder.settled()
            return await self._second_step.ask(provider, account, errand)
        return await self._opened(provider, admitted, errand, address, user_agent)

    async def _opened(
        self, provider: Provider, admitted: Admitted, errand: Errand, address: str, user_agent: str
    ) -> Finished:
        account = admitted.account
        self._tell(provider, Action.LOGIN, account, address, {})
        await self._recorder.settled()
        tokens = await self._sessions.open(
            account.organization_id,
            account.id,
            account.role,
            admitted.version,
            address=address,
            user_agent=user_agent,
            by_provider=ByProvider(
                provider.id, now_us(self._clock) + provider.settings.session_hours * _HOUR_US
            ),
        )
        return Finished(account, errand.return_to, tokens)

    async def _linked(self, provider: Provider, person: Person, errand: Errand, address: str) -> Finished:
        account = await self._database.write(
            link, provider.organization_id, person, errand, at_us=now_us(self._clock)
        )
        self._tell(provider, Action.CHANGE, account, address, {"what": "identity linked"})
        await self._recorder.settled()
        return Finished(account, errand.return_to)

    def _tell(
        self, provider: Provider, action: Action, account: Account, address: str, details: dict[str, str]
    ) -> None:
        event = _event(
            provider,
            action,
            EventOutcome.SUCCESS,
            address,
            details={"provider": provider.name, **details},
            account=account,
        )
        self._recorder.record(event)

    async def _refused(
        self,
        provider: Provider,
        error: IsocenterError,
        told: dict[str, str],
        address: str,
        account: Account | None = None,
    ) -> None:
        denied = isinstance(error, Unauthenticated)
        outcome = EventOutcome.DENIED if denied else EventOutcome.FAILED
        why = getattr(error, "why", error.code)
        self._recorder.record(
            _event(provider, Action.LOGIN, outcome, address, details={**told, "why": why}, account=account)
        )
        await self._recorder.settled()


def _event(
    provider: Provider,
    action: Action,
    outcome: EventOutcome,
    address: str,
    *,
    details: dict[str, str],
    account: Account | None,
) -> AuditEvent:
    account_id, login = (str(account.id), account.login) if account else ("", "")
    return AuditEvent(
        provider.organization_id,
        action,
        outcome,
        SubjectKind.USER,
        account_id,
        login,
        address,
        "user",
        account_id,
        details,
    )


def _provider_of_session(organization_id: int, session_id: int) -> Work[str]:
    rows = yield queries.FIND_PROVIDER_OF_SESSION(organization_id=organization_id, session_id=session_id)
    if not rows:
        return ""
    found = yield queries_providers.FIND_PROVIDER_BY_ID(
        organization_id=organization_id, provider_id=rows[0]["provider_id"]
    )
    return str(found[0]["name"]) if found else ""
