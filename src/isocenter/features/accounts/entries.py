"""What the use cases give out: organisations, accounts, sessions, keys."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from isocenter.platform.security import OPERATOR_PERMISSIONS, PERMISSIONS_OF_ROLE, Permission, Role


class AccountState(StrEnum):
    INVITED = "invited"  # has no password yet
    ACTIVE = "active"
    LOCKED = "locked"  # for now
    DISABLED = "disabled"


class Purpose(StrEnum):
    """What a one-time link is for."""

    SETUP = "setup"
    INVITATION = "invitation"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Organization:
    id: int
    slug: str
    name: str
    created_at_us: int


@dataclass(frozen=True, slots=True)
class Account:
    """``second_factor``: something more than the password is asked for. ``totp`` and ``passkeys`` (those that
    are not revoked) answer it."""

    id: int
    organization_id: int
    login: str
    display_name: str
    role: Role
    operator: bool
    state: AccountState
    second_factor: bool
    totp: bool
    passkeys: int
    created_at_us: int
    last_login_at_us: int | None

    @property
    def permissions(self) -> frozenset[Permission]:
        return permissions_of(self.role, operator=self.operator)


@dataclass(frozen=True, slots=True)
class Link:
    """``token`` is shown once, to whoever hands it on; only its hash is kept."""

    token: str
    expires_at_us: int


@dataclass(frozen=True, slots=True)
class LoginSession:
    id: int
    created_at_us: int
    expires_at_us: int
    last_used_at_us: int | None
    address: str
    user_agent: str


@dataclass(frozen=True, slots=True)
class Passkey:
    """``backed_up``: its authenticator keeps a copy elsewhere, so that losing the device does not lose it."""

    id: int
    name: str
    created_at_us: int
    last_used_at_us: int | None
    revoked_at_us: int | None
    backed_up: bool


@dataclass(frozen=True, slots=True)
class ApiKey:
    id: int
    name: str
    prefix: str
    permissions: tuple[Permission, ...]
    created_by: str
    created_at_us: int
    expires_at_us: int | None
    revoked_at_us: int | None
    last_used_at_us: int | None


def permissions_of(role: Role, *, operator: bool) -> frozenset[Permission]:
    return PERMISSIONS_OF_ROLE[role] | (OPERATOR_PERMISSIONS if operator else frozenset())
