"""Rows of the database as what the use cases give out, and the units of work that several of them share."""

from __future__ import annotations

from isocenter.features.accounts import queries
from isocenter.features.accounts.entries import Account, AccountState, Organization, Passkey
from isocenter.features.accounts.identifiers import new_id
from isocenter.kit.errors import Conflict, NotFound
from isocenter.platform.db import Row, Work
from isocenter.platform.security import Role


def organization_of(row: Row) -> Organization:
    return Organization(row["id"], row["slug"], row["name"], row["created_at_us"])


def account_of(row: Row) -> Account:
    return Account(
        row["id"],
        row["organization_id"],
        row["login"],
        row["display_name"],
        Role(row["role"]),
        bool(row["operator"]),
        AccountState(row["state"]),
        bool(row["totp_confirmed"] or row["passkeys"] or row["passkeys_revoked"]),
        bool(row["totp_confirmed"]),
        row["passkeys"],
        row["created_at_us"],
        row["last_login_at_us"],
    )


def passkey_of(row: Row) -> Passkey:
    return Passkey(
        row["id"],
        row["name"],
        row["created_at_us"],
        row["last_used_at_us"],
        row["revoked_at_us"],
        bool(row["backed_up"]),
    )


class NoSuchAccount(NotFound):
    """Also for another organisation's account, in the same words."""

    default_code = "no-such-user"

    def __init__(self) -> None:
        super().__init__("There is no such user.", remedy="The list of users names those there are.")


def found_account(organization_id: int, account_id: int) -> Work[Account]:
    rows = yield queries.FIND_ACCOUNT(organization_id=organization_id, account_id=account_id)
    if not rows:
        raise NoSuchAccount
    return account_of(rows[0])


def put_account(
    organization_id: int,
    login: str,
    name: str,
    role: Role,
    *,
    password_hash: str,
    at_us: int,
    operator: bool = False,
) -> Work[Account]:
    """Without a password the account waits for its invitation to be accepted. Raises Conflict."""
    rows = yield queries.PUT_ACCOUNT(
        id=new_id(),
        organization_id=organization_id,
        login=login,
        display_name=name,
        role=role,
        operator=int(operator),
        password_hash=password_hash,
        state=AccountState.ACTIVE if password_hash else AccountState.INVITED,
        now_us=at_us,
        password_changed_at_us=at_us if password_hash else None,
    )
    if not rows:
        raise Conflict(
            "This login name is taken.", code="login-taken", remedy="Choose another one, or log in with it."
        )
    return account_of(rows[0])
