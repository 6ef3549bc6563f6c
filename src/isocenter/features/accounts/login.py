"""Logging in with login and password, and a code or a passkey where a second factor is on.

A wrong password, an unknown login, a locked and a disabled account have one answer, after the same work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isocenter.features.accounts import queries
from isocenter.features.accounts.attempts import Attempts, Counted
from isocenter.features.accounts.ceremonies import Unverified
from isocenter.features.accounts.challenges import ChallengePurpose
from isocenter.features.accounts.entries import Account, AccountState, permissions_of
from isocenter.features.accounts.factors import factors_of
from isocenter.features.accounts.joining import FIRST_ORGANIZATION
from isocenter.features.accounts.passkey_checks import PasskeyChecks
from isocenter.features.accounts.passwords import PasswordHashes
from isocenter.features.accounts.rows import account_of
from isocenter.features.accounts.second_factor import SecondFactor
from isocenter.features.accounts.sessions import Sessions, Tokens
from isocenter.features.accounts.words import folded_login
from isocenter.kit.errors import Unauthenticated
from isocenter.platform.db import Database, Work
from isocenter.platform.security import Action, AuditEvent, EventOutcome, Recorder, Subject, SubjectKind

_NAME_CHARACTERS_MAX = 254


class LoginRefused(Unauthenticated):
    default_code = "login-refused"

    def __init__(self) -> None:
        super().__init__(
            "Login and password do not fit, or the account is closed.",
            remedy="Try again; an administrator can give you a new password.",
        )


class CodeNeeded(Unauthenticated):
    """``accepts`` names what will do."""

    default_code = "second-factor-needed"

    def __init__(self, accepts: Sequence[str]) -> None:
        super().__init__(
            "The second factor is needed.",
            remedy="Send a code or a recovery code as 'totp', or a passkey as 'passkey'.",
        )
        self.accepts = tuple(accepts)


class CodeRefused(Unauthenticated):
    default_code = "second-factor-refused"

    def __init__(self) -> None:
        super().__init__(
            "This code or passkey does not count, or no longer.",
            remedy="Wait for the next code (the phone's clock has to be right within 30 s), or try again.",
        )


@dataclass(frozen=True, slots=True)
class _Credentials:
    account: Account
    password_hash: str
    version: int


class Login:
    def __init__(
        self,
        database: Database,
        hashes: PasswordHashes,
        attempts: Attempts,
        *,
        second_factor: SecondFactor,
        passkeys: PasskeyChecks,
        sessions: Sessions,
        recorder: Recorder,
    ) -> None:
        self._database = database
        self._hashes = hashes
        self._attempts = attempts
        self._second_factor = second_factor
        self._passkeys = passkeys
        self._sessions = sessions
        self._recorder = recorder

    async def log_in(
        self,
        login: str,
        password: str,
        *,
        code: str = "",
        passkey: Mapping[str, Any] | None = None,
        address: str,
        user_agent: str = "",
    ) -> Tokens:
        """``code`` or ``passkey`` where a second factor is on.

        Raises Unauthenticated, Forbidden for a passkey of a foreign page, RateLimited, Busy.
        """
        found = await self._known(login, password, code=code, passkey=passkey, address=address)
        account = found.account
        return await self._sessions.open(
            account.organization_id,
            account.id,
            account.role,
            found.version,
            address=address,
            user_agent=user_agent,
        )

    async def passkey_options(self, login: str, password: str, *, address: str) -> dict[str, Any]:
        """What a page gives its browser to answer with a passkey after the password.

        Raises Unauthenticated, NotFound for an account without passkeys, RateLimited, Busy, Unsupported.
        """
        found, counted = await self._with_password(login, password, address)
        await self._attempts.forgive(counted)
        account = found.account
        return await self._passkeys.options(
            ChallengePurpose.SECOND_FACTOR, account.organization_id, account.id
        )

    async def identify(self, login: str, password: str, *, address: str) -> Subject:
        """Whose login and password these are, for a protocol that keeps no login and knows no second factor.

        Raises Unauthenticated (also where the account has a second factor), RateLimited, Busy.
        """
        account = (await self._known(login, password, address=address)).account
        return Subject(
            SubjectKind.USER,
            str(account.id),
            account.organization_id,
            permissions_of(account.role, operator=account.operator),
            account.login,
            address,
        )

    async def _known(
        self,
        login: str,
        password: str,
        *,
        code: str = "",
        passkey: Mapping[str, Any] | None = None,
        address: str,
    ) -> _Credentials:
        found, counted = await self._with_password(login, password, address)
        account = found.account
        told = {}
        if account.second_factor:
            if not code and not passkey:
                await self._attempts.forgive(counted)
                factors = await self._database.read(factors_of, account.organization_id, account.id)
                raise CodeNeeded(factors.names)
            if why := await self._refusal(account, code, passkey):
                await self._refused(found, login, address, why)
                raise CodeRefused
            told = {"second_factor": "passkey" if passkey else "code"}
        await self._attempts.forgive(counted)
        self._recorder.record(_event(found, account.login, address, EventOutcome.SUCCESS, told))
        await self._recorder.settled()
        return found

    async def _with_password(self, login: str, password: str, address: str) -> tuple[_Credentials, Counted]:
        """Whose login and password these are, and what the attempt was counted under."""
        folded = folded_login(login)
        counted = await self._attempts.begin(address, folded or login)
        found = await self._database.read_across(_find, folded)
        fits = await self._hashes.fits(password, found.password_hash if found else "")
        if found is None or not fits or found.account.state is not AccountState.ACTIVE:
            await self._refused(found, login, address, "login, password or state")
            raise LoginRefused
        return found, counted

    async def _refusal(self, account: Account, code: str, passkey: Mapping[str, Any] | None) -> str:
        """Why the second factor does not count; empty when it does."""
        organization_id, account_id = account.organization_id, account.id
        if passkey is None:
            fits = await self._second_factor.fits(organization_id, account_id, code)
            return "" if fits else "second factor"
        try:
            await self._passkeys.check(ChallengePurpose.SECOND_FACTOR, organization_id, account_id, passkey)
        except Unverified as error:
            return f"second factor: {error.why}"
        return ""

    async def _refused(self, found: _Credentials | None, login: str, address: str, why: str) -> None:
        name = login[:_NAME_CHARACTERS_MAX]
        self._recorder.record(_event(found, name, address, EventOutcome.DENIED, {"why": why}))
        await self._recorder.settled()


def _find(login: str) -> Work[_Credentials | None]:
    rows = yield queries.FIND_ACCOUNT_BY_LOGIN(login=login)
    if not rows:
        return None
    return _Credentials(account_of(rows[0]), rows[0]["password_hash"], rows[0]["version"])


def _event(
    found: _Credentials | None, name: str, address: str, outcome: EventOutcome, details: dict[str, str]
) -> AuditEvent:
    """Whom nobody knows belongs to no organisation: that goes to the trail of the first, the operator's."""
    return AuditEvent(
        found.account.organization_id if found else FIRST_ORGANIZATION,
        Action.LOGIN,
        outcome,
        SubjectKind.USER,
        str(found.account.id) if found else "",
        name,
        address,
        "user",
        str(found.account.id) if found else "",
        details,
    )
