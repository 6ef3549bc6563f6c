"""What the provider's claims say of a person, as far as it matters here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from isocenter.features.accounts.openid.settings import ProviderSettings
from isocenter.features.accounts.words import NAME_CHARACTERS_MAX, checked_name, folded_login
from isocenter.kit.errors import InvalidInput
from isocenter.platform.security import PERMISSIONS_OF_ROLE, Role

_VALUES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Person:
    """``login`` is empty where the claim makes none, ``role`` None where the claims give none. ``mapped``:
    the provider's claims decide about the role at every login."""

    issuer: str
    subject: str
    login: str
    name: str
    role: Role | None
    mapped: bool


def missing_claims(claims: Mapping[str, Any], settings: ProviderSettings) -> bool:
    """Whether the ID token leaves something out that the UserInfo endpoint may tell."""
    wanted = [settings.login_claim]
    wanted += [settings.role_claim] if settings.role_claim else []
    wanted += ["email"] if settings.email_domains else []
    wanted += ["email_verified"] if settings.email_verified else []
    return any(claim_in(claims, name) is None for name in wanted)


def claim_in(claims: Mapping[str, Any], name: str) -> Any:
    """The claim of that name, else the one that the dots lead to; None where there is none."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for step in name.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def refusal_of(claims: Mapping[str, Any], settings: ProviderSettings) -> str:
    """Why nobody with these claims is let in, for the audit trail; empty: they may be."""
    email = claims.get("email")
    if settings.email_verified and claims.get("email_verified") is not True:
        return "the e-mail address is not verified"
    if settings.email_domains:
        _, at, domain = email.rpartition("@") if isinstance(email, str) else ("", "", "")
        if not at or domain.lower() not in settings.email_domains:
            return "the e-mail address is of another domain"
    return ""


def person_of(issuer: str, claims: Mapping[str, Any], settings: ProviderSettings) -> Person:
    login, name = claim_in(claims, settings.login_claim), claims.get("name")
    return Person(
        issuer,
        claims["sub"],
        folded_login(login) if isinstance(login, str) else "",
        _name(name) if isinstance(name, str) else "",
        _role(claim_in(claims, settings.role_claim), settings),
        bool(settings.roles),
    )


def _role(found: Any, settings: ProviderSettings) -> Role | None:
    """Of several the one that may do most."""
    values = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    given = {
        Role(settings.roles[value])
        for value in values[:_VALUES_MAX]
        if isinstance(value, str) and value in settings.roles
    }
    if given:
        return max(given, key=lambda role: (len(PERMISSIONS_OF_ROLE[role]), role))
    return None if settings.default_role is None else Role(settings.default_role)


def _name(name: str) -> str:
    try:
        return checked_name(name[:NAME_CHARACTERS_MAX])
    except InvalidInput:
        return ""
