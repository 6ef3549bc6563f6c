"""How people come by an account and a password themselves: set-up, invitation, registration, reset."""

from __future__ import annotations

from collections.abc import Callable

from isocenter.features.accounts import queries, queries_sessions
from isocenter.features.accounts.attempts import Attempts
from isocenter.features.accounts.entries import Account, Link, Purpose
from isocenter.features.accounts.links import LinkUsedUp, found_link, new_link, put_link, use_link
from isocenter.features.accounts.organizations import Organizations
from isocenter.features.accounts.passwords import PasswordHashes, check_strength
from isocenter.features.accounts.rows import found_account, put_account
from isocenter.features.accounts.words import checked_login, checked_name
from isocenter.kit.clock import Clock, now_us
from isocenter.kit.errors import Forbidden, InvalidInput, NotFound
from isocenter.platform.db import Database, Work
from isocenter.platform.security import (
    Action,
    AuditEvent,
    EventOutcome,
    Recorder,
    Role,
    Subject,
    SubjectKind,
)

FIRST_ORGANIZATION = 1


class Joining:
    """``address`` is where somebody asks from. ``on_change`` is called when logins have ended."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        hashes: PasswordHashes,
        recorder: Recorder,
        organizations: Organizations,
        *,
        attempts: Attempts,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._hashes = hashes
        self._recorder = recorder
        self._organizations = organizations
        self._attempts = attempts
        self._on_change = on_change

    async def setup_link(self) -> Link | None:
        """A new one while nobody has an account; the one before works no longer. None afterwards."""
        return await self._database.write_across(_setup_link, now_us(self._clock))

    async def set_up(self, token: str, login: str, name: str, password: str, address: str) -> Account:
        """The first administrator, who is operator too. Raises Forbidden, InvalidInput, RateLimited."""
        await self._attempts.begin(address)
        login, name = checked_login(login), checked_name(name)
        await self._database.read_across(found_link, token, now_us(self._clock))
        check_strength(password, (login, name))
        hashed = await self._hashes.make(password)
        account = await self._database.write_across(_set_up, token, login, name, hashed, now_us(self._clock))
        await self._tell(account, Action.PERMISSION_CHANGE, address, "first administrator")
        return account

    async def accept(self, token: str, password: str, address: str) -> Account:
        """Choose a password by an invitation's or a reset's link; every earlier login ends.

        Raises Forbidden, RateLimited, InvalidInput (the link stays good when the password is too weak).
        """
        await self._attempts.begin(address)
        link = await self._database.read_across(found_link, token, now_us(self._clock))
        organization_id, account_id = link["organization_id"], link["account_id"]
        if account_id is None:
            raise LinkUsedUp
        account = await self._database.read(found_account, organization_id, account_id)
        check_strength(password, (account.login, account.display_name))
        hashed = await self._hashes.make(password)
        await self._database.write(_accept, organization_id, account_id, token, hashed, now_us(self._clock))
        self._on_change()
        await self._tell(account, Action.CHANGE, address, f"password chosen by {link['purpose']}")
        return await self._database.read(found_account, organization_id, account_id)

    async def register(self, slug: str, login: str, name: str, password: str, address: str) -> Account:
        """Where the organisation allows it. Raises Forbidden, InvalidInput, Conflict, RateLimited."""
        await self._attempts.begin(address)
        closed = Forbidden(
            "This organisation does not let people register.",
            code="registration-closed",
            remedy="Ask an administrator for an invitation.",
        )
        try:
            organization, settings = await self._organizations.by_slug(slug)
        except NotFound:
            raise closed from None
        if not settings.registration_open:
            raise closed
        login, name = checked_login(login), checked_name(name)
        check_strength(password, (login, name))
        hashed = await self._hashes.make(password)
        account = await self._database.write(
            put_account,
            organization.id,
            login,
            name,
            Role(settings.registration_role),
            password_hash=hashed,
            at_us=now_us(self._clock),
        )
        await self._tell(account, Action.PERMISSION_CHANGE, address, f"registered as {account.role}")
        return account

    async def change_password(self, subject: Subject, current: str, new: str) -> None:
        """The person's other logins end. Raises InvalidInput, RateLimited; NotFound for a program."""
        account_id = account_id_of(subject)
        counted = await self._attempts.begin(subject.address, subject.name)
        account, kept = await self._database.read(kept_hash, subject.organization_id, account_id)
        if not await self._hashes.fits(current, kept):
            await self._tell(
                account, Action.CHANGE, subject.address, "password change", outcome=EventOutcome.DENIED
            )
            raise InvalidInput("The current password is another one.", code="wrong-password")
        await self._attempts.forgive(counted)
        check_strength(new, (account.login, account.display_name))
        hashed = await self._hashes.make(new)
        await self._database.write(
            _set_password,
            subject.organization_id,
            account_id,
            hashed,
            int(subject.session_id or 0),
            now_us(self._clock),
        )
        self._on_change()
        await self._tell(account, Action.CHANGE, subject.address, "password change")

    async def _tell(
        self,
        account: Account,
        action: Action,
        address: str,
        what: str,
        *,
        outcome: EventOutcome = EventOutcome.SUCCESS,
    ) -> None:
        self._recorder.record(
            AuditEvent(
                account.organization_id,
                action,
                outcome,
                SubjectKind.USER,
                str(account.id),
                account.login,
                address,
                "user",
                str(account.id),
                {"what": what},
            )
        )
        await self._recorder.settled()


def account_id_of(subject: Subject) -> int:
    """Raises NotFound for a key, a program: only people have a password, logins, a second factor."""
    if subject.kind is not SubjectKind.USER:
        raise NotFound("Only a person has this.", code="no-person", remedy="Log in as one.")
    return int(subject.id)


def _setup_link(at_us: int) -> Work[Link | None]:
    if (yield queries.ANY_ACCOUNT()):
        return None
    link = new_link(Purpose.SETUP, at_us)
    yield from put_link(FIRST_ORGANIZATION, None, Purpose.SETUP, link)
    return link


def _set_up(token: str, login: str, name: str, hashed: str, at_us: int) -> Work[Account]:
    link = yield from use_link(FIRST_ORGANIZATION, token, at_us)
    if link["purpose"] != Purpose.SETUP or (yield queries.ANY_ACCOUNT()):
        raise LinkUsedUp
    return (
        yield from put_account(
            FIRST_ORGANIZATION, login, name, Role.ADMIN, password_hash=hashed, at_us=at_us, operator=True
        )
    )


def _accept(organization_id: int, account_id: int, token: str, hashed: str, at_us: int) -> Work[None]:
    yield from use_link(organization_id, token, at_us)
    yield from _set_password(organization_id, account_id, hashed, 0, at_us)


def kept_hash(organization_id: int, account_id: int) -> Work[tuple[Account, str]]:
    """The account and the hash of its password; empty where it has none. Raises NotFound."""
    account = yield from found_account(organization_id, account_id)
    rows = yield queries.FIND_ACCOUNT(organization_id=organization_id, account_id=account_id)
    return account, rows[0]["password_hash"]


def _set_password(
    organization_id: int, account_id: int, hashed: str, kept_session_id: int, at_us: int
) -> Work[None]:
    yield queries.SET_PASSWORD(
        organization_id=organization_id, account_id=account_id, password_hash=hashed, now_us=at_us
    )
    yield queries_sessions.END_OTHER_SESSIONS(
        organization_id=organization_id, account_id=account_id, kept_session_id=kept_session_id, now_us=at_us
    )
