"""Logging in with login and password, and a code where a second factor is on.

A wrong password, an unknown login, a locked and a disabled account have one answer, after the same work.
"""

from __future__ import annotations

from dataclasses import dataclass

from isocenter.features.accounts import queries
from isocenter.features.accounts.attempts import Attempts
from isocenter.features.accounts.entries import Account, AccountState, permissions_of
from isocenter.features.accounts.joining import FIRST_ORGANIZATION
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
    default_code = "second-factor-needed"

    def __init__(self) -> None:
        super().__init__(
            "A code of the second factor is needed.", remedy="Send it as 'totp'; a recovery code will do too."
        )


class CodeRefused(Unauthenticated):
    default_code = "second-factor-refused"

    def __init__(self) -> None:
        super().__init__(
            "This code does not count, or no longer.",
            remedy="Wait for the next one; the phone's clock has to be right within 30 s.",
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
        sessions: Sessions,
        recorder: Recorder,
    ) -> None:
        self._database = database
        self._hashes = hashes
        self._attempts = attempts
        self._second_factor = second_factor
        self._sessions = sessions
        self._recorder = recorder

    async def log_in(
        self, login: str, password: str, *, code: str = "", address: str, user_agent: str = ""
    ) -> Tokens:
        """Raises Unauthenticated, RateLimited, Busy."""
        found = await self._known(login, password, code=code, address=address)
        account = found.account
        return await self._sessions.open(
            account.organization_id,
            account.id,
            account.role,
            found.version,
            address=address,
            user_agent=user_agent,
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

    async def _known(self, login: str, password: str, *, code: str = "", address: str) -> _Credentials:
        folded = folded_login(login)
        counted = self._attempts.begin(address, folded or login)
        found = await self._database.read_across(_find, folded)
        fits = await self._hashes.fits(password, found.password_hash if found else "")
        if found is None or not fits or found.account.state is not AccountState.ACTIVE:
            await self._refused(found, login, address, "login, password or state")
            raise LoginRefused
        account = found.account
        if account.second_factor:
            if not code:
                self._attempts.forgive(counted)
                raise CodeNeeded
            if not await self._second_factor.fits(account.organization_id, account.id, code):
                await self._refused(found, login, address, "second factor")
                raise CodeRefused
        self._attempts.forgive(counted)
        self._recorder.record(_event(found, account.login, address, EventOutcome.SUCCESS, {}))
        await self._recorder.settled()
        return found

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
