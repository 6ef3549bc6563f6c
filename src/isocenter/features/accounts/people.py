"""The people of an organisation, as its administrators manage them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from isocenter.features.accounts import queries, queries_passkeys, queries_sessions
from isocenter.features.accounts.entries import Account, AccountState, Link, Purpose, permissions_of
from isocenter.features.accounts.links import new_link, put_link
from isocenter.features.accounts.passwords import PasswordHashes, check_strength
from isocenter.features.accounts.rows import NoSuchAccount, account_of, found_account, put_account
from isocenter.features.accounts.words import checked_login, checked_name, folded_login
from isocenter.kit.clock import Clock, now_us
from isocenter.kit.errors import Conflict, Forbidden, InvalidInput
from isocenter.platform.db import Database, Work
from isocenter.platform.security import (
    Action,
    Permission,
    Recorder,
    Role,
    Subject,
    SubjectKind,
    event_of,
)

STATES_TO_CHOOSE = (AccountState.ACTIVE, AccountState.LOCKED, AccountState.DISABLED)


@dataclass(frozen=True, slots=True)
class Invited:
    account: Account
    link: Link


def state_of(word: str) -> AccountState:
    """Raises InvalidInput for what nobody chooses."""
    if word not in STATES_TO_CHOOSE:
        raise InvalidInput(
            f"{word[:40]!r} is no state to choose.", remedy=f"Choose {', '.join(STATES_TO_CHOOSE)}."
        )
    return AccountState(word)


class People:
    """Each method works in the subject's organisation: to it, another one's people do not exist.

    Nobody makes, changes or resets somebody who may do more than they themselves. ``on_change`` is called
    when what somebody may do has changed.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        hashes: PasswordHashes,
        recorder: Recorder,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._hashes = hashes
        self._recorder = recorder
        self._on_change = on_change

    async def list(self, subject: Subject, *, after: int = 0, limit: int = 1000) -> list[Account]:
        return await self._database.read(_list, subject.organization_id, after, limit)

    async def get(self, subject: Subject, account_id: int) -> Account:
        """Raises NotFound."""
        return await self._database.read(found_account, subject.organization_id, account_id)

    async def by_login(self, subject: Subject, login: str) -> Account:
        """Raises NotFound."""
        return await self._database.read(_by_login, subject.organization_id, folded_login(login))

    async def create(
        self, subject: Subject, login: str, name: str, role: Role, password: str, *, operator: bool = False
    ) -> Account:
        """With a password that whoever creates it hands over. Raises InvalidInput, Conflict, Forbidden."""
        login, name = checked_login(login), checked_name(name)
        check_grant(subject, permissions_of(role, operator=operator))
        check_strength(password, (login, name))
        hashed = await self._hashes.make(password)
        account = await self._database.write(
            put_account,
            subject.organization_id,
            login,
            name,
            role,
            password_hash=hashed,
            at_us=now_us(self._clock),
            operator=operator,
        )
        await self._tell(subject, account.id, f"made as {account.role}")
        return account

    async def invite(self, subject: Subject, login: str, name: str, role: Role) -> Invited:
        """The link lets them choose a password. Raises InvalidInput, Conflict, Forbidden."""
        check_grant(subject, permissions_of(role, operator=False))
        invited = await self._database.write(
            _invite,
            subject.organization_id,
            checked_login(login),
            checked_name(name),
            role,
            now_us(self._clock),
        )
        await self._tell(subject, invited.account.id, f"invited as {role}")
        return invited

    async def change(
        self,
        subject: Subject,
        account_id: int,
        *,
        role: Role | None = None,
        state: AccountState | None = None,
    ) -> Account:
        """Their access tokens end at once; with a state other than active all their logins do. Disabling
        revokes their passkeys for good; a second factor goes on being asked for.

        Raises NotFound, Forbidden, Conflict.
        """
        if role is not None:
            check_grant(subject, permissions_of(role, operator=False))
        account, revoked = await self._database.write(
            _change,
            subject.organization_id,
            subject,
            account_id,
            role=role,
            state=state,
            at_us=now_us(self._clock),
        )
        self._on_change()
        told = [f"role {role}"] if role is not None else []
        told += [f"state {state}"] if state is not None else []
        told += [f"{revoked} passkeys revoked"] if revoked else []
        await self._tell(subject, account_id, ", ".join(told))
        return account

    async def reset(self, subject: Subject, account_id: int) -> Link:
        """A link that lets them choose a new password; also for an invitation that went astray.

        Raises NotFound, Forbidden.
        """
        link = await self._database.write(
            _reset, subject.organization_id, subject, account_id, now_us(self._clock)
        )
        await self._tell(subject, account_id, "link for a new password")
        return link

    async def _tell(self, subject: Subject, account_id: int, what: str) -> None:
        self._recorder.record(
            event_of(
                subject,
                Action.PERMISSION_CHANGE,
                resource_kind="user",
                resource_id=str(account_id),
                details={"what": what},
            )
        )
        await self._recorder.settled()


def check_grant(subject: Subject, permissions: frozenset[Permission]) -> None:
    if not permissions <= subject.permissions:
        raise Forbidden(
            "Nobody manages somebody who may do more than they themselves.",
            code="more-than-yours",
            remedy="Ask an administrator, for an operator another operator.",
        )


def managed_account(organization_id: int, subject: Subject, account_id: int) -> Work[Account]:
    """One whom the subject may manage. Raises NotFound, Forbidden."""
    account = yield from found_account(organization_id, account_id)
    check_grant(subject, account.permissions)
    return account


def _list(organization_id: int, after: int, limit: int) -> Work[list[Account]]:
    rows = yield queries.LIST_ACCOUNTS(organization_id=organization_id, after=after, limit=limit)
    return [account_of(row) for row in rows]


def _by_login(organization_id: int, login: str) -> Work[Account]:
    rows = yield queries.FIND_ACCOUNT_IN_ORGANIZATION(organization_id=organization_id, login=login)
    if not rows:
        raise NoSuchAccount
    return (yield from found_account(organization_id, rows[0]["id"]))


def _invite(organization_id: int, login: str, name: str, role: Role, at_us: int) -> Work[Invited]:
    account = yield from put_account(organization_id, login, name, role, password_hash="", at_us=at_us)
    link = new_link(Purpose.INVITATION, at_us)
    yield from put_link(organization_id, account.id, Purpose.INVITATION, link)
    return Invited(account, link)


def _change(
    organization_id: int,
    subject: Subject,
    account_id: int,
    *,
    role: Role | None,
    state: AccountState | None,
    at_us: int,
) -> Work[tuple[Account, int]]:
    """As it is now, and how many passkeys that revoked."""
    revoked = 0
    account = yield from managed_account(organization_id, subject, account_id)
    if subject.kind is SubjectKind.USER and subject.id == str(account_id):
        raise Conflict(
            "Nobody changes their own role or state.",
            code="own-account",
            remedy="Ask another administrator: so there is always one left.",
        )
    if role is not None:
        yield queries.SET_ROLE(organization_id=organization_id, account_id=account_id, role=role)
    if state is not None:
        _check_state(account, state)
        yield queries.SET_STATE(organization_id=organization_id, account_id=account_id, state=state)
        if state is AccountState.DISABLED:
            rows = yield queries_passkeys.REVOKE_PASSKEYS(
                organization_id=organization_id, account_id=account_id, now_us=at_us
            )
            revoked = len(rows)
        if state is not AccountState.ACTIVE:
            yield queries_sessions.END_OTHER_SESSIONS(
                organization_id=organization_id, account_id=account_id, kept_session_id=0, now_us=at_us
            )
    return (yield from found_account(organization_id, account_id)), revoked


def _check_state(account: Account, state: AccountState) -> None:
    state_of(state)
    if account.state is AccountState.INVITED and state is AccountState.ACTIVE:
        raise Conflict(
            "This person has not accepted the invitation yet.", remedy="Send a new link: reset the password."
        )


def _reset(organization_id: int, subject: Subject, account_id: int, at_us: int) -> Work[Link]:
    account = yield from managed_account(organization_id, subject, account_id)
    purpose = Purpose.INVITATION if account.state is AccountState.INVITED else Purpose.RESET
    link = new_link(purpose, at_us)
    yield from put_link(organization_id, account_id, purpose, link)
    return link
