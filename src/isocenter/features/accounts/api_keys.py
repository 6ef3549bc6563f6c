"""Keys of programs: shown once, kept as a hash, with a subset of the permissions of whoever makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

import orjson

from isocenter.features.accounts import queries_sessions
from isocenter.features.accounts.entries import ApiKey
from isocenter.features.accounts.identifiers import new_id
from isocenter.features.accounts.secret_words import hash_of, random_word
from isocenter.features.accounts.words import checked_name
from isocenter.kit.clock import Clock, microseconds, now_us
from isocenter.kit.errors import Forbidden, InvalidInput, NotFound
from isocenter.platform.db import Database, Row, Work
from isocenter.platform.security import Action, Permission, Recorder, Subject, event_of

PREFIX = "iso_"
_SHOWN_CHARACTERS = len(PREFIX) + 6


@dataclass(frozen=True, slots=True)
class MadeKey:
    """``secret`` is shown now and never again."""

    key: ApiKey
    secret: str


class ApiKeys:
    """Each method works in the subject's organisation. ``on_change`` is called when a key was revoked."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        recorder: Recorder,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._recorder = recorder
        self._on_change = on_change

    async def make(
        self,
        subject: Subject,
        name: str,
        permissions: Iterable[Permission],
        *,
        expires_at: datetime | None = None,
    ) -> MadeKey:
        """Raises InvalidInput; Forbidden for a permission that the subject does not have."""
        wanted = sorted(set(permissions))
        if not wanted:
            raise InvalidInput("A key without any permission is good for nothing.", remedy="Name some.")
        if missing := [permission for permission in wanted if not subject.may(permission)]:
            raise Forbidden(
                f"A key cannot be given {', '.join(missing)}: whoever makes it does not have it.",
                code="more-than-yours",
            )
        at_us = now_us(self._clock)
        expires_at_us = None if expires_at is None else microseconds(expires_at)
        if expires_at_us is not None and expires_at_us <= at_us:
            raise InvalidInput("The key would have expired already.", remedy="Choose a time to come.")
        secret = random_word(PREFIX)
        key = await self._database.write(
            _make,
            subject.organization_id,
            checked_name(name),
            secret,
            wanted,
            created_by=subject.called,
            at_us=at_us,
            expires_at_us=expires_at_us,
        )
        await self._tell(subject, key.id, f"made with {', '.join(wanted)}")
        return MadeKey(key, secret)

    async def list(self, subject: Subject) -> list[ApiKey]:
        return await self._database.read(_list, subject.organization_id)

    async def revoke(self, subject: Subject, key_id: int) -> None:
        """Raises NotFound, also for one that was revoked before."""
        if not await self._database.write(_revoke, subject.organization_id, key_id, now_us(self._clock)):
            raise NotFound("There is no such key.", code="no-such-key", remedy="The list of keys names them.")
        self._on_change()
        await self._tell(subject, key_id, "revoked")

    async def _tell(self, subject: Subject, key_id: int, what: str) -> None:
        self._recorder.record(
            event_of(
                subject,
                Action.PERMISSION_CHANGE,
                resource_kind="api-key",
                resource_id=str(key_id),
                details={"what": what},
            )
        )
        await self._recorder.settled()


def permissions_in(kept: str) -> tuple[Permission, ...]:
    """One that a later Isocenter does not know counts no longer."""
    known = {str(permission) for permission in Permission}
    return tuple(Permission(word) for word in orjson.loads(kept) if word in known)


def _key_of(row: Row) -> ApiKey:
    return ApiKey(
        row["id"],
        row["name"],
        row["prefix"],
        permissions_in(row["permissions"]),
        row["created_by"],
        row["created_at_us"],
        row["expires_at_us"],
        row["revoked_at_us"],
        row["last_used_at_us"],
    )


def _make(
    organization_id: int,
    name: str,
    secret: str,
    permissions: list[Permission],
    *,
    created_by: str,
    at_us: int,
    expires_at_us: int | None,
) -> Work[ApiKey]:
    rows = yield queries_sessions.PUT_KEY(
        id=new_id(),
        organization_id=organization_id,
        name=name,
        prefix=secret[:_SHOWN_CHARACTERS],
        secret_hash=hash_of(secret),
        permissions=orjson.dumps(permissions).decode(),
        created_by=created_by,
        now_us=at_us,
        expires_at_us=expires_at_us,
    )
    return _key_of(rows[0])


def _list(organization_id: int) -> Work[list[ApiKey]]:
    rows = yield queries_sessions.LIST_KEYS(organization_id=organization_id)
    return [_key_of(row) for row in rows]


def _revoke(organization_id: int, key_id: int, at_us: int) -> Work[bool]:
    rows = yield queries_sessions.REVOKE_KEY(organization_id=organization_id, key_id=key_id, now_us=at_us)
    return bool(rows)
