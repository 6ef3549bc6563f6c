"""What the use cases of OpenID Connect give out."""

from __future__ import annotations

from dataclasses import dataclass, field

from isocenter.features.accounts.entries import Account
from isocenter.features.accounts.openid.settings import ProviderSettings
from isocenter.features.accounts.sessions import Tokens

CALLBACK = "/api/v1/auth/oidc/{address}/callback"


@dataclass(frozen=True, slots=True)
class Provider:
    """One organisation's identity provider. ``kept_secret`` is encrypted."""

    id: int
    organization_id: int
    organization_slug: str
    name: str
    title: str
    issuer: str
    client_id: str
    kept_secret: str = field(repr=False)
    enabled: bool
    settings: ProviderSettings
    created_at_us: int

    @property
    def address(self) -> str:
        """How routes name it: no two organisations' providers share one."""
        return f"{self.organization_slug}.{self.name}"

    def redirect_uri(self, public_url: str) -> str:
        """What has to be registered at the provider."""
        return public_url.rstrip("/") + CALLBACK.format(address=self.address)


@dataclass(frozen=True, slots=True)
class Identity:
    """A person at an issuer (``subject`` is its ``sub``), bound to an account."""

    id: int
    account_id: int
    issuer: str
    subject: str
    created_at_us: int
    last_login_at_us: int | None


@dataclass(frozen=True, slots=True)
class Begun:
    """``authorization_url`` is where the browser goes; ``browser_word`` it keeps in the cookie ``cookie``."""

    authorization_url: str
    cookie: str
    browser_word: str


@dataclass(frozen=True, slots=True)
class Finished:
    """How a login at a provider ended: with ``tokens``, with an identity linked to an account, or with our
    second factor (``accepts`` names what will do) still to be shown together with ``code_word``."""

    account: Account
    return_to: str
    tokens: Tokens | None = None
    code_word: str = ""
    accepts: tuple[str, ...] = ()
