"""Our own second factor after a login at a provider, where the provider's settings ask for it.

What stands in between is a login of its own: a word in the browser's cookie, ten minutes, used once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isocenter.features.accounts.attempts import Attempts
from isocenter.features.accounts.ceremonies import Unverified
from isocenter.features.accounts.challenges import ChallengePurpose
from isocenter.features.accounts.entries import Account, AccountState
from isocenter.features.accounts.factors import factors_of
from isocenter.features.accounts.login import CodeRefused
from isocenter.features.accounts.openid.admission import Admitted
from isocenter.features.accounts.openid.entries import Finished, Provider
from isocenter.features.accounts.openid.errors import PersonRefused
from isocenter.features.accounts.openid.transactions import (
    AT_CODE,
    Errand,
    account_at_code,
    put_login,
    use_login,
)
from isocenter.features.accounts.passkey_checks import PasskeyChecks
from isocenter.features.accounts.queries import FIND_ACCOUNT
from isocenter.features.accounts.rows import NoSuchAccount, account_of
from isocenter.features.accounts.second_factor import SecondFactor
from isocenter.features.accounts.secret_words import random_word
from isocenter.kit.clock import Clock, now_us
from isocenter.platform.db import Database, Work


class SecondFactorRefused(CodeRefused):
    """``why`` is for the audit trail."""

    def __init__(self, why: str) -> None:
        super().__init__()
        self.why = why


class SecondStep:
    """``attempts`` are those of logins by password: a code is guessed in neither."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        attempts: Attempts,
        *,
        second_factor: SecondFactor,
        checks: PasskeyChecks,
    ) -> None:
        self._database = database
        self._clock = clock
        self._attempts = attempts
        self._second_factor = second_factor
        self._checks = checks

    async def ask(self, provider: Provider, account: Account, errand: Errand) -> Finished:
        """Raises Busy."""
        organization_id, word = account.organization_id, random_word()
        await self._database.write(
            put_login,
            organization_id,
            provider,
            word,
            word,
            Errand(errand.return_to, account.id),
            at_us=now_us(self._clock),
            step=AT_CODE,
        )
        factors = await self._database.read(factors_of, organization_id, account.id)
        return Finished(account, errand.return_to, code_word=word, accepts=tuple(factors.names))

    async def waiting(self, provider: Provider, word: str) -> Admitted:
        """Who has still to show it. Raises LoginExpired."""
        return await self._database.read(
            _waiting, provider.organization_id, provider, word, now_us(self._clock)
        )

    async def passkey_options(self, account: Account) -> dict[str, Any]:
        """Raises NotFound for an account without passkeys, Unsupported."""
        return await self._checks.options(ChallengePurpose.SECOND_FACTOR, account.organization_id, account.id)

    async def show(
        self,
        provider: Provider,
        word: str,
        account: Account,
        *,
        code: str,
        passkey: Mapping[str, Any] | None,
        address: str,
    ) -> Errand:
        """Raises Unauthenticated, Forbidden for a passkey of a foreign page, RateLimited."""
        counted = await self._attempts.begin(address, account.login)
        if account.state is not AccountState.ACTIVE or account.operator:
            raise PersonRefused(f"the account is {account.state}")
        if why := await self._refusal(account, code, passkey):
            raise SecondFactorRefused(why)
        errand = await self._database.write(
            use_login,
            provider.organization_id,
            provider,
            word,
            word,
            at_us=now_us(self._clock),
            step=AT_CODE,
        )
        await self._attempts.forgive(counted)
        return errand

    async def _refusal(self, account: Account, code: str, passkey: Mapping[str, Any] | None) -> str:
        """Why it does not count; empty when it does."""
        organization_id = account.organization_id
        if passkey is None:
            fits = await self._second_factor.fits(organization_id, account.id, code)
            return "" if fits else "second factor"
        try:
            await self._checks.check(ChallengePurpose.SECOND_FACTOR, organization_id, account.id, passkey)
        except Unverified as error:
            return f"second factor: {error.why}"
        return ""


def _waiting(organization_id: int, provider: Provider, word: str, at_us: int) -> Work[Admitted]:
    account_id = yield from account_at_code(organization_id, provider, word, at_us=at_us)
    rows = yield FIND_ACCOUNT(organization_id=organization_id, account_id=account_id)
    if not rows:
        raise NoSuchAccount
    return Admitted(account_of(rows[0]), rows[0]["version"], "")
