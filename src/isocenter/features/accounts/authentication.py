"""Whose credential is that? Asked at every request, so answered from memory for two seconds at a time.

``Bearer <access token>`` is a person's, ``Api-Key <key>`` a program's. What ends one (a key revoked, a role
changed, a login ended, by this process or another) counts within those two seconds.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from isocenter.features.accounts import queries_sessions
from isocenter.features.accounts.access_tokens import AccessTokens, Claims
from isocenter.features.accounts.api_keys import permissions_in
from isocenter.features.accounts.entries import AccountState, permissions_of
from isocenter.features.accounts.secret_words import hash_of
from isocenter.kit.clock import Clock, now_us
from isocenter.kit.errors import IsocenterError, Unauthenticated
from isocenter.platform.db import Database, Work
from isocenter.platform.security import Role, Subject, SubjectKind
from isocenter.platform.telemetry import get_logger

log = get_logger(__name__)

KEPT_S = 2.0
_KEPT_MAX = 10_000
_NOTE_AFTER_S = 5.0
_CREDENTIAL_CHARACTERS_MAX = 4096


class NotAuthenticated(Unauthenticated):
    """No credential that counts; it does not tell why."""

    default_code = "not-authenticated"

    def __init__(self) -> None:
        super().__init__(
            "This needs a valid credential.",
            remedy="Log in and send 'Authorization: Bearer …', or send 'Authorization: Api-Key …'.",
        )


@dataclass(frozen=True, slots=True)
class _Known:
    """``until_s`` on the monotonic clock; ``expires_at_us`` on the wall's, None: never."""

    subject: Subject
    until_s: float
    expires_at_us: int | None


class Authentication:
    """Implements the HTTP gate's ``Authenticator``. ``close`` writes when keys were used last."""

    def __init__(self, database: Database, clock: Clock, access_tokens: AccessTokens) -> None:
        self._database = database
        self._clock = clock
        self._access_tokens = access_tokens
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._used: dict[tuple[int, int], int] = {}
        self._noting: asyncio.Task[None] | None = None

    async def subject_of(self, authorization: str, address: str) -> Subject:
        """Raises Unauthenticated."""
        known = self._known.get((authorization, address))
        if known is None or known.until_s <= self._clock.monotonic_s():
            known = await self._looked_up(authorization, address)
        if known.expires_at_us is not None and known.expires_at_us <= now_us(self._clock):
            raise NotAuthenticated
        if known.subject.kind is SubjectKind.API_KEY:
            self._note_used(known.subject)
        return known.subject

    def expire(self) -> None:
        """Something has changed: look everybody up again."""
        self._known.clear()

    async def close(self) -> None:
        if self._noting is not None:
            self._noting.cancel()
            await asyncio.wait({self._noting})
        await self._write_used()

    async def _looked_up(self, authorization: str, address: str) -> _Known:
        until_s = self._clock.monotonic_s() + KEPT_S
        scheme, _, credential = authorization.partition(" ")
        credential = credential.strip()
        if not credential or len(credential) > _CREDENTIAL_CHARACTERS_MAX:
            raise NotAuthenticated
        match scheme.lower():
            case "bearer":
                known = await self._person(credential, address, until_s)
            case "api-key":
                known = await self._database.read_across(_key, hash_of(credential), address, until_s)
            case _:
                known = None
        if known is None:
            raise NotAuthenticated
        self._known[authorization, address] = known
        self._known.move_to_end((authorization, address))
        while len(self._known) > _KEPT_MAX:
            self._known.popitem(last=False)
        return known

    async def _person(self, token: str, address: str, until_s: float) -> _Known | None:
        claims = self._access_tokens.read(token)
        if claims is None:
            return None
        return await self._database.read(
            _session, claims.organization_id, claims, address, now_us(self._clock), until_s
        )

    def _note_used(self, subject: Subject) -> None:
        self._used[subject.organization_id, int(subject.id)] = now_us(self._clock)
        if self._noting is None or self._noting.done():
            self._noting = asyncio.create_task(self._note_later(), name="keys-used")

    async def _note_later(self) -> None:
        while self._used:
            await asyncio.sleep(_NOTE_AFTER_S)
            # Shielded: close() cancels the waiting, not a write under way.
            await asyncio.shield(asyncio.ensure_future(self._write_used()))

    async def _write_used(self) -> None:
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await self._database.write_across(_note_used, used)
        except IsocenterError as error:
            log.warning("When keys were used last cannot be written down now", reason=error.detail)


def _session(
    organization_id: int, claims: Claims, address: str, at_us: int, until_s: float
) -> Work[_Known | None]:
    rows = yield queries_sessions.FIND_SESSION(organization_id=organization_id, session_id=claims.session_id)
    if not rows:
        return None
    row = rows[0]
    counts = (
        row["account_id"] == claims.account_id
        and row["version"] == claims.version
        and row["state"] == AccountState.ACTIVE
        and row["revoked_at_us"] is None
        and row["expires_at_us"] > at_us
    )
    if not counts:
        return None
    subject = Subject(
        SubjectKind.USER,
        str(claims.account_id),
        organization_id,
        permissions_of(Role(row["role"]), operator=bool(row["operator"])),
        row["login"],
        address,
        str(claims.session_id),
    )
    return _Known(subject, until_s, claims.expires_s * 1_000_000)


def _key(secret_hash: str, address: str, until_s: float) -> Work[_Known | None]:
    rows = yield queries_sessions.FIND_KEY(secret_hash=secret_hash)
    if not rows or rows[0]["revoked_at_us"] is not None:
        return None
    row = rows[0]
    subject = Subject(
        SubjectKind.API_KEY,
        str(row["id"]),
        row["organization_id"],
        frozenset(permissions_in(row["permissions"])),
        row["name"],
        address,
    )
    return _Known(subject, until_s, row["expires_at_us"])


def _note_used(used: dict[tuple[int, int], int]) -> Work[None]:
    yield queries_sessions.NOTE_KEY_USED.many(
        [
            {"organization_id": organization_id, "key_id": key_id, "at_us": at_us}
            for (organization_id, key_id), at_us in sorted(used.items())
        ]
    )
