"""Logging in with a passkey alone: it says itself whose it is, and its device has verified the person.

An unknown passkey, a wrong signature, an old or used challenge, a count that went back, a closed account: one
answer, after the same work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isocenter.features.accounts.attempts import Attempts
from isocenter.features.accounts.ceremonies import Ceremonies, Unverified
from isocenter.features.accounts.challenges import ChallengePurpose, Challenges
from isocenter.features.accounts.entries import AccountState
from isocenter.features.accounts.joining import FIRST_ORGANIZATION
from isocenter.features.accounts.passkey_checks import KeptPasskey, PasskeyChecks
from isocenter.features.accounts.sessions import Sessions, Tokens
from isocenter.kit.errors import Unauthenticated
from isocenter.platform.security import Action, AuditEvent, EventOutcome, Recorder, SubjectKind

_NOBODY_YET = 0


class PasskeyRefused(Unauthenticated):
    default_code = "passkey-refused"

    def __init__(self) -> None:
        super().__init__(
            "This passkey does not count here, or the account is closed.",
            remedy="Try again, or log in with your password.",
        )


class PasskeyLogin:
    def __init__(
        self,
        ceremonies: Ceremonies,
        challenges: Challenges,
        checks: PasskeyChecks,
        attempts: Attempts,
        *,
        sessions: Sessions,
        recorder: Recorder,
    ) -> None:
        self._ceremonies = ceremonies
        self._challenges = challenges
        self._checks = checks
        self._attempts = attempts
        self._sessions = sessions
        self._recorder = recorder

    def options(self) -> dict[str, Any]:
        """What a page gives its browser; nothing is kept of it. Raises Unsupported."""
        challenge = self._challenges.make(ChallengePurpose.LOGIN, FIRST_ORGANIZATION, _NOBODY_YET)
        return self._ceremonies.request_options(challenge, verification=True)

    async def log_in(self, credential: Mapping[str, Any], *, address: str, user_agent: str = "") -> Tokens:
        """Raises Unauthenticated, Forbidden for a foreign page, RateLimited, Unsupported."""
        counted = await self._attempts.begin(address)
        found = await self._checks.find(credential)
        try:
            kept = await self._verified(found, credential)
        except Unverified as error:
            await self._tell(found, address, EventOutcome.DENIED, {"why": error.why})
            raise PasskeyRefused from error
        await self._attempts.forgive(counted)
        await self._tell(kept, address, EventOutcome.SUCCESS, {"passkey": kept.id})
        return await self._sessions.open(
            kept.organization_id,
            kept.account_id,
            kept.role,
            kept.version,
            address=address,
            user_agent=user_agent,
        )

    async def _verified(self, found: KeptPasskey | None, credential: Mapping[str, Any]) -> KeptPasskey:
        kept, assertion = await self._checks.verified(
            found,
            credential,
            ChallengePurpose.LOGIN,
            FIRST_ORGANIZATION,
            _NOBODY_YET,
            verification=True,
        )
        if kept.state is not AccountState.ACTIVE:
            raise Unverified(f"account {kept.state}")
        await self._checks.note_used(kept, assertion)
        return kept

    async def _tell(
        self,
        kept: KeptPasskey | None,
        address: str,
        outcome: EventOutcome,
        details: Mapping[str, str | int],
    ) -> None:
        """Whom nobody knows belongs to the first organisation's trail, the operator's."""
        account_id = str(kept.account_id) if kept else ""
        self._recorder.record(
            AuditEvent(
                kept.organization_id if kept else FIRST_ORGANIZATION,
                Action.LOGIN,
                outcome,
                SubjectKind.USER,
                account_id,
                kept.login if kept else "",
                address,
                "user",
                account_id,
                {"by": "passkey", **details},
            )
        )
        await self._recorder.settled()
