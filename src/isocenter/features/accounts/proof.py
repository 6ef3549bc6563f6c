"""Showing again that it is you: what changes how somebody gets in asks for it, unless it was shown just now.

Logging in shows it for a while. So whoever finds a browser open, or an access token, cannot make themselves a
way in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from isocenter.features.accounts import queries_sessions as queries
from isocenter.features.accounts.attempts import Attempts
from isocenter.features.accounts.ceremonies import Unverified
from isocenter.features.accounts.challenges import ChallengePurpose
from isocenter.features.accounts.factors import Factors, factors_of
from isocenter.features.accounts.joining import account_id_of, kept_hash
from isocenter.features.accounts.passkey_checks import PasskeyChecks
from isocenter.features.accounts.passwords import PasswordHashes
from isocenter.kit.clock import Clock, now_us
from isocenter.kit.errors import Forbidden, InvalidInput
from isocenter.platform.db import Database, Work
from isocenter.platform.security import Action, EventOutcome, Recorder, Subject, event_of

if TYPE_CHECKING:
    from isocenter.features.accounts.second_factor import SecondFactor

RECENT_S = 600


class ProofNeeded(Forbidden):
    """``accepts`` names what will do."""

    default_code = "proof-needed"

    def __init__(self, accepts: Sequence[str]) -> None:
        super().__init__(
            "This changes how you get in, and it is a while since you showed that it is you.",
            remedy="Send what 'accepts' names to POST /api/v1/auth/proof, then repeat this.",
        )
        self.accepts = tuple(accepts)


class ProofRefused(InvalidInput):
    default_code = "proof-refused"

    def __init__(self) -> None:
        super().__init__(
            "This does not show that it is you.",
            remedy="Try again; a used code and a used passkey answer don't count.",
        )


class Proofs:
    def __init__(
        self,
        database: Database,
        clock: Clock,
        hashes: PasswordHashes,
        attempts: Attempts,
        *,
        second_factor: SecondFactor,
        checks: PasskeyChecks,
        recorder: Recorder,
    ) -> None:
        self._database = database
        self._clock = clock
        self._hashes = hashes
        self._attempts = attempts
        self._second_factor = second_factor
        self._checks = checks
        self._recorder = recorder

    async def passkey_options(self, subject: Subject) -> dict[str, Any]:
        """Raises NotFound where the person has no passkey, Unsupported."""
        return await self._checks.options(
            ChallengePurpose.PROOF, subject.organization_id, account_id_of(subject)
        )

    async def give(
        self,
        subject: Subject,
        *,
        password: str = "",
        code: str = "",
        passkey: Mapping[str, Any] | None = None,
    ) -> None:
        """Counts ten minutes, for this login. Where a second factor is on, the password alone does not do.

        Raises NotFound, Forbidden, InvalidInput, RateLimited, Busy.
        """
        account_id, organization_id = account_id_of(subject), subject.organization_id
        factors = await self._database.read(factors_of, organization_id, account_id)
        accepts = _accepted(factors)
        if not ((code or passkey) if factors.any else password):
            raise ProofNeeded(accepts)
        counted = await self._attempts.begin(subject.address, subject.name)
        if not factors.any:
            _, kept = await self._database.read(kept_hash, organization_id, account_id)
            shown, why = await self._hashes.fits(password, kept), "password"
        elif passkey:
            shown, why = await self._passkey_fits(organization_id, account_id, passkey)
        else:
            shown, why = await self._second_factor.fits(organization_id, account_id, code), "code"
        if not shown:
            await self._tell(subject, EventOutcome.DENIED, why)
            raise ProofRefused
        await self._database.write(_note, organization_id, subject, now_us(self._clock))
        await self._attempts.forgive(counted)
        await self._tell(subject, EventOutcome.SUCCESS, why)

    async def _passkey_fits(
        self, organization_id: int, account_id: int, passkey: Mapping[str, Any]
    ) -> tuple[bool, str]:
        try:
            await self._checks.check(ChallengePurpose.PROOF, organization_id, account_id, passkey)
        except Unverified as error:
            return False, f"passkey: {error.why}"
        return True, "passkey"

    async def _tell(self, subject: Subject, outcome: EventOutcome, by: str) -> None:
        self._recorder.record(
            event_of(
                subject,
                Action.LOGIN,
                outcome=outcome,
                resource_kind="user",
                resource_id=subject.id,
                details={"what": "showed again who they are", "by": by},
            )
        )
        await self._recorder.settled()


def proven_recently(organization_id: int, subject: Subject, at_us: int) -> Work[None]:
    """Raises ProofNeeded."""
    account_id = account_id_of(subject)
    rows = yield queries.FIND_PROOF(
        organization_id=organization_id, account_id=account_id, session_id=int(subject.session_id or 0)
    )
    proven_at_us = rows[0]["proven_at_us"] if rows else None
    if proven_at_us is None or at_us - proven_at_us >= RECENT_S * 1_000_000:
        factors = yield from factors_of(organization_id, account_id)
        raise ProofNeeded(_accepted(factors))


def _accepted(factors: Factors) -> list[str]:
    return factors.names or ["password"]


def _note(organization_id: int, subject: Subject, at_us: int) -> Work[None]:
    yield queries.NOTE_PROOF(
        organization_id=organization_id,
        account_id=account_id_of(subject),
        session_id=int(subject.session_id or 0),
        now_us=at_us,
    )
