"""Is this passkey theirs, used now and for this? Common to logging in, the second factor and a proof."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from isocenter.features.accounts import queries_passkeys as queries
from isocenter.features.accounts.ceremonies import (
    Assertion,
    Ceremonies,
    Descriptor,
    Unverified,
    user_handle_in,
)
from isocenter.features.accounts.challenges import ChallengePurpose, Challenges
from isocenter.features.accounts.entries import AccountState
from isocenter.kit.clock import Clock, now_us
from isocenter.kit.errors import NotFound
from isocenter.platform.db import Database, Row, Work
from isocenter.platform.security import Role


class NoSuchPasskey(NotFound):
    default_code = "no-such-passkey"

    def __init__(self) -> None:
        super().__init__("There is no such passkey.", remedy="GET /api/v1/me/passkeys lists your own.")


@dataclass(frozen=True, slots=True)
class KeptPasskey:
    """A passkey and whose it is. ``public_key`` is COSE."""

    id: int
    organization_id: int
    account_id: int
    public_key: bytes
    user_handle: bytes
    sign_count: int
    backup_eligible: bool
    revoked: bool
    login: str
    role: Role
    state: AccountState
    version: int


class PasskeyChecks:
    def __init__(
        self, database: Database, clock: Clock, ceremonies: Ceremonies, challenges: Challenges
    ) -> None:
        self._database = database
        self._clock = clock
        self._ceremonies = ceremonies
        self._challenges = challenges

    async def options(
        self, purpose: ChallengePurpose, organization_id: int, account_id: int
    ) -> dict[str, Any]:
        """For a page that asks for one of the account's passkeys. Raises Unsupported, NotFound for none."""
        challenge = self._challenges.make(purpose, organization_id, account_id)
        allowed = await self._database.read(usable_passkeys, organization_id, account_id)
        if not allowed:
            raise NoSuchPasskey
        return self._ceremonies.request_options(challenge, allowed=allowed, verification=False)

    async def check(
        self,
        purpose: ChallengePurpose,
        organization_id: int,
        account_id: int,
        credential: Mapping[str, Any],
    ) -> None:
        """One of this account's, beside a password or a login.

        Raises Unverified, WrongOrigin, Unsupported.
        """
        kept = await self.find(credential)
        if kept is not None and (kept.organization_id, kept.account_id) != (organization_id, account_id):
            kept = None
        kept, assertion = await self.verified(
            kept, credential, purpose, organization_id, account_id, verification=False
        )
        await self.note_used(kept, assertion)

    async def find(self, credential: Mapping[str, Any]) -> KeptPasskey | None:
        return await self._database.read_across(_find, credential["id"])

    async def verified(
        self,
        kept: KeptPasskey | None,
        credential: Mapping[str, Any],
        purpose: ChallengePurpose,
        organization_id: int,
        account_id: int,
        *,
        verification: bool,
    ) -> tuple[KeptPasskey, Assertion]:
        """The same work whether there is such a passkey or not.

        Raises Unverified, WrongOrigin, Unsupported.
        """
        challenge = self._ceremonies.challenge_in(credential, creating=False)
        fresh = await self._challenges.use(challenge, purpose, organization_id, account_id)
        handle = user_handle_in(credential)
        try:
            assertion = self._ceremonies.used(
                credential, challenge, kept.public_key if kept else None, verification=verification
            )
        except Unverified:
            if kept is None:
                raise Unverified("no such passkey") from None
            raise
        if kept is None or kept.revoked:
            raise Unverified("revoked" if kept else "no such passkey")
        if not fresh:
            raise Unverified("challenge of another kind, too old or used")
        if handle is None and not account_id:
            raise Unverified("no user handle")
        if handle is not None and not hmac.compare_digest(handle, kept.user_handle):
            raise Unverified("user handle of another account")
        if assertion.backup_eligible != kept.backup_eligible:
            raise Unverified("backup eligibility has changed")
        return kept, assertion

    async def note_used(self, kept: KeptPasskey, assertion: Assertion) -> None:
        """Raises Unverified where its count does not go on: a copy of it may be in other hands."""
        noted = await self._database.write(
            _note_used, kept.organization_id, kept.id, assertion, now_us(self._clock)
        )
        if not noted:
            raise Unverified(
                f"sign count went from {kept.sign_count} to {assertion.sign_count}: there may be a copy"
            )


def usable_passkeys(organization_id: int, account_id: int) -> Work[list[Descriptor]]:
    rows = yield queries.LIST_PASSKEYS(organization_id=organization_id, account_id=account_id)
    return [
        Descriptor(row["credential_id"], tuple(orjson.loads(row["transports"])))
        for row in rows
        if row["revoked_at_us"] is None
    ]


def _find(credential_id: str) -> Work[KeptPasskey | None]:
    rows = yield queries.FIND_PASSKEY(credential_id=credential_id)
    return _kept(rows[0]) if rows else None


def _kept(row: Row) -> KeptPasskey:
    return KeptPasskey(
        row["id"],
        row["organization_id"],
        row["account_id"],
        base64.b64decode(row["public_key"]),
        base64.b64decode(row["user_handle"]),
        row["sign_count"],
        bool(row["backup_eligible"]),
        row["revoked_at_us"] is not None,
        row["login"],
        Role(row["role"]),
        AccountState(row["state"]),
        row["version"],
    )


def _note_used(organization_id: int, passkey_id: int, assertion: Assertion, at_us: int) -> Work[bool]:
    rows = yield queries.NOTE_PASSKEY_USED(
        organization_id=organization_id,
        passkey_id=passkey_id,
        sign_count=assertion.sign_count,
        backed_up=int(assertion.backed_up),
        now_us=at_us,
    )
    return bool(rows)
