"""Logins that last: a family of refresh tokens, of which the last one counts and each counts once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from isocenter.features.accounts import queries, queries_sessions
from isocenter.features.accounts.access_tokens import LIFETIME_S, AccessTokens
from isocenter.features.accounts.entries import AccountState, LoginSession
from isocenter.features.accounts.identifiers import new_id
from isocenter.features.accounts.joining import account_id_of
from isocenter.features.accounts.openid import queries as queries_openid
from isocenter.features.accounts.secret_words import hash_of, random_word
from isocenter.kit.clock import Clock, now_us
from isocenter.kit.errors import NotFound, Unauthenticated
from isocenter.platform.db import Database, Work
from isocenter.platform.security import (
    Action,
    AuditEvent,
    EventOutcome,
    Recorder,
    Role,
    Subject,
    SubjectKind,
    event_of,
)

REFRESH_S = 7 * 86_400
_KEPT_AFTER_S = 7 * 86_400  # so that a replay of an old token is still recognised as one
_USER_AGENT_CHARACTERS_MAX = 200
_S = 1_000_000


@dataclass(frozen=True, slots=True)
class Tokens:
    access_token: str
    expires_in_s: int
    refresh_token: str
    refresh_expires_in_s: int


@dataclass(frozen=True, slots=True)
class ByProvider:
    """Which identity provider let somebody in, and until when at most it is not asked again."""

    provider_id: int
    ends_at_us: int


class RefreshRefused(Unauthenticated):
    """Unknown, used, too old, ended, or its account is: one answer for all of these."""

    default_code = "refresh-token-not-valid"

    def __init__(self) -> None:
        super().__init__("This login is over.", remedy="Log in again.")


@dataclass(frozen=True, slots=True)
class _Refreshed:
    """``replayed``: somebody showed a token a second time, and the family has ended."""

    organization_id: int
    account_id: int
    session_id: int
    login: str
    role: Role
    version: int
    replayed: bool
    expires_at_us: int


class Sessions:
    """``on_change`` is called when a login has ended."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        access_tokens: AccessTokens,
        recorder: Recorder,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._access_tokens = access_tokens
        self._recorder = recorder
        self._on_change = on_change

    async def open(
        self,
        organization_id: int,
        account_id: int,
        role: Role,
        version: int,
        *,
        address: str,
        user_agent: str,
        by_provider: ByProvider | None = None,
    ) -> Tokens:
        refresh_token, at_us = random_word(), now_us(self._clock)
        session_id = await self._database.write(
            _open,
            organization_id,
            account_id,
            hash_of(refresh_token),
            at_us=at_us,
            address=address,
            user_agent=_printable(user_agent),
            by_provider=by_provider,
        )
        return self._tokens(
            organization_id,
            account_id,
            session_id,
            role=role,
            version=version,
            refresh_token=refresh_token,
            refresh_us=_expiry_us(at_us, by_provider.ends_at_us if by_provider else None) - at_us,
        )

    async def refresh(self, refresh_token: str, address: str) -> Tokens:
        """New tokens for old; the old one counts no longer. Raises RefreshRefused."""
        new, at_us = random_word(), now_us(self._clock)
        refreshed = await self._database.write_across(
            _refresh, hash_of(refresh_token), hash_of(new), at_us, address
        )
        if refreshed is None:
            raise RefreshRefused
        if refreshed.replayed:
            self._on_change()
            self._recorder.record(_replay(refreshed, address))
            await self._recorder.settled()
            raise RefreshRefused
        return self._tokens(
            refreshed.organization_id,
            refreshed.account_id,
            refreshed.session_id,
            role=refreshed.role,
            version=refreshed.version,
            refresh_token=new,
            refresh_us=refreshed.expires_at_us - at_us,
        )

    async def list(self, subject: Subject) -> list[LoginSession]:
        """The person's own. Raises NotFound for whoever is no person."""
        return await self._database.read(
            _list, subject.organization_id, account_id_of(subject), now_us(self._clock)
        )

    async def end(self, subject: Subject, session_id: int) -> None:
        """Raises NotFound, also for another person's."""
        ended = await self._database.write(
            _end, subject.organization_id, account_id_of(subject), session_id, now_us(self._clock)
        )
        if not ended:
            raise NotFound("There is no such login.", code="no-such-session")
        self._on_change()
        self._recorder.record(
            event_of(subject, Action.LOGOUT, resource_kind="session", resource_id=str(session_id))
        )
        await self._recorder.settled()

    async def end_of(self, subject: Subject, account_id: int) -> int:
        """End all logins of one of the organisation's people; how many that were."""
        ended = await self._database.write(_end_all, subject.organization_id, account_id, now_us(self._clock))
        self._on_change()
        self._recorder.record(
            event_of(
                subject,
                Action.LOGOUT,
                resource_kind="user",
                resource_id=str(account_id),
                details={"sessions": ended},
            )
        )
        await self._recorder.settled()
        return ended

    def _tokens(
        self,
        organization_id: int,
        account_id: int,
        session_id: int,
        *,
        role: Role,
        version: int,
        refresh_token: str,
        refresh_us: int,
    ) -> Tokens:
        access_token = self._access_tokens.make(account_id, organization_id, session_id, role, version)
        return Tokens(access_token, LIFETIME_S, refresh_token, refresh_us // _S)


def _expiry_us(at_us: int, ends_at_us: int | None) -> int:
    """``ends_at_us``: when it ends however often it is refreshed; None: never."""
    expires_at_us = at_us + REFRESH_S * _S
    return expires_at_us if ends_at_us is None else min(expires_at_us, ends_at_us)


def _printable(user_agent: str) -> str:
    return "".join(
        character for character in user_agent[:_USER_AGENT_CHARACTERS_MAX] if character.isprintable()
    )


def _replay(refreshed: _Refreshed, address: str) -> AuditEvent:
    return AuditEvent(
        refreshed.organization_id,
        Action.LOGIN,
        EventOutcome.DENIED,
        SubjectKind.USER,
        str(refreshed.account_id),
        refreshed.login,
        address,
        "session",
        str(refreshed.session_id),
        {"why": "refresh token replayed; the login was ended"},
    )


def _open(
    organization_id: int,
    account_id: int,
    token_hash: str,
    *,
    at_us: int,
    address: str,
    user_agent: str,
    by_provider: ByProvider | None,
) -> Work[int]:
    before_us = at_us - _KEPT_AFTER_S * _S
    yield queries_sessions.FORGET_ENDED_TOKENS(
        organization_id=organization_id, account_id=account_id, before_us=before_us
    )
    yield queries_sessions.FORGET_ENDED_SESSIONS(
        organization_id=organization_id, account_id=account_id, before_us=before_us
    )
    rows = yield queries_sessions.PUT_SESSION(
        id=new_id(),
        organization_id=organization_id,
        account_id=account_id,
        now_us=at_us,
        expires_at_us=_expiry_us(at_us, by_provider.ends_at_us if by_provider else None),
        address=address,
        user_agent=user_agent,
    )
    session_id: int = rows[0]["id"]
    if by_provider is not None:
        yield queries_openid.PUT_SESSION(
            organization_id=organization_id,
            session_id=session_id,
            provider_id=by_provider.provider_id,
            ends_at_us=by_provider.ends_at_us,
        )
    yield queries_sessions.PUT_REFRESH_TOKEN(
        organization_id=organization_id, session_id=session_id, token_hash=token_hash
    )
    yield queries.NOTE_LOGIN(organization_id=organization_id, account_id=account_id, now_us=at_us)
    return session_id


def _refresh(old_hash: str, new_hash: str, at_us: int, address: str) -> Work[_Refreshed | None]:
    rows = yield queries_sessions.FIND_REFRESH_TOKEN(token_hash=old_hash)
    if not rows:
        return None
    row = rows[0]
    organization_id, session_id = row["organization_id"], row["session_id"]
    if row["revoked_at_us"] is not None or row["expires_at_us"] <= at_us:
        return None
    expires_at_us = _expiry_us(at_us, row["ends_at_us"])
    used = yield queries_sessions.USE_REFRESH_TOKEN(
        organization_id=organization_id, token_hash=old_hash, now_us=at_us
    )
    if not used:
        yield queries_sessions.END_SESSION(
            organization_id=organization_id,
            account_id=row["account_id"],
            session_id=session_id,
            now_us=at_us,
        )
    elif row["state"] != AccountState.ACTIVE:
        return None
    else:
        yield queries_sessions.PUT_REFRESH_TOKEN(
            organization_id=organization_id, session_id=session_id, token_hash=new_hash
        )
        yield queries_sessions.PROLONG_SESSION(
            organization_id=organization_id,
            session_id=session_id,
            expires_at_us=expires_at_us,
            now_us=at_us,
            address=address,
        )
    return _Refreshed(
        organization_id,
        row["account_id"],
        session_id,
        row["login"],
        Role(row["role"]),
        row["version"],
        replayed=not used,
        expires_at_us=expires_at_us,
    )


def _list(organization_id: int, account_id: int, at_us: int) -> Work[list[LoginSession]]:
    rows = yield queries_sessions.LIST_SESSIONS(
        organization_id=organization_id, account_id=account_id, now_us=at_us
    )
    return [
        LoginSession(
            row["id"],
            row["created_at_us"],
            row["expires_at_us"],
            row["last_used_at_us"],
            row["address"],
            row["user_agent"],
        )
        for row in rows
    ]


def _end(organization_id: int, account_id: int, session_id: int, at_us: int) -> Work[bool]:
    rows = yield queries_sessions.END_SESSION(
        organization_id=organization_id, account_id=account_id, session_id=session_id, now_us=at_us
    )
    return bool(rows)


def _end_all(organization_id: int, account_id: int, at_us: int) -> Work[int]:
    rows = yield queries_sessions.END_OTHER_SESSIONS(
        organization_id=organization_id, account_id=account_id, kept_session_id=0, now_us=at_us
    )
    return len(rows)
