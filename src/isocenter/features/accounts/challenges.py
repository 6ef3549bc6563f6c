"""Challenges of passkeys: signed, so that asking for one writes nothing; each counts once, in all processes.

A challenge carries its end and a signature over that, its purpose and its account. Showing one uses it up:
its hash is kept until it would have ended anyway.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from enum import StrEnum

from isocenter.features.accounts import queries_passkeys as queries
from isocenter.features.accounts.ceremonies import CHALLENGE_VALID_S
from isocenter.kit.clock import Clock, now_us
from isocenter.platform.db import Database, Work

_NONCE_BYTES = 16
_END_BYTES = 8
_SIGNATURE_BYTES = 32
_LEEWAY_US = 60_000_000  # clocks of several servers differ: one must not forget what another still takes


class ChallengePurpose(StrEnum):
    REGISTRATION = "registration"
    LOGIN = "login"
    SECOND_FACTOR = "second-factor"
    PROOF = "proof"


class Challenges:
    """``key``: 32 bytes that challenges are signed with, the same in all processes."""

    def __init__(self, database: Database, clock: Clock, key: bytes) -> None:
        self._database = database
        self._clock = clock
        self._key = key

    def make(self, purpose: ChallengePurpose, organization_id: int, account_id: int) -> bytes:
        """``account_id`` 0: it is not known yet who will answer."""
        ends_us = now_us(self._clock) + CHALLENGE_VALID_S * 1_000_000
        head = secrets.token_bytes(_NONCE_BYTES) + ends_us.to_bytes(_END_BYTES, "big")
        return head + self._signature(head, purpose, organization_id, account_id)

    async def use(
        self, challenge: bytes, purpose: ChallengePurpose, organization_id: int, account_id: int
    ) -> bool:
        """Whether it was made for this purpose and account, is not too old, and is shown the first time."""
        head, signature = challenge[:-_SIGNATURE_BYTES], challenge[-_SIGNATURE_BYTES:]
        ends_us = int.from_bytes(head[_NONCE_BYTES:], "big")
        if len(head) != _NONCE_BYTES + _END_BYTES or ends_us <= now_us(self._clock):
            return False
        if not hmac.compare_digest(signature, self._signature(head, purpose, organization_id, account_id)):
            return False
        shown = hashlib.sha256(challenge).hexdigest()
        return await self._database.write(_use, organization_id, shown, ends_us, now_us(self._clock))

    def _signature(
        self, head: bytes, purpose: ChallengePurpose, organization_id: int, account_id: int
    ) -> bytes:
        meant = f"{purpose} {organization_id} {account_id} ".encode()
        return hmac.digest(self._key, meant + head, hashlib.sha256)


def _use(organization_id: int, challenge_hash: str, ends_us: int, at_us: int) -> Work[bool]:
    yield queries.FORGET_ENDED_CHALLENGES(organization_id=organization_id, before_us=at_us - _LEEWAY_US)
    rows = yield queries.USE_CHALLENGE(
        organization_id=organization_id, challenge_hash=challenge_hash, expires_at_us=ends_us
    )
    return bool(rows)
