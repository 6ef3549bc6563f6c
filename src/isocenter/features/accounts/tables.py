"""Who somebody is: people, their logins, keys of programs, links that work once.

Of whatever a person or program has to show (password, refresh token, key, link, recovery code) only a hash is
kept. ``role``, ``state`` and ``purpose`` hold the words of :mod:`.entries`.
"""

from __future__ import annotations

import sqlalchemy as sa

from isocenter.platform.db.types import (
    BigInt,
    Flag,
    Text,
    count,
    instant,
    metadata,
    organization,
    primary_key,
    text,
)


def _account(*, nullable: bool = False) -> sa.Column[int]:
    return sa.Column("account_id", BigInt, sa.ForeignKey("account.id"), nullable=nullable)


account = sa.Table(
    "account",
    metadata,
    primary_key(),
    organization(),
    sa.Column("login", Text, nullable=False, unique=True),  # folded; one person, one organisation
    text("display_name"),
    sa.Column("role", Text, nullable=False),
    sa.Column("operator", Flag, nullable=False, server_default="0"),
    text("password_hash"),
    sa.Column("state", Text, nullable=False),
    count("version"),  # counts what ends access tokens before their time
    text("totp_secret"),  # encrypted
    sa.Column("totp_confirmed", Flag, nullable=False, server_default="0"),
    count("totp_step"),  # the last one used: none is accepted twice
    instant("created_at_us"),
    sa.Column("last_login_at_us", BigInt),
    sa.Column("password_changed_at_us", BigInt),
    sa.Index(None, "organization_id"),
)

login_session = sa.Table(
    "login_session",
    metadata,
    primary_key(),
    organization(),
    _account(),
    instant("created_at_us"),
    instant("expires_at_us"),
    sa.Column("revoked_at_us", BigInt),
    sa.Column("last_used_at_us", BigInt),
    sa.Column("proven_at_us", BigInt),  # when the person last showed, in this login, that it is they
    text("address"),
    text("user_agent"),
    sa.Index(None, "account_id"),
)

refresh_token = sa.Table(
    "refresh_token",
    metadata,
    primary_key(),
    organization(),
    sa.Column("session_id", BigInt, sa.ForeignKey("login_session.id"), nullable=False),
    sa.Column("token_hash", Text, nullable=False, unique=True),
    sa.Column("used_at_us", BigInt),  # kept after its use, so that a second use is recognised
    sa.Index(None, "session_id"),
)

api_key = sa.Table(
    "api_key",
    metadata,
    primary_key(),
    organization(),
    text("name"),
    text("prefix"),
    sa.Column("secret_hash", Text, nullable=False, unique=True),
    sa.Column("permissions", Text, nullable=False, server_default="[]"),
    text("created_by"),
    instant("created_at_us"),
    sa.Column("expires_at_us", BigInt),
    sa.Column("revoked_at_us", BigInt),
    sa.Column("last_used_at_us", BigInt),
    sa.Index(None, "organization_id"),
)

one_time_link = sa.Table(
    "one_time_link",
    metadata,
    primary_key(),
    organization(),
    _account(nullable=True),  # none for the first set-up
    sa.Column("purpose", Text, nullable=False),
    sa.Column("token_hash", Text, nullable=False, unique=True),
    instant("expires_at_us"),
    sa.Column("used_at_us", BigInt),
    sa.Index(None, "account_id"),
)

recovery_code = sa.Table(
    "recovery_code",
    metadata,
    primary_key(),
    organization(),
    _account(),
    sa.Column("code_hash", Text, nullable=False),
    sa.Column("used_at_us", BigInt),
    sa.Index(None, "account_id"),
)

passkey = sa.Table(
    "passkey",
    metadata,
    primary_key(),
    organization(),
    _account(),
    sa.Column("credential_id", Text, nullable=False, unique=True),  # base64url, as browsers write it
    sa.Column("public_key", Text, nullable=False),  # COSE, base64
    text("user_handle"),  # base64url
    count("sign_count"),
    sa.Column("transports", Text, nullable=False, server_default="[]"),
    text("name"),
    sa.Column("backup_eligible", Flag, nullable=False, server_default="0"),
    sa.Column("backed_up", Flag, nullable=False, server_default="0"),
    instant("created_at_us"),
    sa.Column("last_used_at_us", BigInt),
    sa.Column("revoked_at_us", BigInt),
    sa.Index(None, "account_id"),
)

used_challenge = sa.Table(
    "used_challenge",
    metadata,
    primary_key(),
    organization(),
    sa.Column("challenge_hash", Text, nullable=False, unique=True),
    instant("expires_at_us"),  # until then it would count again
    sa.Index(None, "organization_id"),
)

identity_provider = sa.Table(
    "identity_provider",
    metadata,
    primary_key(),
    organization(),
    sa.Column("name", Text, nullable=False),
    text("title"),
    sa.Column("issuer", Text, nullable=False),
    sa.Column("client_id", Text, nullable=False),
    text("client_secret"),  # encrypted
    sa.Column("enabled", Flag, nullable=False, server_default="1"),
    sa.Column("settings", Text, nullable=False, server_default="{}"),
    instant("created_at_us"),
    sa.UniqueConstraint("organization_id", "name"),
)

external_identity = sa.Table(
    "external_identity",
    metadata,
    primary_key(),
    organization(),
    _account(),
    sa.Column("issuer", Text, nullable=False),
    sa.Column("subject", Text, nullable=False),
    instant("created_at_us"),
    sa.Column("last_login_at_us", BigInt),
    sa.UniqueConstraint("organization_id", "issuer", "subject"),
    sa.Index(None, "account_id"),
)


def _provider() -> sa.Column[int]:
    return sa.Column("provider_id", BigInt, sa.ForeignKey("identity_provider.id"), nullable=False)


openid_login = sa.Table(
    "openid_login",
    metadata,
    primary_key(),
    organization(),
    _provider(),
    sa.Column("state_hash", Text, nullable=False, unique=True),
    sa.Column("browser_hash", Text, nullable=False),
    sa.Column("step", Text, nullable=False),
    text("return_to"),
    _account(nullable=True),  # who links an identity, was invited, or has to show a code
    count("session_id"),  # the login that began the linking; 0: none
    text("link_hash"),  # of the invitation
    instant("expires_at_us"),
    sa.Column("used_at_us", BigInt),
    sa.Index(None, "provider_id"),
)

openid_session = sa.Table(
    "openid_session",
    metadata,
    primary_key(),
    organization(),
    sa.Column(
        "session_id",
        BigInt,
        sa.ForeignKey("login_session.id", ondelete="CASCADE"),
        nullable=False,
        unique=True,
    ),
    _provider(),
    instant("ends_at_us"),  # however often it is refreshed
    sa.Index(None, "provider_id"),
)
