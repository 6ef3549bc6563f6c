"""Whom a verified identity lets in: its account, a new one, or nobody. Each unit of work is one transaction.

An identity is bound by issuer and subject. An e-mail address or a login name that is the same binds nothing:
whoever controls either at some provider would be let into somebody else's account.
"""

from __future__ import annotations

from dataclasses import dataclass

from isocenter.features.accounts import queries as account_queries
from isocenter.features.accounts import queries_sessions
from isocenter.features.accounts.entries import Account, AccountState, Purpose
from isocenter.features.accounts.identifiers import new_id
from isocenter.features.accounts.openid import queries
from isocenter.features.accounts.openid.errors import LoginExpired, OperatorsStayOut, PersonRefused
from isocenter.features.accounts.openid.people import Person
from isocenter.features.accounts.openid.transactions import Errand
from isocenter.features.accounts.rows import account_of, found_account
from isocenter.kit.errors import Conflict
from isocenter.platform.db import Work
from isocenter.platform.security import Role


@dataclass(frozen=True, slots=True)
class Admitted:
    """``version`` is the account's now; ``what`` happened to it is for the audit trail, empty: nothing."""

    account: Account
    version: int
    what: str


def admit(organization_id: int, person: Person, *, create: bool, at_us: int) -> Work[Admitted]:
    """Raises PersonRefused."""
    rows = yield queries.FIND_IDENTITY(
        organization_id=organization_id, issuer=person.issuer, subject=person.subject
    )
    if rows:
        known = yield from found_account(organization_id, rows[0]["account_id"])
        return (yield from _enter(organization_id, person, known, at_us=at_us, done=[]))
    if not create:
        raise PersonRefused("nobody is known by this identity")
    made = yield from _made(organization_id, person, at_us)
    if made is None:  # by somebody else a moment ago, perhaps by the same person in another tab
        rows = yield queries.FIND_IDENTITY(
            organization_id=organization_id, issuer=person.issuer, subject=person.subject
        )
        if not rows:
            raise PersonRefused("the login name is somebody else's")
        known = yield from found_account(organization_id, rows[0]["account_id"])
        return (yield from _enter(organization_id, person, known, at_us=at_us, done=[]))
    return (yield from _enter(organization_id, person, made, at_us=at_us, done=[f"made as {made.role}"]))


def accept_invitation(organization_id: int, person: Person, errand: Errand, *, at_us: int) -> Work[Admitted]:
    """The invitation's link is used up by it. Raises PersonRefused, LoginExpired, Conflict."""
    used = yield account_queries.USE_LINK(token_hash=errand.link_hash, now_us=at_us)
    if not used or (used[0]["organization_id"], used[0]["purpose"]) != (organization_id, Purpose.INVITATION):
        raise LoginExpired
    account = yield from found_account(organization_id, used[0]["account_id"])
    if account.state is not AccountState.INVITED:
        raise LoginExpired
    yield from bind(organization_id, person.issuer, person.subject, account, at_us=at_us)
    return (yield from _enter(organization_id, person, account, at_us=at_us, done=["identity bound"]))


def link(organization_id: int, person: Person, errand: Errand, *, at_us: int) -> Work[Account]:
    """To the account of whoever began while signed in, and still is.

    Raises LoginExpired, Conflict, Forbidden.
    """
    rows = yield queries_sessions.FIND_SESSION(organization_id=organization_id, session_id=errand.session_id)
    if not rows or rows[0]["revoked_at_us"] is not None or rows[0]["expires_at_us"] <= at_us:
        raise LoginExpired
    account = yield from found_account(organization_id, rows[0]["account_id"])
    if account.id != errand.account_id or account.state is not AccountState.ACTIVE:
        raise LoginExpired
    yield from bind(organization_id, person.issuer, person.subject, account, at_us=at_us)
    return account


def bind(organization_id: int, issuer: str, subject: str, account: Account, *, at_us: int) -> Work[None]:
    """Once more to the same account changes nothing. Raises Conflict for another's identity, Forbidden."""
    if account.operator:
        raise OperatorsStayOut
    rows = yield queries.PUT_IDENTITY(
        id=new_id(),
        organization_id=organization_id,
        account_id=account.id,
        issuer=issuer,
        subject=subject,
        now_us=at_us,
    )
    if not rows:
        bound = yield queries.FIND_IDENTITY(organization_id=organization_id, issuer=issuer, subject=subject)
        if not bound or bound[0]["account_id"] != account.id:
            raise Conflict(
                "This identity is bound to another account.",
                code="identity-taken",
                remedy="Unbind it there first.",
            )


def _made(organization_id: int, person: Person, at_us: int) -> Work[Account | None]:
    """None where the login name is taken."""
    if not person.login:
        raise PersonRefused("the provider's claims make no login name")
    if person.role is None:
        raise PersonRefused("the provider's claims give no role")
    rows = yield account_queries.PUT_ACCOUNT(
        id=new_id(),
        organization_id=organization_id,
        login=person.login,
        display_name=person.name,
        role=person.role,
        operator=0,
        password_hash="",
        state=AccountState.ACTIVE,
        now_us=at_us,
        password_changed_at_us=None,
    )
    if not rows:
        return None
    account = account_of(rows[0])
    yield from bind(organization_id, person.issuer, person.subject, account, at_us=at_us)
    return account


def _enter(
    organization_id: int, person: Person, account: Account, *, at_us: int, done: list[str]
) -> Work[Admitted]:
    """The account, with the role that the provider's claims give it now."""
    if account.operator:
        raise PersonRefused("operators do not come in by an organisation's identity provider")
    if account.state not in {AccountState.ACTIVE, AccountState.INVITED}:
        raise PersonRefused(f"the account is {account.state}")
    if person.mapped and person.role is None:
        raise PersonRefused("the provider's claims give no role")
    if account.state is AccountState.INVITED:  # an administrator bound the identity, or the invitation did
        yield account_queries.SET_STATE(
            organization_id=organization_id, account_id=account.id, state=AccountState.ACTIVE
        )
        yield account_queries.FORGET_LINKS(organization_id=organization_id, account_id=account.id)
    if person.mapped and person.role is not None and person.role is not account.role:
        yield account_queries.SET_ROLE(
            organization_id=organization_id, account_id=account.id, role=Role(person.role)
        )
        done.append(f"role {person.role}")
    yield queries.NOTE_IDENTITY_USED(
        organization_id=organization_id, issuer=person.issuer, subject=person.subject, now_us=at_us
    )
    rows = yield account_queries.FIND_ACCOUNT(organization_id=organization_id, account_id=account.id)
    return Admitted(account_of(rows[0]), rows[0]["version"], ", ".join(done))
